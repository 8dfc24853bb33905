#!/bin/sh
# SPDX-License-Identifier: MIT
# What examples/push_consumer.c prints is the same whatever its threads do.
set -eu
out=$("$1")
expected='amount/try of a: 10/1 11/1 12/1, b: 20/1 222/3, c: 30/1
dead letters: 1'
[ "$out" = "$expected" ] && exit 0
echo "push_consumer printed:"
echo "$out"
exit 1
