#!/usr/bin/env bash
# Records a real server under load: 4 slots, 12 requests; some are answered from the prompt cache, and
# two are given up while their prompt is read. Leaves out/demo-server.pftrace, and out/demo-server.json: what
# the clients saw, with the engine's own numbers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p out
export PATH="$PWD/.venv/bin:$PATH"
model=build/models/gemma-3-270m-q4_k_m.gguf
trace=out/demo-server.pftrace

story="Once upon a time, in a village between the hills and the sea, there lived a clockmaker who had
never heard a clock strike. Every evening she wound the clock in the tower, and every night it stood
still again before it was twelve. One day a traveller came"
long=$(printf 'The %s engine was better than the one before it. ' {1..60})

# Two stories are asked for again: what was said before is in the cache by then.
python - "$story" "$long" > out/demo-server.load <<'PYTHON'
import json
import sys

story, long = (" ".join(text.split()) for text in sys.argv[1:])
clock, sea = story, f"{story} from the sea"
print(json.dumps([[
    {"name": "first story", "at": 0.0, "prompt": clock, "n_predict": 24},
    {"name": "second story", "at": 0.1, "prompt": sea, "n_predict": 24},
    {"name": "question", "at": 0.2, "prompt": "The steam engine is", "n_predict": 40},
    {"name": "given up", "at": 0.4, "prompt": long, "n_predict": 8, "leave": 0.9},
], [
    {"name": "first story again", "at": 0.0, "prompt": clock, "n_predict": 24},
    {"name": "second story again", "at": 0.1, "prompt": sea, "n_predict": 24},
    {"name": "two answers", "at": 0.2, "prompt": "The sea is", "n_predict": 12, "n_cmpl": 2},
    {"name": "in the queue", "at": 0.3, "prompt": "One, two, three,", "n_predict": 12},
], [
    {"name": "first story once more", "at": 0.0, "prompt": clock, "n_predict": 12},
    {"name": "in words", "at": 0.1, "prompt": "A clock", "n_predict": 12,
     "grammar": "root ::= [a-z ]+"},
    {"name": "long text", "at": 0.2, "prompt": "Once more: " + long, "n_predict": 8},
    {"name": "given up, too", "at": 0.3, "prompt": "Never: " + long, "n_predict": 8, "leave": 0.9},
]]))
PYTHON

echo "== recording a server with 4 slots, 12 requests"
profinfer record --level barrier --scheduler target --force -o "$trace" -- \
    python tools/serve.py "$model" out/demo-server.load --slots 4 --threads 1 --context 8192 \
    --set n_batch=128 --set swa_full=true --cache > out/demo-server.json

echo
profinfer query requests who_delayed "$trace"

echo
echo "The trace is $trace; what the clients saw is out/demo-server.json."
