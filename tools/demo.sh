#!/bin/sh
# SPDX-License-Identifier: MIT
# demo [FILE]: the tour, on FILE or on what it finds. Without FILE this is `cmake --workflow --preset demo`.
set -eu
. "$(dirname -- "$0")/need.sh"

if [ $# -gt 1 ]; then
    echo "usage: ./dev demo [FILE]" >&2
    exit 2
fi
if [ $# -eq 1 ]; then
    case $1 in
    /*) file=$1 ;;
    *) file=$PWD/$1 ;;
    esac
    if [ ! -r "$file" ] || [ -d "$file" ]; then
        echo "dev demo: cannot read the file $1" >&2
        exit 2
    fi
fi
need_build
need_install demo
cd "$root"
if [ $# -eq 0 ]; then
    exec cmake --workflow --preset demo
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { cmake --preset release && cmake --build --preset release --target leat_example_tour; } >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
fi
build/release/examples/tour "$file"
