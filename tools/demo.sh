#!/usr/bin/env bash
# Records a real engine with a real model, and says what came out. Leaves out/demo.pftrace and, to be
# looked at in a browser, out/demo.html.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p out
export PATH="$PWD/.venv/bin:$PATH"
model=build/models/gemma-3-270m-q4_k_m.gguf
trace=out/demo.pftrace

echo "== recording 64 tokens of Gemma-3-270M at level barrier"
profinfer record --level barrier --counters faults --force -o "$trace" -- \
    python tools/engine.py "$model" --prompt "The history of the steam engine begins with" --predict 64

# No more than 40 lines in all, so that they are on one screen.
[[ -t 1 ]] || export COLUMNS=110
echo "== profinfer explain $trace"
profinfer explain "$trace"
echo "== profinfer query summary $trace"
profinfer query summary "$trace" 2> >(grep -vE '^(profinfer: warning|hint): ' >&2) # once is enough
echo "== to look at it: .venv/bin/profinfer ui $trace, https://ui.perfetto.dev, or the page that profinfer report makes:"
profinfer report "$trace" --force -o out/demo.html
