#!/usr/bin/env bash
# Fuzzes the recorder's parsers (tests/fuzz/) one after the other with libFuzzer, a minute each.
#
#   tools/fuzz.sh [TARGET]...     all of them, or those named
#
# FUZZ_SECONDS is the time for each. What is learnt stays in build/fuzz/TARGET for the next time;
# inputs with which something went wrong lie in build/fuzz/found, and the exit status is 1.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

machine=$(uname -m)
out=build/$machine/fuzz
found=build/fuzz/found
seconds=${FUZZ_SECONDS:-60}
targets=("$@")
if ((!$#)); then
    for source in tests/fuzz/target_*.c; do
        source=${source##*/target_}
        targets+=("${source%.c}")
    done
fi

make --no-print-directory --silent -j"$(nproc)" -f tests/fuzz/Makefile "OUT=$out" \
    "MACHINE=$machine" CC="${CLANG:-clang}" "${targets[@]/%/.fuzz}"

mkdir -p "$found"
status=0
for target in "${targets[@]}"; do
    mkdir -p "build/fuzz/$target" "tests/fuzz/corpus/$target"
    dictionary=()
    [[ -e tests/fuzz/$target.dict ]] && dictionary=("-dict=tests/fuzz/$target.dict")
    printf '== %s, %s s\n' "$target" "$seconds"
    # The recorder frees nothing that lives as long as it does.
    "$out/$target.fuzz" "-max_total_time=$seconds" -max_len=16384 -timeout=10 -detect_leaks=0 \
        -use_value_profile=1 -verbosity=0 -print_final_stats=1 "${dictionary[@]}" \
        "-artifact_prefix=$found/$target-" \
        "build/fuzz/$target" "tests/fuzz/corpus/$target" 2>&1 |
        sed '/recommended dictionary/Id; / # Uses: /d' || status=1
done
if ((status)); then
    echo "fuzz: something was found: run build/$machine/fuzz/TARGET.fuzz $found/TARGET-... again," \
        "mend it, and put the input into tests/fuzz/corpus/TARGET" >&2
fi
exit $status
