#!/bin/sh
# SPDX-License-Identifier: MIT
# Every fenced block of README.md is built, run and compared.
exec sh "$LEAT_ROOT/tools/readme_check.sh" "$LEAT_ROOT/README.md"
