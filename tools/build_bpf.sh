#!/usr/bin/env bash
# Compiles the BPF programs of the libbpf dialect into build/{x86_64,aarch64}/:
#
#   profinfer.bpf.o        the handlers, ring transport
#   profinfer-perf.bpf.o   the handlers, perf transport
#   scheduler.bpf.o        the scheduler's tracepoints, ring transport
#   scheduler-perf.bpf.o   the same, perf transport
#   launch.bpf.o           what stops a launched command (profinfer/recording/launch.py)
#
# Both machines' on any machine: clang needs no cross compiler for BPF. An object that has not
# changed is not touched. CLANG and LLVM_STRIP name the tools.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

build() { # machine, the target's name in libbpf, output, source, [flag]...
    local machine=$1 arch=$2 object=build/$1/$3 source=$4
    shift 4
    mkdir -p "build/$machine"
    # -g for the BTF that map definitions are made of; DWARF goes again.
    "${CLANG:-clang}" -target bpf -mcpu=v3 -O2 -g -std=gnu11 -Wall -Wextra -Wno-unused-parameter \
        -Werror "-D__TARGET_ARCH_$arch" "-I/usr/include/$(uname -m)-linux-gnu" \
        "$@" -c "$source" -o "$object.$$"
    "${LLVM_STRIP:-llvm-strip}" -g "$object.$$"
    if cmp --silent "$object.$$" "$object"; then rm "$object.$$"; else mv "$object.$$" "$object"; fi
}

for target in x86_64:x86 aarch64:arm64; do
    machine=${target%:*} arch=${target#*:}
    build "$machine" "$arch" profinfer.bpf.o bpf/profinfer.bpf.c -DTRANSPORT=TRANSPORT_RING
    build "$machine" "$arch" profinfer-perf.bpf.o bpf/profinfer.bpf.c -DTRANSPORT=TRANSPORT_PERF
    build "$machine" "$arch" scheduler.bpf.o bpf/scheduler.bpf.c -DTRANSPORT=TRANSPORT_RING
    build "$machine" "$arch" scheduler-perf.bpf.o bpf/scheduler.bpf.c -DTRANSPORT=TRANSPORT_PERF
    build "$machine" "$arch" launch.bpf.o bpf/launch.bpf.c
done
