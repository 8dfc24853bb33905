#!/bin/sh
# SPDX-License-Identifier: MIT
# Nothing lies about unbuilt: every source, test, example and bench program is in its CMakeLists.txt.
set -eu
cd "$LEAT_ROOT"
failures=0
count=0
listed() { # FILE WORD LIST
    count=$((count + 1))
    if ! grep -v '^[[:space:]]*#' "$3" | grep -E "(^|[[:space:](/])$(echo "$2" | sed 's/[.]/\\./g')([[:space:])]|\$)" >/dev/null; then
        echo "$1 is not listed in $3 (as $2)"
        failures=$((failures + 1))
    fi
}
for file in $(find src -name '*.c'); do listed "$file" "${file#src/}" src/CMakeLists.txt; done
for file in $(find tests -name '*.c' -not -path 'tests/plain/*'); do listed "$file" "${file#tests/}" tests/CMakeLists.txt; done
for folder in examples bench; do
    for file in $(find $folder -name '*.c' -o -name '*.cpp'); do
        name=${file#"$folder"/}
        name=${name#peers/}
        case $name in
        unit_test.c | harness.c | server.c | *.cpp) listed "$file" "$name" $folder/CMakeLists.txt ;;
        *) listed "$file" "${name%.c}" $folder/CMakeLists.txt ;;
        esac
    done
done
for file in $(find tests/project -name '*.sh'); do
    listed "$file" "$(basename "$file")" tests/project/CMakeLists.txt
done
[ "$count" -gt 0 ]
[ "$failures" -eq 0 ]
echo "$count files, all listed"
