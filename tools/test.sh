#!/bin/sh
# SPDX-License-Identifier: MIT
# test: `cmake --workflow --preset test`: the release build and every test.
set -eu
. "$(dirname -- "$0")/need.sh"
need_build
need_command c++ g++ # the headers are also compiled as C++
need_install test
cd "$root"
exec cmake --workflow --preset test
