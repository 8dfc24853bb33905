#!/bin/sh
# SPDX-License-Identifier: MIT
# leat as its users get it: installed and found by find_package and by pkg-config (static and shared), and as a
# subdirectory of a project that is stricter than we are and must find its own settings untouched.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
unset DESTDIR MAKEFLAGS MAKELEVEL || true
export CMAKE_GENERATOR="Unix Makefiles"
say() { echo "== $*"; }

mkdir "$dir/app"
cat >"$dir/app/app.c" <<'EOF'
#include <leat.h>
#include <leat_test.h>
int main(void) {
    leat *mq;
    return leat_test_open(&mq) || leat_close_all(mq, 0);
}
EOF

say install
"$CMAKE" --install "$LEAT_BUILD" --prefix "$dir/prefix" >"$dir/log" || { cat "$dir/log"; exit 1; }
lib=$(dirname "$(find "$dir/prefix" -name libleat.a)")
for file in "$dir/prefix/include/leat.h" "$dir/prefix/include/leat_test.h" "$lib/libleat.so.0" \
    "$lib/cmake/leat/leatConfig.cmake" "$lib/cmake/leat/leatConfigVersion.cmake" "$lib/pkgconfig/leat.pc"; do
    [ -f "$file" ] || { echo "not installed: $file"; exit 1; }
done

cat >"$dir/app/CMakeLists.txt" <<'EOF'
cmake_minimum_required(VERSION 3.21)
project(app C)
find_package(leat 0.1 REQUIRED)
add_executable(app app.c)
target_link_libraries(app PRIVATE leat::leat)
EOF
for shared in OFF ON; do
    say "find_package, BUILD_SHARED_LIBS=$shared"
    "$CMAKE" -S "$dir/app" -B "$dir/found-$shared" -DCMAKE_PREFIX_PATH="$dir/prefix" -DBUILD_SHARED_LIBS=$shared >"$dir/log" &&
        "$CMAKE" --build "$dir/found-$shared" >>"$dir/log" || { cat "$dir/log"; exit 1; }
    "$dir/found-$shared/app"
    needed=$(readelf -d "$dir/found-$shared/app" | grep -c 'NEEDED.*libleat' || true)
    [ "$needed" -eq "$([ $shared = ON ] && echo 1 || echo 0)" ] || { echo "linked to the wrong library"; exit 1; }
done
sed -i 's/leat 0.1 /leat 0.2 /' "$dir/app/CMakeLists.txt"
if "$CMAKE" -S "$dir/app" -B "$dir/wrong" -DCMAKE_PREFIX_PATH="$dir/prefix" >/dev/null 2>&1; then
    echo "find_package(leat 0.2) is satisfied by 0.1"
    exit 1
fi

if command -v pkg-config >/dev/null 2>&1; then
    export PKG_CONFIG_PATH="$lib/pkgconfig"
    say pkg-config, shared
    # shellcheck disable=SC2046 # words are wanted
    "$CC" "$dir/app/app.c" -o "$dir/by-pc" $(pkg-config --cflags --libs leat)
    LD_LIBRARY_PATH=$lib "$dir/by-pc"
    readelf -d "$dir/by-pc" | grep 'NEEDED.*libleat\.so\.0' >/dev/null || { echo "not linked to libleat.so.0"; exit 1; }
    say pkg-config, static
    # shellcheck disable=SC2046
    "$CC" -static "$dir/app/app.c" -o "$dir/by-pc-static" $(pkg-config --cflags --libs --static leat)
    "$dir/by-pc-static"
else
    echo "no pkg-config here"
    exit 77
fi

mkdir "$dir/parent"
cp "$dir/app/app.c" "$dir/parent/app.c"
cat >"$dir/parent/CMakeLists.txt" <<'EOF'
cmake_minimum_required(VERSION 3.21)
project(parent C)
set(CMAKE_C_STANDARD 99)
add_compile_options(-Wall -Wextra -Wpedantic -Werror)
get_directory_property(before COMPILE_OPTIONS)
set(before "${before};${CMAKE_C_FLAGS};${CMAKE_BUILD_TYPE};${BUILD_SHARED_LIBS};${CMAKE_C_STANDARD};${CMAKE_C_VISIBILITY_PRESET}")
add_subdirectory(${LEAT_ROOT} leat)
get_directory_property(after COMPILE_OPTIONS)
set(after "${after};${CMAKE_C_FLAGS};${CMAKE_BUILD_TYPE};${BUILD_SHARED_LIBS};${CMAKE_C_STANDARD};${CMAKE_C_VISIBILITY_PRESET}")
if(NOT before STREQUAL after)
    message(FATAL_ERROR "leat changed its parent: ${before} -> ${after}")
endif()
get_property(cache DIRECTORY PROPERTY CACHE_VARIABLES)
foreach(variable ${cache})
    if(variable MATCHES "^(BUILD_TESTING|BUILD_SHARED_LIBS_DEFAULT|WERROR|ASAN)$")
        message(FATAL_ERROR "leat put ${variable} into its parent's cache")
    endif()
endforeach()
get_property(targets DIRECTORY ${LEAT_ROOT} PROPERTY BUILDSYSTEM_TARGETS)
get_property(more DIRECTORY ${LEAT_ROOT}/src PROPERTY BUILDSYSTEM_TARGETS)
foreach(target ${targets} ${more})
    if(NOT target MATCHES "^leat")
        message(FATAL_ERROR "leat made a target named ${target}")
    endif()
endforeach()
get_property(tests DIRECTORY ${LEAT_ROOT} PROPERTY SUBDIRECTORIES)
if(tests MATCHES "/(tests|examples|bench)(;|$)")
    message(FATAL_ERROR "leat builds more than itself for its parent: ${tests}")
endif()
add_executable(app app.c)
target_link_libraries(app PRIVATE leat::leat)
EOF
for shared in OFF ON; do
    say "add_subdirectory, BUILD_SHARED_LIBS=$shared"
    "$CMAKE" -S "$dir/parent" -B "$dir/sub-$shared" -DLEAT_ROOT="$LEAT_ROOT" -DBUILD_SHARED_LIBS=$shared >"$dir/log" &&
        "$CMAKE" --build "$dir/sub-$shared" -j 2 >>"$dir/log" 2>&1 || { cat "$dir/log"; exit 1; }
    "$dir/sub-$shared/app"
    needed=$(readelf -d "$dir/sub-$shared/app" | grep -c 'NEEDED.*libleat' || true)
    [ "$needed" -eq "$([ $shared = ON ] && echo 1 || echo 0)" ] || { echo "linked to the wrong library"; exit 1; }
done
echo "installed, found and linked in every way"
