#!/usr/bin/env bash
# Records a mixture of experts that does not fit into the memory it is given, and says which experts
# were used, when again, and what of them was read from storage. Leaves out/demo-moe.pftrace.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p out
export PATH="$PWD/.venv/bin:$PATH"
model=build/models/moe-demo.gguf
limit=$((160 << 20))

if [[ ! -e $model ]]; then
    echo "== making $model: 60 experts, 4 of them used, random weights"
    python tools/make_moe_gguf.py "$model" --layers 3 --embd 512 --width 768
fi

# A memory cgroup, v2 or v1: pages of the model are charged to whoever brings them in.
if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then
    group=/sys/fs/cgroup/profinfer-demo-$$ bound=memory.max
else
    group=/sys/fs/cgroup/memory/profinfer-demo-$$ bound=memory.limit_in_bytes
fi
mkdir "$group" || { echo "hint: run it as root, where a memory cgroup is mounted" >&2; exit 1; }
trap 'rmdir "$group"' EXIT
if [[ ! -e $group/$bound ]]; then
    echo "demo-moe: ${group%/*} has no memory controller" >&2
    echo "hint: echo +memory >/sys/fs/cgroup/cgroup.subtree_control" >&2
    exit 1
fi
echo "$limit" >"$group/$bound"

echo "== recording 12 tokens with $((($(stat -c %s "$model") + 500000) / 1000000)) MB of weights in $((limit / 1000000)) MB of memory"
# shellcheck disable=SC2016
profinfer record --force -o out/demo-moe.pftrace --experts --faults --block-io --evict --scheduler off -- \
    sh -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$group" \
    python tools/engine.py "$model" --prompt "a b c" --predict 12 --context 256 --no-repack

echo
profinfer query experts expert_reuse faults model_io memory out/demo-moe.pftrace
