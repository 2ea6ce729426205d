#!/usr/bin/env bash
# Builds the recorder in C (bpf/recorder/), stripped, into build/{x86_64,aarch64}/:
#
#   profinfer-recorder           for this machine only: of the libraries, only libc is not inside
#   profinfer-recorder-static    both: needs nothing on the board, not even a libc
#
# The libraries come from build/sysroot/MACHINE (tools/fetch_emulated.py), the BPF objects inside it
# from build/MACHINE (tools/build_bpf.sh). A program that has not changed is not touched.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' profinfer/__init__.py)
libraries=(-lbpf -lelf -lz -ljson-c)
flags=(
    -std=gnu11 -Os -g0 -Wall -Wextra -Werror -ffunction-sections -fdata-sections -fno-plt
    -fstack-protector-strong -D_FORTIFY_SOURCE=2 -D_GNU_SOURCE "-DPROFINFER_VERSION=\"$version\""
    -pthread -Wl,--gc-sections -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,--build-id=sha1 -s
)

build() { # output, machine, compiler, [flag]...
    local output=$1 machine=$2 compiler=$3 sysroot=build/sysroot/$2
    shift 3
    gzip -9nc "build/$machine/profinfer.bpf.o" >"$output.$$.ring"
    gzip -9nc "build/$machine/profinfer-perf.bpf.o" >"$output.$$.perf"
    "$compiler" "${flags[@]}" -isystem "$sysroot/usr/include" \
        "-DRING_OBJECT=\"$output.$$.ring\"" "-DPERF_OBJECT=\"$output.$$.perf\"" \
        -o "$output.$$" bpf/recorder/*.c "-L$sysroot/usr/lib/$machine-linux-gnu" "$@"
    rm "$output.$$.ring" "$output.$$.perf"
    if cmp --silent "$output.$$" "$output"; then rm "$output.$$"; else mv "$output.$$" "$output"; fi
}

native=$(uname -m)
for machine in x86_64 aarch64; do
    compiler=$machine-linux-gnu-gcc
    [[ $machine == "$native" ]] && compiler=gcc
    if ! command -v "$compiler" >/dev/null || [[ ! -d build/sysroot/$machine ]]; then
        echo "build_recorder: no $compiler or no build/sysroot/$machine: no recorder for $machine" >&2
        continue
    fi
    build "build/$machine/profinfer-recorder-static" "$machine" "$compiler" -static "${libraries[@]}"
    [[ $machine == "$native" ]] || continue
    build "build/$machine/profinfer-recorder" "$machine" "$compiler" -pie -fPIE \
        -Wl,-Bstatic "${libraries[@]}" -Wl,-Bdynamic
done
