#!/bin/sh
# SPDX-License-Identifier: MIT
# format [--check]: our C files in the style of .clang-format; --check changes nothing and fails on a difference.
# Debian 12's clang-format (14) decides: other versions break lines elsewhere.
set -eu
. "$(dirname -- "$0")/need.sh"
need_command clang-format clang-format
need_install format
cd "$root"
how=-i
[ "${1:-}" = --check ] && how="--dry-run -Werror"
# shellcheck disable=SC2086 # a list of words
find src include tests examples bench \( -name '*.[ch]' -o -name '*.cpp' \) -print0 | xargs -0 clang-format --style=file $how
