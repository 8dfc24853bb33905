#!/bin/sh
# SPDX-License-Identifier: MIT
# Can our tests fail at all? Small test files with a known verdict, built with the small runner and (where it is)
# with Criterion, run through run_one.sh as CTest runs them. What Criterion 2.4.1 lets pass by itself is among them.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failures=0
count=0
# What a parent CTest says must not reach the runners tried here.
export CRITERION_JOBS=1 LEAT_TEST_SECONDS=2

verdict() { # RUNNER WANT NAME [ARGUMENT...]
    runner=$1 want=$2 name=$3
    shift 3
    count=$((count + 1))
    if "$LEAT_ROOT/tests/run_one.sh" "$dir/$runner-$name" "$@" >"$dir/out" 2>&1; then got=green; else got=red; fi
    if [ $got != "$want" ]; then
        cat "$dir/out"
        echo "$runner: $name $*: is $got, should be $want"
        failures=$((failures + 1))
    fi
}

write() { # NAME: its tests come from stdin
    { printf '#include <criterion/criterion.h>\n#include <unistd.h>\n#include <sys/wait.h>\n'; cat; } >"$dir/$1.c"
}

write good <<'EOF'
static int up;
static void init(void) { up = 1; }
static void fini(void) { up = 0; }
Test(good, with_all_asserts, .init = init, .fini = fini) {
    cr_assert(up);
    cr_assert(1, "message %d", 1);
    cr_assert_eq(1, 1);
    cr_assert_neq(1, 2, "message %s", "two");
    cr_assert_lt(1, 2);
    cr_assert_leq(2, 2);
    cr_assert_gt(2, 1);
    cr_assert_geq(2, 2);
    cr_assert_null(NULL);
    cr_assert_not_null("");
    cr_assert_str_eq("a", "a", "message %d", 3);
    cr_assert_str_neq("a", "b");
    cr_assert_arr_eq("ab", "ab", 2);
    cr_assert_float_eq(1.0, 1.001, 0.01);
    cr_log_info("said %d", 4);
}
Test(good, second) { cr_assert(1); }
Test(good, left_out, .disabled = true) { cr_assert_fail("not %s", "run"); }
EOF
i=0
for line in 'cr_assert(0);' 'cr_assert(0, "message %d", 1);' 'cr_assert_eq(1, 2);' 'cr_assert_neq(1, 1);' 'cr_assert_lt(1, 1);' \
    'cr_assert_leq(2, 1);' 'cr_assert_gt(1, 1);' 'cr_assert_geq(1, 2);' 'cr_assert_null("");' 'cr_assert_not_null(NULL);' \
    'cr_assert_str_eq("a", "b");' 'cr_assert_str_neq("a", "a");' 'cr_assert_arr_eq("ab", "ac", 2);' \
    'cr_assert_float_eq(1.0, 1.1, 0.01);' 'cr_assert_fail();' 'cr_assert_fail("message %d", 1);' 'abort();' '_exit(3);' \
    '*(volatile int *)0 = 1;' 'if (fork() == 0) abort(); int s; wait(&s); cr_assert(WIFEXITED(s));'; do
    i=$((i + 1))
    echo "Test(red, case_$i) { $line }"
done | write red
red=$(grep -c '^Test' "$dir/red.c")
echo 'static void init(void) { cr_assert(0); } Test(a, b, .init = init) { cr_assert(1); }' | write init
echo 'static void fini(void) { cr_assert(0); } Test(a, b, .fini = fini) { cr_assert(1); }' | write fini
echo 'static void fini(void) { abort(); } Test(a, b, .fini = fini) { cr_assert(1); }' | write fini_crash
echo 'static void fini(void) { _exit(0); } Test(a, b, .fini = fini) { cr_assert(1); }' | write fini_exit
echo 'int nothing; int nothing;' | write none
echo 'Test(a, b, .disabled = true) { cr_assert(1); }' | write disabled

try_all() { # RUNNER
    verdict "$1" green good
    verdict "$1" green good --filter 'good/second'
    verdict "$1" red good --filter 'nosuch/*'
    n=0
    while [ $n -lt "$red" ]; do
        n=$((n + 1))
        verdict "$1" red red --filter "red/case_$n"
    done
    for name in init fini fini_crash fini_exit none disabled; do verdict "$1" red $name; done
}

for file in "$dir"/*.c; do
    name=$(basename "$file" .c)
    "$CC" -std=c11 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Wno-unused-function -isystem "$LEAT_ROOT/tests/plain" "$file" \
        "$LEAT_ROOT/tests/plain/main.c" -o "$dir/plain-$name" -pthread
done
try_all plain
echo 'Test(a, b) { for (;;) pause(); }' | write endless
"$CC" -D_GNU_SOURCE -isystem "$LEAT_ROOT/tests/plain" "$dir/endless.c" "$LEAT_ROOT/tests/plain/main.c" -o "$dir/plain-endless" -pthread
verdict plain red endless
rm "$dir/endless.c"

if command -v pkg-config >/dev/null 2>&1 && pkg-config --exists criterion; then
    for file in "$dir"/*.c; do
        # shellcheck disable=SC2046 # words are wanted
        "$CC" -std=c11 -D_GNU_SOURCE "$file" -o "$dir/criterion-$(basename "$file" .c)" $(pkg-config --cflags --libs criterion)
    done
    try_all criterion
else
    echo "Criterion is not here: only the small runner was tried"
fi

# Sanitizer reports fail a run whatever its exit status and counts say.
for text in '==1==ERROR: AddressSanitizer: heap-buffer-overflow' '==1==ERROR: LeakSanitizer: detected memory leaks' \
    'WARNING: ThreadSanitizer: data race (pid=1)' 'x.c:1:2: runtime error: signed integer overflow'; do
    cat >"$dir/fake-report" <<EOF
#!/bin/sh
echo '$text'
echo '[====] Synthesis: Tested: 1 | Passing: 1 | Failing: 0 | Crashing: 0 '
EOF
    chmod +x "$dir/fake-report"
    verdict fake red report
    sed -i 2d "$dir/fake-report"
    verdict fake green report
done
[ "$failures" -eq 0 ]
echo "$count verdicts as expected"
