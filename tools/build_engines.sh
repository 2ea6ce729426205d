#!/usr/bin/env bash
# build_engines.sh: the engines of `make test-engines` that are built or come from another system, into
# build/: static ones, llama-cpp-python from two sdists a year apart, of which the older one's compiler leaves
# ggml_compute_forward a function, and Debian unstable's llama.cpp. Takes minutes; what is there stays.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Of $1 (older or newer). Symbols that no other object needs stay in it, as where one builds by hand.
build_llama_cpp_python() {
    local wanted=tests/engines/llama_cpp_python/$1.txt version folder
    version=$(sed -n 's/^llama-cpp-python==\([^ ]*\).*/\1/p' "$wanted")
    folder=build/engines/x86_64/llama-cpp-python-$version
    [[ ! -d $folder ]] || return 0
    echo "== building llama-cpp-python $version"
    rm -rf "$folder.part"
    CMAKE_ARGS="-DLLAVA_BUILD=OFF" CMAKE_BUILD_PARALLEL_LEVEL=$(nproc) SKBUILD_INSTALL_STRIP=false \
        .venv/bin/python -m pip install --quiet --no-deps --no-binary=llama-cpp-python \
        --no-cache-dir --require-hashes -r "$wanted" --target "$folder.part"
    mv "$folder.part" "$folder"
}

# With packages' own names for what it is linked with.
fetch_debian() {
    local folder=build/roots/x86_64-unstable-llama
    [[ ! -d $folder ]] || return 0
    echo "== fetching Debian unstable's llama.cpp"
    .venv/bin/python tools/fetch_root.py x86_64 unstable "$folder" llama.cpp
}

tools/build_static_engine.sh
fetch_debian
build_llama_cpp_python older
build_llama_cpp_python newer
