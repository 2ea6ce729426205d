#!/usr/bin/env bash
# build_static_engine.sh [BUILD...]: statically linked engines, in build/static/BUILD/: `engine` (whole)
# and `stripped`. BUILD: COMPILER-KIND of gcc or clang and static, static-pie or static-lto; without one,
# the four without LTO.
# Of ggml as it lies among the sources of the speech engine that requirements-whisper.txt names.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder=build/static
sources=$folder/ggml
units=(ggml.c ggml.cpp ggml-alloc.c ggml-backend.cpp ggml-backend-meta.cpp ggml-backend-reg.cpp
    ggml-backend-dl.cpp ggml-quants.c ggml-threading.cpp
    ggml-cpu/{ggml-cpu,quants,arch/x86/quants}.c
    ggml-cpu/{ggml-cpu,repack,hbm,traits,binary-ops,unary-ops,vec,ops,arch/x86/repack}.cpp
    ggml-cpu/amx/{amx,mmq}.cpp)
flags=(-O3 -DNDEBUG -mavx2 -mfma -mf16c -mbmi2 -msse4.2 -D_GNU_SOURCE -DGGML_SCHED_MAX_COPIES=4
    -DGGML_USE_CPU -DGGML_USE_CPU_REPACK -DGGML_AVX -DGGML_AVX2 -DGGML_FMA -DGGML_F16C -DGGML_BMI2
    -DGGML_SSE42 '-DGGML_VERSION="0.13.1"' '-DGGML_COMMIT="sdist"')

# ggml's own sources, and no others.
fetch() {
    [[ ! -d $sources ]] || return 0
    rm -rf "$sources.part"
    .venv/bin/python -m pip download --quiet --no-deps --no-binary=pywhispercpp \
        --dest "$sources.part" --require-hashes -r requirements-whisper.txt
    tar -xzf "$sources.part"/*.tar.gz -C "$sources.part" --strip-components=3 --wildcards \
        '*/whisper.cpp/ggml/include' '*/whisper.cpp/ggml/src/ggml*.[ch]*' \
        '*/whisper.cpp/ggml/src/gguf.cpp' '*/whisper.cpp/ggml/src/ggml-cpu'
    rm "$sources.part"/*.tar.gz
    mv "$sources.part" "$sources"
}

# $1 compiler, $2 kind, $3 the unit's source: its object.
compile() {
    local standard=(-std=gnu11) code=(-fPIE) object
    [[ $3 != *.cpp ]] || standard=(-xc++ -std=gnu++17)
    [[ $2 == static-pie ]] || code=(-fno-pie)
    [[ $2 != static-lto ]] || code+=(-flto)
    object=$folder/$1-$2/$(tr / _ <<<"${3#"$sources"/src/}").o
    "$1" "${standard[@]}" "${code[@]}" "${flags[@]}" -w -I"$sources"/{include,src,src/ggml-cpu} \
        -c -o "$object" "$3"
}

# Every unit of $1, then the program.
build() {
    local compiler=${1%%-*} kind=${1#*-} out=$folder/$1 link=(-static -no-pie)
    [[ $out/stripped -nt tests/static/driver.c &&
        $out/stripped -nt tools/build_static_engine.sh ]] && return
    [[ $kind != static-pie ]] || link=(-static-pie)
    [[ $kind != static-lto ]] || link+=(-flto=auto -O3)
    echo "== building build/static/$1"
    rm -rf "$out"
    mkdir -p "$out"
    printf '%s\0' "${units[@]/#/$sources/src/}" tests/static/driver.c |
        xargs -0 -n 1 -P "$(nproc)" tools/build_static_engine.sh --compile "$compiler" "$kind"
    "$compiler" "${link[@]}" -Wl,--build-id,--no-warnings -o "$out/engine" "$out"/*.o -lstdc++ -lm -pthread
    rm "$out"/*.o
    strip --strip-all -o "$out/stripped" "$out/engine"
}

if [[ ${1:-} == --compile ]]; then
    compile "${@:2}"
    exit
fi
fetch
(($#)) || set -- {gcc,clang}-static{,-pie}
for name; do build "$name"; done
