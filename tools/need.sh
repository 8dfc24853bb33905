# SPDX-License-Identifier: MIT
# Sourced by the other tools: finds the tree's root and installs what is missing.
# shellcheck shell=sh
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
missing=""

need_command() { # COMMAND PACKAGE
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

need_compiler() { # a C compiler that also finds libc's headers
    if ! command -v cc >/dev/null 2>&1; then
        missing="$missing gcc libc6-dev"
    elif ! echo '#include <stdio.h>' | cc -E - >/dev/null 2>&1; then
        missing="$missing libc6-dev"
    fi
}

need_build() { # what demo, test and check all need
    need_compiler
    need_command cmake cmake
    need_command make make
    need_command pkg-config pkg-config
    if ! command -v pkg-config >/dev/null 2>&1 || ! pkg-config --exists 'criterion >= 2.4'; then
        missing="$missing libcriterion-dev"
    fi
}

# need_root: as_root is what apt-get runs under, "" or sudo without a question; 1 if nothing can be installed.
need_root() {
    as_root=""
    command -v apt-get >/dev/null 2>&1 || return 1
    [ "$(id -u)" -ne 0 ] || return 0
    as_root="sudo -n"
    command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null
}

# need_install NAME: installs $missing as root or through sudo without a question; else says how and ends with 2.
need_install() {
    [ -n "$missing" ] || return 0
    packages=${missing# }
    export DEBIAN_FRONTEND=noninteractive
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "dev $1: missing here: $packages (Debian's names; there is no apt-get to install them with)" >&2
        exit 2
    elif ! need_root; then
        echo "dev $1: some packages are missing. Run this once, then ./dev $1 again:" >&2
        if command -v sudo >/dev/null 2>&1; then
            echo "  sudo apt-get update && sudo apt-get install -y --no-install-recommends $packages" >&2
        else
            echo "  apt-get update && apt-get install -y --no-install-recommends $packages  # as root" >&2
        fi
        exit 2
    fi
    echo "dev $1: installing $packages" >&2
    # shellcheck disable=SC2086 # both are lists of words
    if ! { $as_root apt-get update -qq && $as_root apt-get install -y -qq --no-install-recommends $packages; } >&2; then
        echo "dev $1: apt-get failed. What is needed: apt-get install -y --no-install-recommends $packages" >&2
        exit 2
    fi
    missing=""
}
