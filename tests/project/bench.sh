#!/bin/sh
# SPDX-License-Identifier: MIT
# Can the benchmark be believed? Its lines are JSON of one form, a peer that is missing is said, and a message that
# is lost or torn on its way to leat's receiver is an error exit.
set -eu
bench=$LEAT_BUILD/bench
if [ ! -x "$bench/bench_stream" ] || [ ! -x "$bench/bench_check" ]; then
    echo "bench/ is not built here"
    exit 77
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failures=0
count=0

try() { # STATUS PROGRAM ARGUMENT...: leaves out and err
    count=$((count + 1))
    want=$1 program=$2 got=0
    shift 2
    "$bench/bench_$program" "$@" >"$dir/out" 2>"$dir/err" || got=$?
    [ "$got" -eq "$want" ] || bad "$program $*: exit status $got, should be $want"
}
bad() {
    cat "$dir/out" "$dir/err"
    echo "$1"
    failures=$((failures + 1))
}
said() { grep -q -- "$2" "$dir/$1" || bad "not said: $2"; }
not_said() { ! grep -q -- "$2" "$dir/$1" || bad "said: $2"; }

try 0 check
try 0 stream stream-1p1c --quick --runs 1 --json --work 3000 --dir "$dir" --keep "$dir/kept"
[ "$(wc -l <"$dir/out")" -eq 1 ] || bad "not one line"
cmp -s "$dir/out" "$dir/kept" || bad "--keep has other lines than --json"
said out '^{"bench":"stream-1p1c","unit":"op/s","better":"higher","leat":[0-9.e+]*,"peers":{"spsc-ring":.*}}$'
for peer in mutex-ring moodycamel moodycamel-bulk gasyncqueue zeromq nng; do
    grep -q "\"$peer\":" "$dir/out" || said err "^stream-1p1c: $peer: left out: ."
done
[ -z "$(find "$dir" -name 'leat-bench-*')" ] || bad "a run left its directory"
if command -v python3 >/dev/null 2>&1; then
    while read -r line; do
        echo "$line" | python3 -m json.tool >/dev/null || bad "not JSON: $line"
        keys=$(echo "$line" | python3 -c 'import json, sys; print(*json.load(sys.stdin))')
        [ "$keys" = "bench unit better leat peers" ] || bad "other keys: $keys"
    done <"$dir/out"
else
    echo "no python3 here: JSON only looked at"
fi

try 0 stream --list
said out '^stream-1p1c  *[a-z]'
not_said out op/s
for plant in lost torn; do
    try 1 stream --runs 1 --work 300 --dir "$dir" --plant $plant
    if [ $plant = lost ]; then why="299 messages of 300 arrived"; else why="300 messages .* not as they were sent"; fi
    said out "^stream-1p1c: leat: left out: $why"
    said out "^stream-3groups: leat: left out: $why"
    said out "^  spsc-ring" # a peer has no part in it
    not_said out "^  leat"
    try 1 stream stream-3groups --runs 1 --work 300 --dir "$dir" --plant $plant --json
    [ ! -s "$dir/out" ] || bad "a figure of a run that failed"
done
# Whatever moves messages finds a lost one.
for program in append send stream wake queue publish scale bytes; do
    [ -x "$bench/bench_$program" ] || continue
    for name in $("$bench/bench_$program" --list | sed 's/ .*//'); do
        try 1 "$program" "$name" --only leat --runs 1 --work 1000 --dir "$dir" --plant lost
        said out "^$name: leat: left out: .* messages .* arrived"
    done
done
try 1 open open-1g --only leat --runs 1 --work 1000 --dir "$dir" --plant lost
said out '^open-1g: leat: left out: 999 messages of 1000 arrived'
try 0 stream --only spsc-ring --runs 1 --work 300 --dir "$dir"
not_said out "^  leat"
for wrong in nosuch stream --nosuch --work '--work 0' '--work x' '--work 1x' '--work -1' '--runs 0' '--runs 52' \
    '--plant nosuch' --keep "--keep $dir/nosuch/x" '--work 99999999999999999999999'; do
    # shellcheck disable=SC2086 # words are wanted
    try 2 stream $wrong
    said err usage
    [ ! -s "$dir/out" ] || bad "$wrong: something ran"
done
try 1 stream stream-3groups --runs 1 --work 300 --dir "$dir/nosuch"
try 0 machine --dir "$dir"
said out '^cpu  *.* cores$'
said out '^its sync  [0-9]* us p50, [0-9]* us p99, [0-9]* us max'
try 1 machine --dir "$dir/nosuch"
[ "$failures" -eq 0 ]
echo "$count runs as expected"
