#!/bin/sh
# SPDX-License-Identifier: MIT
# The law of sizes: no file in src, tests and bench over 700 lines, no function over 70 (from its first line to its
# closing brace), no folder's README in src over 120, no example over 60 but the tour.
set -eu
cd "$LEAT_ROOT"
failures=0
find src tests bench \( -name '*.[ch]' -o -name '*.cpp' \) | LC_ALL=C sort | xargs awk '
    FNR == 1 { start = 0 }
    FNR == 701 { print FILENAME ": over 700 lines"; bad = 1 }
    /^[A-Za-z_]/ { if (!open) start = FNR }
    /[{]$/ && start { open = 1 }
    /;$/ && !open { start = 0 }
    /^}/ {
        if (open && start && $0 == "}") {
            functions++
            if (FNR - start + 1 > 70) { printf "%s:%d: a function of %d lines\n", FILENAME, start, FNR - start + 1; bad = 1 }
        }
        start = 0; open = 0
    }
    END {
        if (!functions) { print "no function was measured"; bad = 1 }
        print functions " functions measured"
        exit bad
    }' || failures=1
for file in src/README.md src/*/README.md; do
    [ ! -f "$file" ] || [ "$(wc -l <"$file")" -le 120 ] || { echo "$file: over 120 lines"; failures=1; }
done
for file in examples/*.c; do
    case $file in *'*'* | examples/tour.c | examples/three_ways.c) continue ;; esac # one does more, one does all
    [ "$(wc -l <"$file")" -le 60 ] || { echo "$file: over 60 lines"; failures=1; }
done
[ "$failures" -eq 0 ]
