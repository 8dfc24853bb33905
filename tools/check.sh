#!/bin/sh
# SPDX-License-Identifier: MIT
# check [--all-flips] [STAGE...]: everything that CI runs, or only the named stages, in this order:
#   format    clang-format has nothing to change
#   release   the suite, optimised, under Criterion
#   project   includes, headers, one file, symbols, install, README, sizes (tests/project)
#   asan      the suite under AddressSanitizer, LeakSanitizer and UndefinedBehaviorSanitizer, under Criterion
#   tsan      the suite under ThreadSanitizer, under the small runner
#   coverage  the suite once more, counting: lines and branches of src
# One line a stage; the first that fails ends it with the end of its log. Builds and logs are in build/check.
# A skipped test fails its stage: on the machine that decides, nothing may be left out silently.
# --all-flips: stage release tries every single bit and every length in tests/crash/test_damage.c, not a 16th of them.
# LEAT_CHECK_ONLY=REGEX runs only the tests whose names match, LEAT_CHECK_TARGETS builds only these (tools/planted.sh).
set -eu
. "$(dirname -- "$0")/need.sh"
all="format release project asan tsan coverage"
jobs=2

suite() { # PRESET LABEL-OPTION LABEL [CMAKE-ARGUMENT...]: configure, build, run
    preset=$1 option=$2 label=$3
    shift 3
    cmake --preset "$preset" -B "build/check/$preset" "$@"
    # shellcheck disable=SC2086 # a list of words
    cmake --build "build/check/$preset" -j $jobs ${LEAT_CHECK_TARGETS:+--target $LEAT_CHECK_TARGETS}
    if [ "$preset" = coverage ]; then
        find build/check/coverage -name '*.gcda' -exec rm -f {} +
    fi
    ctest --test-dir "build/check/$preset" -j $jobs --output-on-failure --no-tests=error \
        "$option" "$label" -R "${LEAT_CHECK_ONLY:-.}"
}

run_stage() {
    case $1 in
    format) sh tools/format.sh --check ;;
    release) suite release -LE '^project$' -DLEAT_TESTS=ON ;;
    project) suite release -L '^project$' -DLEAT_TESTS=ON ;;
    asan) suite asan -LE '^project$' -DLEAT_TESTS=ON ;;
    tsan) suite tsan -LE '^project$' ;;
    coverage)
        suite coverage -LE '^project$' -DLEAT_TESTS=ON
        gcovr --root . --object-directory build/check/coverage --filter 'src/' --print-summary \
            --txt build/check/coverage.txt build/check/coverage
        ;;
    esac
}

# What a stage's log says: tests run, failed, skipped.
numbers() {
    awk '/tests passed, [0-9]+ tests? failed out of/ {
             for (i = 1; i <= NF; i++) if ($i == "failed") failed += $(i - 2)
             all += $NF
         }
         /\*\*\*Skipped/ { skipped++ }
         END { print all + 0, failed + 0, skipped + 0 }' "$1"
}

if [ "${1:-}" = --stage ]; then # one stage, in a shell of its own so that `set -e` holds inside it
    cd "$root"
    run_stage "$2"
    exit 0
fi

if [ "${1:-}" = --all-flips ]; then
    shift
    export LEAT_DAMAGE_ALL=1
fi
stages=${*:-$all}
for stage in $stages; do
    case " $all " in
    *" $stage "*) ;;
    *)
        echo "dev check: there is no stage '$stage': $all" >&2
        exit 2
        ;;
    esac
done
need_build
need_command c++ g++
need_command clang-format clang-format
need_command gcovr gcovr
if [ "$(id -u)" -eq 0 ]; then # tests/crash/test_full_disk.c: nobody else can mount them
    need_command mkfs.ext4 e2fsprogs
    need_command mkfs.xfs xfsprogs
    need_command mkfs.btrfs btrfs-progs
fi
need_install check
cd "$root"
mkdir -p build/check
passed_sum=0 failed_sum=0 verdict=ok begin=$(date +%s)
for stage in $stages; do
    log=build/check/$stage.log
    from=$(date +%s)
    result=ok
    sh -eu tools/check.sh --stage "$stage" >"$log" 2>&1 || result=FAILED
    read -r tested failed skipped <<EOF
$(numbers "$log")
EOF
    [ "$skipped" -eq 0 ] || result=FAILED
    note=""
    [ "$tested" -eq 0 ] || note="$((tested - failed - skipped)) of $tested tests passed"
    [ "$skipped" -eq 0 ] || note="$note, $skipped skipped"
    if [ "$stage" = coverage ] && [ $result = ok ]; then
        covered=$(sed -n 's/^\(lines\|branches\): \([0-9.]*%\).*/\1 \2/p' "$log" | tr '\n' ' ')
        case $covered in
        lines*branches*) note="$note, src: $covered" ;;
        *) result=FAILED note="$note, no coverage figure" ;;
        esac
    fi
    passed_sum=$((passed_sum + tested - failed - skipped)) failed_sum=$((failed_sum + failed))
    printf 'check: %-9s %-6s %4d s  %s\n' "$stage" $result $(($(date +%s) - from)) "$note"
    if [ $result = FAILED ]; then
        [ "$failed" -gt 0 ] || failed_sum=$((failed_sum + 1))
        echo "--- the end of $log:"
        tail -n 60 "$log"
        echo "---"
        verdict=FAILED
        break
    fi
done
echo "check: $verdict after $(($(date +%s) - begin)) s ($(echo "$stages" | wc -w) stages)"
echo "$passed_sum passed, $failed_sum failed"
[ $verdict = ok ]
