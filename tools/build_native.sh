#!/usr/bin/env bash
# Builds what profinfer loads besides Python, for this machine, into build/MACHINE/.
#
#   tools/build_native.sh
#
# Run it as often as you like: a library is built only when it is older than its source.
# CC is the compiler (gcc).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

out=build/$(uname -m)
mkdir -p "$out"

# build OUTPUT SOURCE [FLAG]...: a shared library. It appears whole or not at all: a running
# recorder may have the old one mapped.
build() {
    local output=$out/$1 source=$2
    shift 2
    [[ -e $output && ! $source -nt $output && ! ${BASH_SOURCE[0]} -nt $output ]] && return
    # The build id is what results of its self-test are kept under.
    "${CC:-gcc}" -std=gnu11 -O2 -g0 -Wall -Wextra -fPIC -shared -Wl,--build-id -Wl,-z,defs \
        "$@" -o "$output.part.$$" "$source"
    mv "$output.part.$$" "$output"
}

# --- libprofinfer-sites.so: what a probe costs by its instruction (profinfer/hitcost.py) -------

build libprofinfer-sites.so bpf/hit_sites.c
