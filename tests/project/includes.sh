#!/bin/sh
# SPDX-License-Identifier: MIT
# Who may include whom: leat.h <- base <- log <- {queue, pubsub} <- store. From another folder only its door header
# (log/log.h, ...; base is all door). Nothing but libc in <>. tests/api, examples and bench see only the public headers (and bench its own, and in peers/ those of one peer).
set -eu
cd "$LEAT_ROOT"
find include src tests examples bench -name '*.[ch]' -o -name '*.cpp' | LC_ALL=C sort | xargs awk '
BEGIN {
    rank["base"] = 1; rank["log"] = 2; rank["queue"] = 3; rank["pubsub"] = 3; rank["store"] = 4
    n = split("assert byteswap complex ctype endian dirent dlfcn errno fcntl fenv float fnmatch ftw glob inttypes iso646 limits locale " \
        "math poll pthread sched semaphore setjmp signal spawn stdalign stdarg stdatomic stdbool stddef stdint stdio " \
        "stdlib stdnoreturn string strings syslog tgmath threads time uchar ucontext unistd wchar wctype malloc " \
        "arpa/inet netinet/in cpuid immintrin nmmintrin arm_acle asm/hwcap linux/falloc linux/fs linux/magic linux/futex", word)
    for (i = 1; i <= n; i++) libc[word[i] ".h"] = 1
}
function bad(why) { printf "%s:%d: %s: %s\n", FILENAME, FNR, $0, why; failures++ }
function is_public(name) { return name == "leat.h" || name == "leat_test.h" }
/^[ \t]*#[ \t]*include/ {
    seen++
    line = $0
    if (match(line, /<[^>]*>/)) angle = 1
    else if (match(line, /"[^"]*"/)) angle = 0
    else { bad("neither <> nor \"\""); next }
    name = substr(line, RSTART + 1, RLENGTH - 2)
    split(FILENAME, dir, "/") # dir[1]: the top folder, dir[2]: the folder in it
    if (index(name, "../")) { bad("goes up a folder"); next }
    if (name !~ /\.h$/) { bad("is not a header"); next }
    if (angle) {
        if ((name in libc) || name ~ /^sys\//) next
        if (dir[1] == "bench" && dir[2] == "peers") next
        if (dir[1] != "src" && dir[1] != "include" && (is_public(name) || name == "criterion/criterion.h")) next
        bad("is not of libc")
        next
    }
    folder = name; sub(/\/.*/, "", folder)
    if (dir[1] == "include") {
        if (FILENAME != "include/leat_test.h" || name != "leat.h") bad("leat.h stands alone, leat_test.h includes only leat.h")
    } else if (is_public(name)) {
        next
    } else if (dir[1] == "src") {
        if (!(folder in rank) || name == folder) bad("is not written as folder/file.h")
        else if (folder == dir[2]) next
        else if (rank[folder] >= rank[dir[2]]) bad("is not below " dir[2])
        else if (folder != "base" && name != folder "/" folder ".h") bad("is not the door of " folder ": " folder "/" folder ".h")
    } else if (dir[1] == "tests") {
        if (FILENAME ~ /^tests\/plain\// && name == "criterion/criterion.h") next
        if (folder == "lib" && name != folder) next
        if (dir[2] == "api") bad("tests/api sees leat.h, leat_test.h and lib/ only")
        else if (!(folder in rank) || name == folder) bad("is not written as folder/file.h")
    } else if (dir[1] == "bench" && name ~ /^(harness|payload|flow|histogram|peers|durable|kept|leases|scale)\.h$/) next
    else bad(dir[1] " sees the public headers only")
}
END {
    if (!seen) { print "no include line was looked at"; failures++ }
    if (failures) exit 1
    print seen " include lines, all in the right direction"
}'
