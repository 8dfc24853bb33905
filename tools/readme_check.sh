#!/bin/sh
# SPDX-License-Identifier: MIT
# readme_check [FILE]: holds every fenced block of README.md, by the words after its opening fence:
#   c          with main(): built and run; the next block, when it is `text` or `console`, must be its output, byte
#              for byte. With Test(...) instead: built with the small runner and must pass.
#   c snippet  built inside a function where the usual handles are declared
#   sh         each `./dev X` is a command of ./dev help, each `--preset X` is in CMakePresets.json
#   cmake      configured as the tail of a consumer's CMakeLists.txt against an installed leat
#   text, console   output if it follows a program, else a picture
# Any other word is an error: nothing stands in the README unheld.
# Wants LEAT_ROOT and LEAT_BUILD (a release build); CTest sets them.
set -eu
root=${LEAT_ROOT:-$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)}
build=${LEAT_BUILD:-$root/build/release}
readme=${1:-$root/README.md}
cc="${CC:-cc} -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -I$root/include"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failures=0

# One file a block: NNN.body, and a list: "NNN line info".
awk -v dir="$dir" '
    /^ *```/ {
        if (!inside) { inside = 1; n++; id = sprintf("%03d", n); info = $0; sub(/^ *```/, "", info)
            out = dir "/" id ".body"; printf "" > out; print id, FNR, info > (dir "/list"); next }
        inside = 0; close(out); next
    }
    inside { print > out }
    END { if (inside) { print "a block is not closed"; exit 1 } if (!n) { print "no block at all"; exit 1 } }' "$readme"

bad() { # LINE WHAT
    echo "$readme:$1: $2"
    failures=$((failures + 1))
}

run_program() { # ID LINE: leaves ID.out
    cp "$dir/$1.body" "$dir/$1.c"
    if ! $cc "$dir/$1.c" -o "$dir/$1.exe" "$build/src/libleat.a" -pthread -lm; then
        bad "$2" "this program does not build"
        return
    fi
    mkdir "$dir/$1.cwd"
    (cd "$dir/$1.cwd" && exec "$dir/$1.exe") >"$dir/$1.out" || bad "$2" "this program ends with an error"
}

run_test() { # ID LINE
    {
        grep -q 'criterion/criterion.h' "$dir/$1.body" || echo '#include <criterion/criterion.h>'
        grep -q 'leat.h' "$dir/$1.body" || echo '#include <leat.h>'
        grep -q 'leat_test.h' "$dir/$1.body" || echo '#include <leat_test.h>'
        cat "$dir/$1.body"
    } >"$dir/$1.c"
    if ! $cc -I"$root/tests/plain" "$dir/$1.c" "$root/tests/plain/main.c" -o "$dir/$1.exe" "$build/src/libleat.a" -pthread; then
        bad "$2" "this test does not build"
    elif ! "$root/tests/run_one.sh" "$dir/$1.exe" >"$dir/$1.log" 2>&1; then
        cat "$dir/$1.log"
        bad "$2" "this test does not pass"
    fi
}

run_snippet() { # ID LINE
    {
        printf '#include <leat.h>\n#include <leat_test.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n'
        echo 'void handle(const void *data, size_t size);'
        echo 'int deliver(const leat_message *m);'
        echo 'void on_reading(leat_subscription *s, const leat_message *m, void *ctx);'
        echo 'void snippet(leat *mq, leat_topic *orders, leat_producer *p, leat_consumer *c, leat_queue *q,'
        echo '             leat_subscription *s, void *ctx);'
        echo 'void snippet(leat *mq, leat_topic *orders, leat_producer *p, leat_consumer *c, leat_queue *q,'
        echo '             leat_subscription *s, void *ctx) {'
        echo '(void)mq; (void)orders; (void)p; (void)c; (void)q; (void)s; (void)ctx; {'
        cat "$dir/$1.body"
        echo '} }'
    } >"$dir/$1.c"
    $cc -Wno-unused-variable -Wno-unused-but-set-variable -fsyntax-only "$dir/$1.c" || bad "$2" "this snippet does not compile"
}

run_sh() { # ID LINE
    grep -oE '(^|[ ;&(])\./dev +[a-z]+' "$dir/$1.body" | awk '{ print $NF }' | sort -u >"$dir/words" || true
    while read -r word; do
        "$root/dev" help | grep -E "^  $word( |\$)" >/dev/null || bad "$2" "./dev has no command $word"
    done <"$dir/words"
    grep -oE '\-\-preset[ =][A-Za-z0-9_-]+' "$dir/$1.body" | sed 's/.*[ =]//' | sort -u >"$dir/words" || true
    while read -r word; do
        grep -q "\"name\": \"$word\"" "$root/CMakePresets.json" || bad "$2" "CMakePresets.json has no preset $word"
    done <"$dir/words"
    sh -n "$dir/$1.body" || bad "$2" "sh cannot read this"
}

run_cmake() { # ID LINE
    if [ ! -d "$dir/prefix" ]; then
        "${CMAKE:-cmake}" --install "$build" --prefix "$dir/prefix" >/dev/null
    fi
    mkdir "$dir/$1.cm"
    ln -s "$root" "$dir/$1.cm/leat"
    echo 'int main(void) { return 0; }' >"$dir/$1.cm/app.c"
    {
        printf 'cmake_minimum_required(VERSION 3.21)\nproject(app C)\n'
        grep -q add_executable "$dir/$1.body" || echo 'add_executable(app app.c)'
        cat "$dir/$1.body"
    } >"$dir/$1.cm/CMakeLists.txt"
    "${CMAKE:-cmake}" -S "$dir/$1.cm" -B "$dir/$1.cm/build" -DCMAKE_PREFIX_PATH="$dir/prefix" >"$dir/$1.log" 2>&1 || {
        cat "$dir/$1.log"
        bad "$2" "cmake does not accept this"
    }
}

output_of=""
while read -r id line info; do
    next=""
    case $info in
    c)
        if grep -q '^int main(' "$dir/$id.body"; then
            run_program "$id" "$line"
            next=$id
        elif grep -q '^Test(' "$dir/$id.body"; then
            run_test "$id" "$line"
        else
            bad "$line" "neither main() nor Test(): say \`c snippet\` to have it compiled"
        fi
        ;;
    "c snippet") run_snippet "$id" "$line" ;;
    sh) run_sh "$id" "$line" ;;
    cmake) run_cmake "$id" "$line" ;;
    text | console)
        if [ -n "$output_of" ] && [ -f "$dir/$output_of.out" ]; then
            if ! diff -u "$dir/$id.body" "$dir/$output_of.out" >"$dir/diff"; then
                sed "1s|.*|--- $readme|; 2s|.*|+++ what the program prints|" "$dir/diff"
                bad "$line" "the program above prints something else"
            fi
        fi
        ;;
    *) bad "$line" "nobody holds a block of the kind '$info'" ;;
    esac
    output_of=$next
done <"$dir/list"
[ "$failures" -eq 0 ]
echo "$(wc -l <"$dir/list") blocks held"
