#!/bin/sh
# SPDX-License-Identifier: MIT
# The shared library exports what the public headers declare and nothing else; nor does any object file make another name
# visible. Compiled as one file the library hides the others by itself, single files (other compilers, debug) do not: they
# are in libleat_inside.a.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failures=0
nm -D --defined-only "$LEAT_BUILD/src/libleat.so" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | LC_ALL=C sort -u >"$dir/exported"
cat "$LEAT_ROOT/include/leat.h" "$LEAT_ROOT/include/leat_test.h" |
    awk '/^LEAT_API/ { want = 1 }
         want && match($0, /leat_[a-z0-9_]+\(/) { print substr($0, RSTART, RLENGTH - 1); want = 0 }' | LC_ALL=C sort -u >"$dir/declared"
readelf -sW "$LEAT_BUILD/src/libleat_inside.a" >"$dir/objects"
awk '($5 == "GLOBAL" || $5 == "WEAK") && $6 == "DEFAULT" && $7 != "UND" && $8 ~ /^leat_/ { print $8 }' "$dir/objects" |
    LC_ALL=C sort -u >"$dir/visible"
for names in exported visible; do
    [ -s "$dir/$names" ] || { echo "no name is $names"; failures=1; }
    if ! diff "$dir/declared" "$dir/$names" >"$dir/difference"; then
        sed -n "s/^< \(.*\)/declared in a header, not $names: \1/p; s/^> \(.*\)/$names, not declared: \1/p" "$dir/difference"
        failures=1
    fi
done
awk '($5 == "GLOBAL" || $5 == "WEAK") && $6 == "DEFAULT" && $7 != "UND" && $8 !~ /^leat_/ { print "visible in an object: " $8; bad = 1 }
     $5 == "GLOBAL" && $6 == "HIDDEN" && $7 != "UND" && $8 !~ /^(lt|leat)_/ { print "shared between files without lt_: " $8; bad = 1 }
     END { exit bad }' "$dir/objects" || failures=1
[ "$failures" -eq 0 ]
echo "$(wc -l <"$dir/exported") names exported, all declared"
