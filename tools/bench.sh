#!/bin/sh
# SPDX-License-Identifier: MIT
# bench [OPTION...]: builds the release preset and runs the programs of bench/ with these options.
set -eu
. "$(dirname -- "$0")/need.sh"
need_build
need_install bench
cd "$root"
cmake --preset release >/dev/null
cmake --build --preset release --target leat_bench >/dev/null
failures=0
for program in build/release/bench/bench_*; do
    [ ! -x "$program" ] || "$program" "$@" || failures=1
done
exit "$failures"
