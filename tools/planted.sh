#!/bin/sh
# SPDX-License-Identifier: MIT
# planted [NAME...]: can check turn red? Plants one defect after another in a copy of the tree and runs the stage at
# stake on it: that stage must fail, and its log must say why. First, the same without a defect must be green.
set -eu
. "$(dirname -- "$0")/need.sh"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
tree=$dir/tree
wanted=$*
mkdir "$tree" "$dir/clean"
(cd "$root" && tar cf - --exclude=./build --exclude=./.git .) | (cd "$tree" && tar xf -)
changed="README.md src/CMakeLists.txt tests/CMakeLists.txt include/leat_test.h"
for file in $changed; do
    mkdir -p "$dir/clean/$(dirname "$file")"
    cp "$tree/$file" "$dir/clean/$file"
done
cd "$tree"
wrong=0
count=0

clean() {
    rm -f src/base/planted.c src/base/planted.h src/queue/planted.h tests/base/test_planted.c tests/base/test_unlisted.c
    for file in $changed; do
        cmp -s "$dir/clean/$file" "$file" || cp "$dir/clean/$file" "$file"
    done
}

# The carrier: a source of base, its header and its test, listed as any other; extra arguments go to leat_test().
carrier() { # SOURCE-BODY TEST-BODY [LEAT_TEST-WORD...]
    cat >src/base/planted.h <<'EOF'
/* SPDX-License-Identifier: MIT */
#ifndef LT_PLANTED_H
#define LT_PLANTED_H
int lt_planted(int n);
#endif
EOF
    {
        printf '/* SPDX-License-Identifier: MIT */\n#include <pthread.h>\n#include <stdlib.h>\n'
        printf '#include "base/planted.h"\n%s\n' "$1"
    } >src/base/planted.c
    {
        printf '/* SPDX-License-Identifier: MIT */\n#include <criterion/criterion.h>\n#include "base/planted.h"\n'
        printf '%s\n' "$2"
    } >tests/base/test_planted.c
    shift 2
    sed -i 's,^set(LEAT_SOURCES$,&\n    base/planted.c,' src/CMakeLists.txt
    echo "leat_test(planted SOURCES base/test_planted.c INTERNAL $*)" >>tests/CMakeLists.txt
}
good='
int lt_planted(int n) {
    return n;
}'
call='
Test(planted, one) {
    cr_assert_eq(lt_planted(1), 1);
}'

# expect NAME STAGE TESTS RESULT TEXT: runs STAGE (only TESTS); it must end with RESULT and its log must have TEXT.
expect() {
    name=$1 stage=$2 tests=$3 result=$4 text=$5
    if [ -n "$wanted" ]; then
        case " $wanted " in *" $name "*) ;; *) clean; return 0 ;; esac
    fi
    count=$((count + 1))
    targets=leat_planted
    [ "$stage" != project ] || targets="leat_static leat_shared leat_inside"
    if LEAT_CHECK_ONLY=$tests LEAT_CHECK_TARGETS=$targets sh tools/check.sh "$stage" >"$dir/out" 2>&1; then got=green; else got=red; fi
    say="as it must"
    if [ $got != "$result" ]; then
        say="WRONG: must be $result"
    elif [ -n "$text" ] && ! grep -aE "$text" "build/check/$stage.log" >/dev/null; then
        say="WRONG: for another reason than '$text'"
    fi
    printf '%-26s %-8s %-18s %-5s  %s\n' "$name" "$stage" "$tests" $got "$say"
    if [ "$say" != "as it must" ]; then
        wrong=$((wrong + 1))
        tail -n 40 "$dir/out" | sed 's/^/    | /'
        if [ "$name" = nothing ]; then
            echo "planted: red without a defect: nothing else can be told apart" >&2
            exit 1
        fi
    fi
    clean
}

printf '%-26s %-8s %-18s %-5s\n' planted stage tests is
for stage in release asan tsan; do
    carrier "$good" "$call"
    expect nothing $stage '^planted$' green '100% tests passed'
done
carrier "$good" "$call"
expect nothing project 'project_(claims|headers|honest|includes|lists|one_file|readme|runner|sizes|symbols)' green '100% tests passed'
carrier "$good" "$call"
expect nothing format . green ''

carrier "
int lt_planted(int n) {
    char *volatile p = malloc(16);
    p = NULL;
    return p == NULL ? n : 0;
}" "$call"
expect leak asan '^planted$' red 'LeakSanitizer'

carrier "
int lt_planted(int n) {
    volatile char *p = malloc((size_t)n + 15);
    if (p == NULL) {
        return 0;
    }
    p[15 + n] = 1;
    free((void *)p);
    return n;
}" "$call"
expect overflow asan '^planted$' red 'heap-buffer-overflow'

