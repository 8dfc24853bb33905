#!/bin/sh
# SPDX-License-Identifier: MIT
# What examples/survives.c prints is the table that the documentation promises.
set -eu
out=$("$1")
expected='a record with   kill -9      power cut
LEAT_ACKS_LOG   survives     may be lost
LEAT_ACKS_DISK  survives     survives'
[ "$out" = "$expected" ] && exit 0
echo "survives printed:"
echo "$out"
exit 1
