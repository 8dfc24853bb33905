#!/bin/sh
# SPDX-License-Identifier: MIT
# bench [ARGUMENT...]: builds the release preset and runs bench/bench_send.
set -eu
. "$(dirname -- "$0")/need.sh"
need_build
need_install bench
cd "$root"
cmake --preset release >/dev/null
cmake --build --preset release --target leat_bench_bench_send >/dev/null
exec build/release/bench/bench_send "$@"
