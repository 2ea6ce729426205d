#!/usr/bin/env bash
# build_backends.sh: two real backends beside the CPU's for the engine that requirements-dev.txt names, of
# the same build: RPC, and BLAS with Debian's OpenBLAS. Into build/backends/; what is there stays.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=$(sed -n 's/^xllamacpp==//p' requirements-dev.txt)
folder=build/backends/$(uname -m)/xllamacpp-$version
[[ ! -d $folder ]] || exit 0
echo "== building backends of xllamacpp $version"
part=$folder.part
rm -rf "$part"
mkdir -p "$part"
.venv/bin/python -m pip download --quiet --no-deps --no-binary=xllamacpp --dest "$part" \
    "xllamacpp==$version"
tar -xzf "$part"/*.tar.gz -C "$part" --strip-components=3 --wildcards \
    '*/llama.cpp/ggml/include' '*/llama.cpp/ggml/src/*.h' '*/llama.cpp/ggml/src/ggml-rpc' \
    '*/llama.cpp/ggml/src/ggml-blas'
rm "$part"/*.tar.gz
sources=$part/ggml

# Found by their own path: nothing else takes them.
.venv/bin/python tools/fetch_root.py "$(uname -m)" bookworm "$part/openblas" libopenblas-pthread-dev
libraries=$part/openblas/usr/lib/$(uname -m)-linux-gnu
find "$libraries" -name '*.a' -delete

# $1 the library, then what is compiled and linked: what of ggml they call is the engine's.
build() {
    g++ -std=c++17 -O2 -fPIC -shared -w -pthread -DGGML_BACKEND_DL -DGGML_BACKEND_BUILD \
        -DGGML_BACKEND_SHARED -DGGML_SHARED -I"$sources"/{include,src} -Wl,--build-id \
        -o "$part/$1" "${@:2}"
}
build libggml-rpc.so "$sources"/src/ggml-rpc/{ggml-rpc,transport}.cpp
build libggml-blas.so -DGGML_BLAS_USE_OPENBLAS \
    -I"$part/openblas/usr/include/$(uname -m)-linux-gnu/openblas-pthread" \
    "$sources/src/ggml-blas/ggml-blas.cpp" -L"$libraries/openblas-pthread" -lopenblas \
    "-Wl,--disable-new-dtags,-rpath,\$ORIGIN/openblas/usr/lib/$(uname -m)-linux-gnu/openblas-pthread:\$ORIGIN/openblas/usr/lib/$(uname -m)-linux-gnu"
rm -rf "$sources"
mv "$part" "$folder"
