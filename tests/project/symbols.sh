#!/bin/sh
# SPDX-License-Identifier: MIT
# The shared library exports what the public headers declare and nothing else; no object file makes another name
# visible (the version script would hide it in the shared library, but not in the static one).
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failures=0
nm -D --defined-only "$LEAT_BUILD/src/libleat.so" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | LC_ALL=C sort -u >"$dir/exported"
cat "$LEAT_ROOT/include/leat.h" "$LEAT_ROOT/include/leat_test.h" |
    awk '/^LEAT_API/ { want = 1 }
         want && match($0, /leat_[a-z0-9_]+\(/) { print substr($0, RSTART, RLENGTH - 1); want = 0 }' | LC_ALL=C sort -u >"$dir/declared"
[ -s "$dir/exported" ] || { echo "libleat.so exports nothing"; failures=1; }
if ! diff "$dir/declared" "$dir/exported" >"$dir/difference"; then
    sed -n 's/^< \(.*\)/declared in a header, not in libleat.so: \1/p; s/^> \(.*\)/exported, not declared: \1/p' "$dir/difference"
    failures=1
fi
readelf -sW "$LEAT_BUILD/src/libleat.a" |
    awk '($5 == "GLOBAL" || $5 == "WEAK") && $6 == "DEFAULT" && $7 != "UND" && $8 !~ /^leat_/ { print "visible in libleat.a: " $8; bad = 1 }
         $5 == "GLOBAL" && $6 == "HIDDEN" && $7 != "UND" && $8 !~ /^(lt|leat)_/ { print "shared between files without lt_: " $8; bad = 1 }
         END { exit bad }' || failures=1
[ "$failures" -eq 0 ]
echo "$(wc -l <"$dir/exported") names exported, all declared"
