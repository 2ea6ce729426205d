#!/usr/bin/env bash
# Records a real engine with a real model, and answers from the trace. Leaves out/demo.pftrace.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p out
export PATH="$PWD/.venv/bin:$PATH"
model=build/models/gemma-3-270m-q4_k_m.gguf

echo "== recording 64 tokens of Gemma-3-270M at level barrier"
profinfer record --level barrier --counters faults --force -o out/demo.pftrace -- \
    python tools/engine.py "$model" --prompt "The history of the steam engine begins with" --predict 64

for query in summary stalls interference counters; do
    echo
    echo "== profinfer query $query out/demo.pftrace"
    profinfer query "$query" out/demo.pftrace
done

echo
echo "The trace is out/demo.pftrace. To look at it:"
echo "  .venv/bin/profinfer ui out/demo.pftrace     the Perfetto UI, served from this machine"
echo "  https://ui.perfetto.dev                     open the file there; it stays in your browser"
