#!/bin/sh
# SPDX-License-Identifier: MIT
# What would make a test pass without holding anything, where no runner can see it:
# exit() inside a test or its child (Criterion counts exit(0) as passing: a child ends with _exit), sleeps, an
# assertion in a teardown (Criterion 2.4.1 does not count it), .timeout (it deadlocks there).
set -eu
cd "$LEAT_ROOT"
find tests -name '*.c' -not -path 'tests/plain/*' | LC_ALL=C sort | xargs awk '
    function bad(why) { printf "%s:%d: %s: %s\n", FILENAME, FNR, $0, why; failures++ }
    FNR == 1 { runner = 0; inside = "" }
    /^#include <criterion/ { runner = 1 }
    { text = $0; sub(/\/\/.*/, "", text); gsub(/"([^"\\]|\\.)*"/, "\"\"", text) }
    runner && text ~ /(^|[^_A-Za-z0-9])exit\(/ { bad("exit() in a test: return, or _exit() in a child") }
    text ~ /(^|[^_A-Za-z0-9])(sleep|usleep|nanosleep|clock_nanosleep)\(/ { bad("a sleep in a test") }
    text ~ /\.timeout *=/ { bad("use TIMEOUT of leat_test()") }
    /^[A-Za-z_].*[({]$|^[A-Za-z_].*\{/ && match(text, /[A-Za-z_0-9]+\(/) { inside = substr(text, RSTART, RLENGTH - 1) }
    /^}/ { inside = "" }
    inside != "" && text ~ /cr_(assert|fail)/ { asserting[FILENAME, inside] = FNR }
    match(text, /\.fini *= *[A-Za-z_0-9]+/) { name = substr(text, RSTART, RLENGTH); sub(/.*[= ]/, "", name); used[FILENAME, name] = FNR }
    END {
        for (key in used) if (key in asserting) {
            split(key, part, SUBSEP)
            printf "%s:%d: an assertion in the teardown %s: make it the last line of the test\n", part[1], asserting[key], part[2]
            failures++
        }
        exit failures > 0
    }'
echo "nothing found"
