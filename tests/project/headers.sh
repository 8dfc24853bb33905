#!/bin/sh
# SPDX-License-Identifier: MIT
# Each public header compiles alone, as C11 and as C++11 (and later), pedantically.
set -eu
cd "$LEAT_ROOT"
for header in include/leat.h include/leat_test.h; do
    "$CC" -std=c11 -pedantic -Wall -Wextra -Wconversion -Wsign-conversion -Wshadow -Wundef -Wstrict-prototypes \
        -Werror -Iinclude -fsyntax-only -x c "$header"
    echo "$header: C11"
    if ! command -v c++ >/dev/null 2>&1; then
        echo "no C++ compiler here (g++): not tried as C++"
        exit 77
    fi
    for std in c++11 c++17 c++20; do
        c++ -std=$std -pedantic -Wall -Wextra -Wconversion -Wundef -Werror -Iinclude -fsyntax-only -x c++ "$header"
        echo "$header: $std"
    done
done
