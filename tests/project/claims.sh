#!/bin/sh
# SPDX-License-Identifier: MIT
# Each row of tests/api/CLAIMS.md names tests that exist and run, as `suite, name`, in its last column; what is not held
# has a reason. A doctored list must be found out.
set -eu
cd "$LEAT_ROOT"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
find tests -name '*.c' -not -path 'tests/plain/*' | xargs cat | tr '\n' ' ' |
    grep -oE '[^A-Za-z_]Test\( *[a-z_0-9]+, *[a-z_0-9]+[^{]*' >"$dir/all"
grep -v '[.]disabled' "$dir/all" | sed -E 's/^.Test\( *([a-z_0-9]+), *([a-z_0-9]+).*/\1, \2/' | LC_ALL=C sort -u >"$dir/tests"
check() { # FILE
    awk -v tests="$dir/tests" '
        function bad(why) { printf "%s:%d: %s: %s\n", FILENAME, FNR, why, $0; failures++ }
        BEGIN { while ((getline line <tests) > 0) there[line] = 1; here = "" }
        /^## / { here = $0 }
        here == "## Not held" && /^- / { missing++; if (!/^- .*[^ ]: [^ ]/) bad("no reason") }
        /^\|/ && !/^\|[-| ]*$/ && !/^\| *Clause / {
            rows++
            if (here == "## Not held") bad("a row below what is not held")
            n = split($0, cell, "|")
            held = cell[n - 1]
            if (n != 4 || cell[2] ~ /^ *$/) bad("not two columns")
            if (held !~ /`[a-z_0-9]+, [a-z_0-9]+`/) bad("no test")
            while (match(held, /`[^`]*`/)) {
                name = substr(held, RSTART + 1, RLENGTH - 2)
                held = substr(held, RSTART + RLENGTH)
                count++
                if (!(name in there)) bad("no test is called " name)
            }
        }
        END {
            if (rows < 10 || missing == 0) { print FILENAME ": is this the list?"; failures++ }
            if (failures) exit 1
            print rows " clauses, " count " times a test, " missing " not held"
        }' "$1"
}
list=tests/api/CLAIMS.md
check $list
row='| A clause. | `async, a_full_batch_does_not_linger` |'
doctored() { # ROW: must be refused
    { sed '/^## Not held/,$d' $list; echo "$1"; sed -n '/^## Not held/,$p' $list; } >"$dir/CLAIMS.md"
    if check "$dir/CLAIMS.md" >"$dir/out"; then echo "was not found out: $1"; exit 1; fi
}
doctored "$(echo "$row" | sed 's/linger/linger_at_all/')"
doctored "$(echo "$row" | sed 's/async,/sync,/')"
doctored '| A clause. | |'
doctored '| A clause. | a_full_batch_does_not_linger |'
{ cat $list; echo '- A clause.'; } >"$dir/CLAIMS.md"
if check "$dir/CLAIMS.md" >"$dir/out"; then echo "a clause that is not held without a reason was not found out"; exit 1; fi
