#!/usr/bin/env bash
# Builds what lets an engine describe itself (bpf/describe/):
#
#   tools/build_describer.sh
#       build/{x86_64,aarch64}/profinfer-describer  the experiments, for any libc from glibc 2.17
#                                                   and musl 1.2 on, whose loader then starts them
#       build/MACHINE/profinfer-confine             what starts them (bpf/confine/), for this machine
#       build/describer/tiny.gguf                   the model that they decode with
#   tools/build_describer.sh --out FOLDER [FLAG]...
#       FOLDER/profinfer-describer                  for this machine, with more compiler flags
#
# For this machine with CC (gcc), for the other one where its cross compiler is installed. A file
# that would be the same is not touched.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

native=$(uname -m)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# All that it may ask of a libc, there where glibc 2.17 has it.
libc=(
    __errno_location __libc_start_main _exit _setjmp access bcmp calloc chdir close fork free
    longjmp lseek memchr memcmp memcpy memmem memmove memset mmap mprotect munmap open pipe read
    snprintf stpcpy strchr strcmp strcpy strcspn strerror strlen strncmp strpbrk strrchr strspn
    strstr sysconf vsnprintf waitpid write
)
libdl=(dlerror dlinfo dlopen dlsym)

flags=(
    -std=gnu11 -O2 -g0 -Wall -Wextra -Werror -D_GNU_SOURCE -fPIE -fvisibility=hidden
    # Nothing that a libc would have to bring beside the functions above.
    -fno-stack-protector -U_FORTIFY_SOURCE -fno-asynchronous-unwind-tables
    -nostdlib -pie -Wl,-z,defs -Wl,-z,now -Wl,-z,relro -Wl,-z,noexecstack -Wl,--build-id=sha1
    -Wl,--hash-style=both -Wl,--no-as-needed -s
)

die() {
    printf 'build_describer: %s\n' "$@" >&2
    exit 1
}

# A library with these functions and no versions: what is linked with it asks for none.
stub() { # compiler, file name, function...
    local compiler=$1 file=$2
    shift 2
    printf 'void %s(void) {}\n' "$@" |
        "$compiler" -w -fno-builtin -nostdlib -shared -x c - -Wl,-soname,"$file" -o "$work/$file"
}

keep() { # made, wanted: by rename, as processes may use the old one
    cmp --silent "$1" "$2" && return
    # mktemp's folder may be on another file system.
    cp "$1" "$2.$$"
    mv "$2.$$" "$2"
}

describer() { # compiler, program, flag...
    local compiler=$1 program=$2
    shift 2
    stub "$compiler" libc.so.6 "${libc[@]}"
    stub "$compiler" libdl.so.2 "${libdl[@]}"
    mkdir -p "$(dirname "$program")"
    "$compiler" "${flags[@]}" "$@" -o "$work/program" bpf/describe/*.c \
        "$work/libc.so.6" "$work/libdl.so.2" -lgcc
    # Packed relocations, for one, would ask for a version of a libc.
    ! readelf --wide --version-info "$work/program" | grep --quiet 'Version needs' ||
        die "$program asks for versions of a libc: this linker adds them"
    keep "$work/program" "$program"
}

confine() {
    local program=build/$native/profinfer-confine
    [[ -d bpf/confine ]] || return 0
    "${CC:-gcc}" -std=gnu11 -Os -g0 -Wall -Wextra -Werror -D_GNU_SOURCE -D_FORTIFY_SOURCE=2 \
        -fstack-protector-strong -fPIE -pie -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack \
        -Wl,--build-id=sha1 -s -o "$work/program" bpf/confine/*.c
    keep "$work/program" "$program"
}

model() {
    mkdir -p build/describer
    .venv/bin/python tools/make_tiny_gguf.py "$work/tiny.gguf"
    keep "$work/tiny.gguf" build/describer/tiny.gguf
}

if [[ ${1:-} == --out ]]; then
    describer "${CC:-gcc}" "${2:?a folder}/profinfer-describer" "${@:3}"
    exit
fi
(($# == 0)) || die "usage: tools/build_describer.sh [--out FOLDER [FLAG]...]"
for machine in x86_64 aarch64; do
    case $machine in
        x86_64) protection=(-fcf-protection=full) ;;
        # Outline atomics would come from libgcc.
        aarch64) protection=(-mbranch-protection=standard -mno-outline-atomics) ;;
    esac
    compiler=$machine-linux-gnu-gcc
    [[ $machine == "$native" ]] && compiler=${CC:-gcc}
    if command -v "$compiler" >/dev/null; then
        describer "$compiler" "build/$machine/profinfer-describer" "${protection[@]}"
    else
        echo "build_describer: no $compiler, so no build/$machine/profinfer-describer" >&2
        [[ $machine != "$native" ]]
    fi
done
confine
model
