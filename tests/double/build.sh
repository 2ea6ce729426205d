#!/bin/sh
# build.sh OUTDIR: libknown.so with known (linked) and known-dl (dlopens it); known-static and
# known-static-dwarf (nothing dynamic, symbols kept; the second with DWARF); libnoggml.so, other.
set -eu
src=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
cd "$1"
CC=${CC:-gcc}
cflags="-std=gnu11 -O2 -g0 -Wall -Wextra -pthread ${CFLAGS:-}"
# -fPIC also for what is linked statically: gcc may not inline a function that could be interposed.
$CC $cflags -fPIC -shared -Wl,-z,defs -o libknown.so "$src/ggml.c" "$src/asked.c" "$src/parts.c"
$CC $cflags -o known "$src/main.c" -L. -lknown '-Wl,-rpath,$ORIGIN'
$CC $cflags -DKNOWN_DL -o known-dl "$src/main.c" -ldl '-Wl,-rpath,$ORIGIN'
case " $cflags" in
*-fsanitize=*) exit 0 ;;    # sanitizers do not link statically
*-fpatchable-*) exit 0 ;; # what tests/recording/test_net.py needs is there
esac
$CC $cflags -fPIC -static -o known-static "$src/main.c" "$src/ggml.c" "$src/asked.c" "$src/parts.c"
$CC $cflags -g -fPIC -static -o known-static-dwarf "$src/main.c" "$src/ggml.c" "$src/asked.c" "$src/parts.c"
$CC $cflags -fPIC -shared -DOTHER_LIB -o libnoggml.so "$src/other.c"
$CC $cflags -o other "$src/other.c" -L. -lnoggml '-Wl,-rpath,$ORIGIN'
