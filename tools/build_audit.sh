#!/usr/bin/env bash
# Builds build/{x86_64,aarch64}/libprofinfer-audit.so: for this machine with gcc, for the other one
# where its cross compiler is installed. A library that has not changed is not touched.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

flags=(
    -std=gnu11 -O2 -g0 -Wall -Wextra -fPIC -fvisibility=hidden
    # In a stranger's process: no library, no symbol to be resolved, nothing that wants a libc.
    -ffreestanding -nostdlib -shared -fno-stack-protector -fno-tree-loop-distribute-patterns
    # A stub calls rings.c where vector registers may hold arguments.
    -mgeneral-regs-only
    -Wl,-z,defs -Wl,-z,now -Wl,-z,relro -Wl,-z,noexecstack -Wl,--build-id=sha1
    -Wl,--hash-style=gnu -Wl,-soname,libprofinfer-audit.so
)

build() { # machine, compiler, its own flags
    local machine=$1 compiler=$2 library=build/$1/libprofinfer-audit.so
    shift 2
    mkdir -p "build/$machine"
    "$compiler" "${flags[@]}" "$@" -o "$library.$$" audit/*.c
    # By rename: processes may have the old one mapped.
    if cmp --silent "$library.$$" "$library"; then rm "$library.$$"; else mv "$library.$$" "$library"; fi
}

native=$(uname -m)
for machine in x86_64 aarch64; do
    case $machine in
        x86_64) protection=(-fcf-protection=full) ;;
        # Outline atomics would come from libgcc. x18 may be the shadow call stack's.
        aarch64) protection=(-mbranch-protection=standard -mno-outline-atomics -ffixed-x18) ;;
    esac
    compiler=$machine-linux-gnu-gcc
    [[ $machine == "$native" ]] && compiler=gcc
    if command -v "$compiler" >/dev/null; then
        build "$machine" "$compiler" "${protection[@]}"
    else
        echo "build_audit: no $compiler, so no build/$machine/libprofinfer-audit.so" >&2
        [[ $machine != "$native" ]]
    fi
done
