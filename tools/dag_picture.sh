#!/usr/bin/env bash
# Makes a known model of random weights in its full width, records a few tokens of one thread, and draws a
# layer.
#   tools/dag_picture.sh [gemma-2-2b|qwen-2.5-1.5b|llama-3.2-1b] [OUT.svg]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
name=${1:-gemma-2-2b}
picture=${2:-docs/pictures/dag.svg}
mkdir -p out "$(dirname "$picture")"
model=out/$name.gguf
trap 'rm -f "$model"' EXIT

.venv/bin/python tools/make_dense_gguf.py "$model" --like "$name"
.venv/bin/python -m profinfer record --level barrier --force -o "out/$name.pftrace" -- \
    .venv/bin/python tools/engine.py "$model" --predict 8 --threads 1 --context 512 --flash off
.venv/bin/python -m profinfer dag "out/$name.pftrace" --force -o "$picture"
