#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: output.sh PROGRAM FILE. What the program prints is what the file has.
set -eu
"$1" | diff "$2" - && exit 0
echo "(-: $2, +: what $1 printed)"
exit 1
