#!/usr/bin/env bash
# Builds the recorder in C (bpf/recorder/), stripped, into build/{x86_64,aarch64}/:
#
#   tools/build_recorder.sh --native
#       profinfer-recorder           for this machine only: of the libraries, only libc is not
#                                    inside; they come from this system's development packages
#   tools/build_recorder.sh
#       profinfer-recorder-static    too, for both machines: needs nothing on the board, not even a
#                                    libc; libraries from build/sysroot/MACHINE
#                                    (tools/fetch_emulated.py), where it has been fetched
#
# The BPF objects inside it come from build/MACHINE (tools/build_bpf.sh). Only what has changed is
# compiled again. CC is the compiler for this machine (gcc).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

native=$(uname -m)
native_cc=${CC:-gcc}
# bpf_map_create, bpf_map__initial_value and errors in errno.
least_libbpf=1.0

die() {
    printf 'build_recorder: %s\n' "$@" >&2
    exit 1
}

build() { # machine, program, folder of objects, [assignment]...
    local machine=$1 program=$2 out=$3
    shift 3
    make --no-print-directory --silent -j"$(nproc)" -f bpf/recorder/Makefile \
        "MACHINE=$machine" "PROGRAM=$program" "OUT=$out" "$@"
}

# What a macro is to the compiler, or nothing without that header: `value HEADER MACRO`.
value() {
    { printf '#include <%s>\nvalue=%s\n' "$1" "$2" | "$native_cc" -E -P - 2>/dev/null || true; } |
        sed -n 's/^value=//p'
}

# What libelf.a wants beside zlib, if anything: `links LIBRARY...` tries.
links() {
    echo 'int elf_begin(), elf_compress(); int main() { return elf_begin() + elf_compress(); }' |
        "$native_cc" -D_GNU_SOURCE -w -x c - bpf/recorder/libelf_search.c -x none -o /dev/null \
            -Wl,-Bstatic "$@" -lz -Wl,-Bdynamic 2>/dev/null
}

build_native() {
    local header version zstd=
    for header in bpf/libbpf.h libelf.h zlib.h json-c/json.h; do
        [[ -n $(value "$header" 1) ]] || die "no <$header>" \
            "hint: apt-get install libbpf-dev libelf-dev zlib1g-dev libjson-c-dev"
    done
    header=bpf/libbpf_version.h
    version=$(value $header LIBBPF_MAJOR_VERSION).$(value $header LIBBPF_MINOR_VERSION)
    [[ $version == . ]] && version="before 0.6" # it did not say then
    [[ $version == [1-9]* ]] ||
        die "libbpf $version is too old: the recorder takes $least_libbpf or later" \
            "hint: name the folders of a newer one's headers and libbpf.a in CPATH and LIBRARY_PATH"
    if ! links -lelf; then
        links -lelf -lzstd || die "cannot link libelf.a statically, with libzstd or without" \
            "hint: apt-get install libelf-dev zlib1g-dev libzstd-dev"
        zstd=-lzstd
    fi
    build "$native" "build/$native/profinfer-recorder" "build/$native/recorder" \
        "CC=$native_cc" "ZSTD=$zstd"
}

build_static() { # machine
    local machine=$1 sysroot=build/sysroot/$1 compiler=$1-linux-gnu-gcc
    [[ $machine == "$native" ]] && compiler=$native_cc
    if ! command -v "$compiler" >/dev/null || [[ ! -d $sysroot ]]; then
        echo "build_recorder: no $compiler or no $sysroot: no static recorder for $machine" >&2
        return 0
    fi
    build "$machine" "build/$machine/profinfer-recorder-static" "build/$machine/recorder-static" \
        STATIC=1 "CC=$compiler" "INCLUDES=-isystem $sysroot/usr/include" \
        "LIBRARY_PATH_FLAGS=-L$sysroot/usr/lib/$machine-linux-gnu"
}

case ${1:-} in
    --native) build_native ;;
    "")
        build_native
        build_static x86_64
        build_static aarch64
        ;;
    *) die "usage: tools/build_recorder.sh [--native]" ;;
esac
