"""The model that engines decode."""

from __future__ import annotations

from pathlib import Path

import make_dense_gguf


def make_model(path: Path) -> Path:
    """Few layers, and wide: beside other work, a barrier may wait for a thread's turn each time."""
    shape = make_dense_gguf.Shape(layers=2, embd=1024, ff=4096, heads=16, kv_heads=8, vocab=1024)
    make_dense_gguf.write(path, shape, seed=1)
    return path