carrier "
int lt_planted(int n) {
    volatile int big = 0x7fffffff;
    big = big + n;
    return n;
}" "$call"
expect undefined-behaviour asan '^planted$' red 'runtime error: signed integer overflow'

carrier "
static int planted_sum;
static void *planted_add(void *arg) {
    for (int i = 0; i < 1000; i++) {
        planted_sum++;
    }
    return arg;
}
int lt_planted(int n) {
    pthread_t t;
    if (pthread_create(&t, NULL, planted_add, NULL) != 0) {
        return 0;
    }
    planted_add(NULL);
    pthread_join(t, NULL);
    return n;
}" "$call"
expect race tsan '^planted$' red 'ThreadSanitizer: data race'

broken_fini='
static void fini(void) {
    cr_assert(lt_planted(0));
}
Test(planted, one, .fini = fini) {
    cr_assert_eq(lt_planted(1), 1);
}'
for stage in release tsan; do
    carrier "$good" "$broken_fini"
    expect failing-teardown $stage '^planted$' red 'Assertion Failed'
    carrier "$good" "$call" ARGUMENTS --filter 'nosuch/*'
    expect empty-filter $stage '^planted$' red 'Tested: 0 '
    carrier "$good" ""
    expect file-without-tests $stage '^planted$' red 'Tested: 0 '
    carrier "$good" "
Test(planted, one) {
    cr_assert_eq(lt_planted(1), 2);
}"
    expect failing-assertion $stage '^planted$' red 'Assertion Failed'
done
carrier "$good" "$call"
expect no-test-of-that-name release '^nosuch$' red 'No tests were found'

carrier "#include \"queue/planted.h\"
$good" "$call"
mkdir -p src/queue
echo '/* SPDX-License-Identifier: MIT */' >src/queue/planted.h
expect include-upwards project project_includes red 'is not below base'

carrier "#include \"../base/planted.h\"
$good" "$call"
expect include-dotdot project project_includes red 'goes up a folder'

carrier "__attribute__((visibility(\"default\"))) int rogue(int n);
int rogue(int n) {
    return n;
}
$good" "$call"
expect symbol-without-prefix project project_symbols red 'visible in an object: rogue'

carrier "__attribute__((visibility(\"default\"))) int leat_rogue(int n);
int leat_rogue(int n) {
    return n;
}
$good" "$call"
expect symbol-undeclared project project_symbols red 'visible, not declared: leat_rogue'

carrier "$good" "$call"
first=$(sed -n 's/^static [a-z_ ]*[ *]\([a-z0-9_]*\)(.*{$/\1/p' src/base/*.c | head -n 1)
cat >src/base/planted.c <<EOF
/* SPDX-License-Identifier: MIT */
#include "base/planted.h"
static int $first(void) {
    return 0;
}
int lt_planted(int n) {
    return n + $first();
}
EOF
expect static-name-twice project project_one_file red "$first"

carrier "$good
int lt_planted_long(int n);
int lt_planted_long(int n) {
$(i=0; while [ $i -lt 70 ]; do echo "    n++;"; i=$((i + 1)); done)
    return n;
}" "$call"
expect function-too-long project project_sizes red 'a function of 73 lines'

carrier "$good" "$call"
cp tests/base/test_planted.c tests/base/test_unlisted.c
expect unlisted-test project project_lists red 'test_unlisted.c is not listed'

carrier "$good" "
Test(planted, one) {
    cr_assert_eq(lt_planted(1), 1);
    exit(0);
}"
expect exit-in-a-test project project_honest red 'exit\(\) in a test'

awk '/^```c$/ { program = 0 } /^int main\(/ { program = 1 }
     { print } /^```(text|console)$/ && program { print "this is not printed"; program = 0 }' "$dir/clean/README.md" >README.md
expect readme-output project project_readme red 'prints something else'

awk '/^```sh$/ && !done { print; print "./dev nosuch"; done = 1; next } { print }' "$dir/clean/README.md" >README.md
expect readme-command project project_readme red 'has no command nosuch'

sed -i 's/^#ifdef __cplusplus$/static inline int leat_planted(void) { int new = 0; return new; }\n&/' include/leat_test.h
expect header-not-cpp project project_headers red 'error:'

carrier "
int lt_planted(int n)   {
  return n ;
}" "$call"
expect misformatted format . red 'clang-format-violations|code should be clang-formatted'

if [ $count -eq 0 ]; then
    echo "planted: there is no defect of that name: $wanted" >&2
    exit 2
fi
echo "$((count - wrong)) of $count as they must be"
[ $wrong -eq 0 ]
