#!/bin/sh
# SPDX-License-Identifier: MIT
# The tour: on the LICENSE, and on the files that are hard to read. It checks its own counts against the file; this
# looks at the exit status and at the last line.
set -eu
tour=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
try() { # NAME FILE LINES SKIPPED
    "$tour" "$2" >"$dir/out" 2>&1 || { cat "$dir/out"; echo "tour on $1: exit status not 0"; exit 1; }
    last=$(tail -n 1 "$dir/out")
    echo "$1: $last"
    case $last in
    "tour: lines=$3 skipped=$4 stream=$3 queue_acked="*" queue_dead="*" channel="*" ok") ;;
    *) echo "tour on $1: expected lines=$3 skipped=$4 stream=$3 ... ok"; exit 1 ;;
    esac
    acked=$(echo "$last" | sed 's/.*queue_acked=\([0-9]*\).*/\1/')
    dead=$(echo "$last" | sed 's/.*queue_dead=\([0-9]*\).*/\1/')
    [ $((acked + dead)) -eq "$3" ] || { echo "tour on $1: acked + dead is not lines"; exit 1; }
}
try LICENSE "$LEAT_ROOT/LICENSE" "$(wc -l <"$LEAT_ROOT/LICENSE" | tr -d ' ')" 0
: >"$dir/empty"
try empty "$dir/empty" 0 0
printf 'no newline at the end' >"$dir/unended"
try unended "$dir/unended" 1 0
printf '\n\n  \nx\n\n' >"$dir/blank"
try blank "$dir/blank" 5 0
head -c 300000 /dev/urandom >"$dir/bytes"
newlines=$(tr -dc '\n' <"$dir/bytes" | wc -c)
[ "$(tail -c 1 "$dir/bytes" | tr -dc '\n' | wc -c)" -eq 1 ] || newlines=$((newlines + 1))
try "bytes that are not text" "$dir/bytes" "$newlines" 0
{ echo before; head -c 20000000 /dev/zero | tr '\0' 'x'; echo; echo after; } >"$dir/long"
try "a 20 MB line" "$dir/long" 2 1
awk 'BEGIN { for (i = 0; i < 1000000; i++) print "key-" i % 1000, "line", i }' >"$dir/million"
try "a million lines" "$dir/million" 1000000 0
