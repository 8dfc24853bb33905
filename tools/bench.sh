#!/bin/sh
# SPDX-License-Identifier: MIT
# bench [DIRECTORY]: builds the release preset and runs the timing programs of bench/.
set -eu
. "$(dirname -- "$0")/need.sh"
need_build
need_install bench
cd "$root"
cmake --preset release >/dev/null
cmake --build --preset release --target leat_bench_bench_send leat_bench_bench_log >/dev/null
build/release/bench/bench_send "$@"
exec build/release/bench/bench_log "$@"
