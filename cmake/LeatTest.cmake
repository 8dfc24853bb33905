# SPDX-License-Identifier: MIT
# Which runner the tests use, and leat_test(), which adds one test program to CTest.
set(LEAT_RUNNER plain)
if(CMAKE_C_FLAGS MATCHES "-fsanitize=thread")
    message(STATUS "leat: tests use the small runner of tests/plain (Criterion cannot start under ThreadSanitizer)")
elseif(LEAT_TESTS STREQUAL "PLAIN")
    message(STATUS "leat: tests use the small runner of tests/plain (asked for)")
else()
    find_package(PkgConfig QUIET)
    if(PKG_CONFIG_FOUND)
        pkg_check_modules(LEAT_CRITERION QUIET IMPORTED_TARGET criterion>=2.4)
    endif()
    if(LEAT_CRITERION_FOUND)
        set(LEAT_RUNNER criterion)
        message(STATUS "leat: tests use Criterion ${LEAT_CRITERION_VERSION}")
    elseif(LEAT_TESTS STREQUAL "AUTO")
        message(STATUS "leat: Criterion not found (libcriterion-dev, pkg-config): "
            "tests use the small runner of tests/plain")
    else()
        message(FATAL_ERROR
            "leat: LEAT_TESTS=ON demands Criterion >= 2.4 (libcriterion-dev, pkg-config), which is not here")
    endif()
endif()
if(LEAT_RUNNER STREQUAL "plain" AND NOT TARGET leat_plain)
    add_library(leat_plain STATIC ${PROJECT_SOURCE_DIR}/tests/plain/main.c)
    leat_flags(leat_plain)
    target_include_directories(leat_plain SYSTEM PUBLIC ${PROJECT_SOURCE_DIR}/tests/plain)
    target_link_libraries(leat_plain PRIVATE Threads::Threads)
endif()

# A sanitizer may wait for nothing and forgive nothing; Criterion leaves running in parallel to CTest.
set(LEAT_TEST_ENVIRONMENT
    "CRITERION_JOBS=1"
    "ASAN_OPTIONS=abort_on_error=1:detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1"
    "UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1"
    "LSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/tests/lsan.supp:print_suppressions=0"
    "TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1")
set(LEAT_TEST_ALARM "(Address|Leak|Thread|Memory|UndefinedBehavior)Sanitizer|runtime error:|Tested: 0 ")

# leat_test(NAME SOURCES FILE... [INTERNAL] [PROGRAM] [TIMEOUT SECONDS] [SERIAL] [ARGUMENTS ...])
# INTERNAL: sees the headers of src/ (tests of a folder); without it only include/ and tests/lib.
# PROGRAM: has its own main() and no runner: exit status 0 is success, 77 is skipped.
function(leat_test name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "INTERNAL;PROGRAM;SERIAL" "TIMEOUT" "SOURCES;ARGUMENTS")
    if(arg_UNPARSED_ARGUMENTS OR NOT arg_SOURCES)
        message(FATAL_ERROR "leat_test(${name}): not understood: ${arg_UNPARSED_ARGUMENTS}")
    endif()
    if(NOT arg_TIMEOUT)
        set(arg_TIMEOUT 120)
    endif()
    set(target leat_${name})
    add_executable(${target} ${arg_SOURCES})
    set_target_properties(${target} PROPERTIES OUTPUT_NAME ${name})
    leat_flags(${target})
    target_compile_options(${target} PRIVATE -UNDEBUG) # assert() counts in a test, whatever the build
    target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
    if(arg_INTERNAL)
        target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/src)
    endif()
    if(TARGET leat_testlib)
        target_link_libraries(${target} PRIVATE leat_testlib)
    endif()
    target_link_libraries(${target} PRIVATE $<IF:$<BOOL:${arg_INTERNAL}>,leat_inside,leat::leat_static> Threads::Threads)
    set(mode "")
    if(arg_PROGRAM)
        set(mode --program)
    elseif(LEAT_RUNNER STREQUAL "criterion")
        target_link_libraries(${target} PRIVATE PkgConfig::LEAT_CRITERION)
    else()
        target_link_libraries(${target} PRIVATE leat_plain)
    endif()
    add_test(NAME ${name} COMMAND ${PROJECT_SOURCE_DIR}/tests/run_one.sh ${mode} $<TARGET_FILE:${target}>
        ${arg_ARGUMENTS})
    math(EXPR each "${arg_TIMEOUT} / 2") # of one test in the small runner, so that it can still name it
    set_tests_properties(${name} PROPERTIES TIMEOUT ${arg_TIMEOUT} SKIP_RETURN_CODE 77 LABELS unit
        ENVIRONMENT "${LEAT_TEST_ENVIRONMENT};LEAT_TEST_SECONDS=${each}"
        FAIL_REGULAR_EXPRESSION "${LEAT_TEST_ALARM}")
    if(arg_SERIAL)
        set_tests_properties(${name} PROPERTIES RUN_SERIAL ON)
    endif()
endfunction()

# leat_check(NAME SCRIPT [TIMEOUT SECONDS] [ARGUMENTS ...]): a shell script of tests/project as a test.
# It finds the tree in LEAT_ROOT, the build in LEAT_BUILD, the compiler in CC, CMake in CMAKE.
function(leat_check name script)
    cmake_parse_arguments(PARSE_ARGV 2 arg "" "TIMEOUT" "ARGUMENTS")
    if(NOT arg_TIMEOUT)
        set(arg_TIMEOUT 120)
    endif()
    set(environment "LEAT_ROOT=${PROJECT_SOURCE_DIR}" "LEAT_BUILD=${PROJECT_BINARY_DIR}"
        "CC=${CMAKE_C_COMPILER}" "CMAKE=${CMAKE_COMMAND}")
    add_test(NAME ${name} COMMAND ${script} ${arg_ARGUMENTS})
    set_tests_properties(${name} PROPERTIES TIMEOUT ${arg_TIMEOUT} SKIP_RETURN_CODE 77 LABELS project
        ENVIRONMENT "${environment}")
endfunction()
