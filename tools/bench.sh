#!/bin/sh
# SPDX-License-Identifier: MIT
# bench [NAME...] [--quick] [--json] [--plot FILE.svg] [--dir DIR] [--runs N]: builds the release preset and measures
# leat beside its peers (bench/README.md). --list: what there is to measure. Exit 1: leat failed in one; 2: not
# understood.
set -eu
here=$PWD
. "$(dirname -- "$0")/need.sh"
programs="append send stream wake queue publish open scale bytes" # bench_*, in this order
peers="libzmq3-dev libnng-dev libsqlite3-dev librdkafka-dev libglib2.0-dev libconcurrentqueue-dev g++ redis-server
    libhiredis-dev beanstalkd"
policy=/usr/sbin/policy-rc.d

usage() {
    echo "usage: ./dev bench [NAME...] [--list] [--quick] [--json] [--plot FILE.svg] [--dir DIR] [--runs N]" >&2
    exit 2
}
full_path() { case $1 in /*) echo "$1" ;; *) echo "$here/$1" ;; esac; }

names="" options="" json="" list="" plot="" where=""
while [ $# -gt 0 ]; do
    case $1 in
    --quick) options="$options $1" ;;
    --json) options="$options $1" json=1 ;;
    --list) list=1 ;;
    --plot | --dir | --runs | --only | --work | --plant) # the last three are for work on it
        [ $# -ge 2 ] || usage
        case $1 in
        --plot) plot=$(full_path "$2") ;;
        --dir) where=$(full_path "$2") ;;
        *) options="$options $1 $2" ;;
        esac
        shift
        ;;
    -*) usage ;;
    *) names="$names $1" ;;
    esac
    shift
done
case $plot in
"" | *.svg) [ -z "$plot" ] || [ -d "$(dirname -- "$plot")" ] || { echo "dev bench: no folder for $plot" >&2; exit 2; } ;;
*) usage ;;
esac

temporary="" no_policy=""
clean() {
    [ -z "$temporary" ] || rm -rf -- "$temporary"
    # shellcheck disable=SC2086 # a list of words
    [ -z "$no_policy" ] || $as_root rm -f $policy
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

absent() { # PACKAGE...: those that are not installed
    for package in "$@"; do
        case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) in installed) ;; *) echo "$package" ;; esac
    done
}

install() { # PACKAGE...: all at once, or else each for itself
    # shellcheck disable=SC2086 # a list of words
    $as_root apt-get install -y -qq --no-install-recommends "$@" >/dev/null && return
    [ $# -gt 1 ] || return 0
    for package in "$@"; do install "$package"; done
}

# What can be had of the packages; never fails. A server that comes with one is not started.
try_packages() {
    command -v dpkg-query >/dev/null 2>&1 || return 0
    # shellcheck disable=SC2046 # words are wanted
    set -- $(absent "$@")
    [ $# -gt 0 ] || return 0
    if need_root; then
        echo "dev bench: installing $*" >&2
        export DEBIAN_FRONTEND=noninteractive
        if [ ! -e $policy ] && [ ! -L $policy ]; then
            no_policy=1
            printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null && $as_root chmod 755 $policy
        fi
        $as_root apt-get update -qq >/dev/null || :
        install "$@"
        [ -z "$no_policy" ] || $as_root rm -f $policy
        no_policy=""
        # shellcheck disable=SC2046
        set -- $(absent "$@")
    fi
    [ $# -eq 0 ] || echo "dev bench: goes on without $* (not installed)" >&2
}

need_build
need_install bench
# shellcheck disable=SC2086 # lists of words
[ -n "$list" ] || try_packages $peers
[ -z "$plot" ] || [ -n "$list" ] || try_packages python3-matplotlib

cd "$root"
mkdir -p build
temporary=$(mktemp -d "${where:-$root/build}/leat-bench-XXXXXX") || exit 2
log=$temporary/log
if ! { cmake --preset release && cmake --build --preset release --target leat_bench; } >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
fi
rm -f "$log"

# One line a bench: its program, its name, and what it measures.
table=$(for program in $programs; do
    [ ! -x "build/release/bench/bench_$program" ] || "build/release/bench/bench_$program" --list | sed "s/^/$program /"
done)
[ -n "$table" ]
if [ -n "$list" ]; then
    echo "$table" | sed 's/^[^ ]* //'
    exit
fi
known=" $(echo "$table" | awk '{ print $2 }' | tr '\n' ' ')"
for name in $names; do
    case $known in *" $name "*) continue ;; esac
    echo "dev bench: there is no bench '$name'. There are:" >&2
    echo "$table" | sed 's/^[^ ]* /  /' >&2
    exit 2
done

cd "$temporary" # short names for sockets, whatever the tree's is
bin=$root/build/release/bench
if [ -n "$json" ]; then "$bin/bench_machine" >&2; else "$bin/bench_machine" && echo; fi
failed=0
for program in $programs; do
    mine=$(echo "$table" | awk -v program="$program" -v wanted="$names " '
        $1 == program && (wanted == " " || index(wanted, " " $2 " ")) { print $2 }')
    [ -n "$mine" ] || continue
    status=0
    # shellcheck disable=SC2086 # lists of words
    "$bin/bench_$program" $mine $options ${plot:+--keep figures} || status=$?
    [ "$status" -ne 2 ] || exit 2
    [ "$status" -eq 0 ] || failed=1
done
if [ -s figures ]; then
    python=python3
    [ ! -x /usr/bin/python3 ] || python=/usr/bin/python3 # Debian's, which has Debian's matplotlib
    $python "$root/tools/bench_plot.py" figures "$plot" || failed=1
fi
exit $failed
