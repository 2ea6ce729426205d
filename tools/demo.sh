#!/usr/bin/env bash
# Records a real engine with a real model, and says what came out. Leaves out/demo.pftrace and, to be
# looked at in a browser, out/demo.html; and a second, short recording, out/demo-counters.pftrace.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p out
export PATH="$PWD/.venv/bin:$PATH"
model=build/models/gemma-3-270m-q4_k_m.gguf
trace=out/demo.pftrace

record() { # trace, tokens, option...
    profinfer record --level barrier "${@:3}" --force -o "$1" -- \
        python tools/engine.py "$model" --prompt "The history of the steam engine begins with" --predict "$2"
}

echo "== recording 64 tokens of Gemma-3-270M at level barrier"
record "$trace" 64
profinfer query overhead "$trace" 2>/dev/null | grep '^Predicted slowdown'
echo "== recording 4 tokens with a counter: operators are recorded through the kernel, and it says why"
record out/demo-counters.pftrace 4 --counters faults
profinfer query recording out/demo-counters.pftrace 2>/dev/null | grep 'stubs that record'

# No more than 40 lines in all, so that they are on one screen.
[[ -t 1 ]] || export COLUMNS=110
echo "== profinfer explain $trace"
profinfer explain "$trace"
echo "== profinfer query summary $trace"
profinfer query summary "$trace" 2> >(grep -vE '^(profinfer: warning|hint): ' >&2) # once is enough
echo "== to look at it: .venv/bin/profinfer ui $trace, https://ui.perfetto.dev, or the page that profinfer report makes:"
profinfer report "$trace" --force -o out/demo.html
