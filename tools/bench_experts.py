"""How long the queries about experts take on a trace with a million activations.

    python tools/bench_experts.py

The trace is made of records: 48 layers of 128 experts, 8 for each token, routed with a skew; 2,048
tokens of prefill in ubatches of 512, then decoding. `--prefill 0` is the dearest: every use of an
expert is a run's own, and each layer takes a page fault in every graph.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from profinfer.records.dtypes import Kind
from profinfer.trace_processor import open_trace, query
from tests.captures import MAIN, Capture, Shape, T, convert

QUERIES = (
    "experts.sql",
    "expert_reuse.sql",
    "expert_cache.sql",
    "faults.sql",
    "model_io.sql",
    "memory.sql",
    "kv_growth.sql",
)
LAYERS, EXPERTS, USED, UBATCH = 48, 128, 8, 512
ACTIVATIONS = 1_000_000


def structure(capture: Capture, at: int, tokens: int) -> Shape:
    """The graph: per layer three operators that share their ids."""
    tensors = []
    for layer in range(LAYERS):
        ids = f"ffn_moe_topk-{layer}"
        tensors.append(T(ids, "VIEW", (), (USED, tokens, 1, 1)))
        for name in ("gate", "up", "down"):
            weight = f"blk.{layer}.ffn_{name}_exps.weight"
            tensors.append(T(weight, ne=(64, 64, EXPERTS, 1)))
            tensors.append(
                T(
                    f"ffn_moe_{name}-{layer}",
                    "MUL_MAT_ID",
                    (weight, "x", ids),
                    (64, USED, tokens, 1),
                )
            )
    tensors.append(T("x"))
    return capture.structure(at, tensors, cgraph=0x9000 + tokens)


def make(path: Path, prefill: int) -> int:
    """Writes the trace, of so many ubatches of prefill at first; activations in it."""
    rng = np.random.default_rng(1)
    capture = Capture(level="operator", with_experts=True)
    capture.at_start = {"config": {**capture.start()["config"], "faults": True}}
    popularity = rng.dirichlet(np.full(EXPERTS, 0.5), LAYERS)
    shapes = {n: structure(capture, 1_000 * (i + 1), n) for i, n in enumerate((UBATCH, 1))}
    at, position, count, ubatch = 1_000_000, 0, 0, 0
    while count < ACTIVATIONS:
        tokens = UBATCH if ubatch < prefill else 1
        end = at + 1_000_000 * LAYERS
        asked = int(ubatch >= prefill - 1)
        capture.ubatch(at, end + 2_000, [(0, position, tokens, asked, asked)])
        operators = [
            (f"ffn_moe_{name}-{layer}", at + 1_000 + 1_000_000 * layer + 200_000 * i)
            for layer in range(LAYERS)
            for i, name in enumerate(("gate", "up", "down"))
        ]
        capture.graph(shapes[tokens], at + 500, end, {100: operators})
        for layer in range(LAYERS):
            noise = rng.gumbel(size=(tokens, EXPERTS)) + np.log(popularity[layer])
            ids = np.argsort(-noise, axis=1)[:, :USED]
            node = f"ffn_moe_gate-{layer}"
            capture.experts(shapes[tokens], node, at + 1_500 + 1_000_000 * layer, ids.tolist())
            fault = at + 1_000 + 1_000_000 * layer + 200_000 * int(rng.integers(3)) + 50_000
            capture.add(Kind.FAULT, fault, MAIN, 0x5000, int(rng.integers(2)))
            count += ids.size
        at, position, ubatch = end + 10_000, position + tokens, ubatch + 1
    convert(capture.frames(), path)
    return count


def main() -> int:
    """Prints seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="keep the trace here")
    parser.add_argument("--prefill", type=int, default=4, help="ubatches of it (default: 4)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = args.keep or Path(folder) / "experts.pftrace"
        count = make(path, args.prefill)
        print(f"{count:,} activations, {path.stat().st_size / 1e6:.1f} MB")
        for name in QUERIES:
            begin = time.monotonic()
            with open_trace(path, trace_processor="wasm", interruptible=False) as session:
                loaded = time.monotonic()
                query.run(session, query.read(query.resolve(name)))
            end = time.monotonic()
            print(f"{name}: loaded in {loaded - begin:.2f} s, answered in {end - loaded:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
