#!/bin/sh
# SPDX-License-Identifier: MIT
# run_one.sh [--program] COMMAND [ARGUMENT...]: runs one test program for CTest and says whether to believe it.
# Green needs all of: exit status 0; (unless --program) exactly one Synthesis line with at least one test, all of them
# passing; no sanitizer report from it or its children; no failed assertion and no runner's warning that the counts
# left out. Criterion 2.4.1 forgets the last two when a teardown fails, and exits 0 when a filter matches nothing.
# 77 is handed on (CTest shows it as skipped).
program=no
if [ "$1" = --program ]; then
    program=yes
    shift
fi
log=$(mktemp "${TMPDIR:-/tmp}/leat-run.XXXXXX") || exit 1
trap 'rm -f "$log"' EXIT
trap 'exit 1' HUP INT TERM

"$@" >"$log" 2>&1
rc=$?
cat "$log"
[ "$rc" -eq 77 ] && exit 77

bad() {
    echo "run_one: FAILED: $1"
    exit 1
}
if grep -aE '(Address|Leak|Thread|Memory|UndefinedBehavior)Sanitizer|runtime error:' "$log" >/dev/null; then
    bad "a sanitizer reported (exit status $rc)"
fi
[ "$rc" -eq 0 ] || bad "exit status $rc"
if [ "$program" = no ]; then
    grep -a '^\[----\].*Assertion [Ff]ailed' "$log" >/dev/null && bad "an assertion failed that the runner did not count"
    grep -a '^\[----\] Warning!' "$log" >/dev/null && bad "the runner warned"
    [ "$(grep -ac 'Synthesis: Tested:' "$log")" -eq 1 ] || bad "not exactly one Synthesis line"
    sed -n 's/.*Synthesis: Tested: \([0-9]*\) | Passing: \([0-9]*\) | Failing: \([0-9]*\) | Crashing: \([0-9]*\).*/\1 \2 \3 \4/p' \
        "$log" | {
        read -r tested passing failing crashing || bad "the Synthesis line cannot be read"
        [ "$tested" -gt 0 ] || bad "no test was run"
        [ "$passing" -eq "$tested" ] && [ "$failing" -eq 0 ] && [ "$crashing" -eq 0 ] || bad "tests failed"
    } || exit 1
fi
exit 0
