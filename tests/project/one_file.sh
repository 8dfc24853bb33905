#!/bin/sh
# SPDX-License-Identifier: MIT
# All of src compiles as one file, in the order of src/CMakeLists.txt: every static name and macro is unique.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
while read -r file; do
    echo "#include \"$LEAT_ROOT/src/$file\""
done <"$LEAT_BUILD/sources.txt" >"$dir/leat_all.c"
[ -s "$dir/leat_all.c" ]
"$CC" -std=c11 -D_GNU_SOURCE -O1 -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wformat=2 -Wvla \
    -Wcast-align -Wstrict-prototypes -Wmissing-prototypes -Werror -I"$LEAT_ROOT/include" -I"$LEAT_ROOT/src" \
    -c "$dir/leat_all.c" -o "$dir/leat_all.o"
echo "$(wc -l <"$dir/leat_all.c") sources compiled as one"
