"""An adapter (LoRA) of random weights for a model, for tests.

    python tools/make_lora_gguf.py MODEL OUT --weights attn_q attn_output

The same arguments make the same bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gguf
import numpy as np

RANK = 8


def make(model: Path, out: Path, weights: list[str]) -> None:
    """Adapts these weights of every layer."""
    reader = gguf.GGUFReader(model)
    field = reader.get_field("general.architecture")
    if field is None:
        raise SystemExit(f"{model} names no architecture")
    writer = gguf.GGUFWriter(out, field.contents())
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(RANK))
    random = np.random.default_rng(1)
    for tensor in reader.tensors:
        _, _, name = tensor.name.removesuffix(".weight").rpartition(".")
        if tensor.name.startswith("blk.") and name in weights:
            columns, rows = (int(n) for n in tensor.shape[:2])
            for part, shape in (("a", (RANK, columns)), ("b", (rows, RANK))):
                values = random.standard_normal(shape).astype(np.float32) * 0.01
                writer.add_tensor(f"{tensor.name}.lora_{part}", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main(argv: list[str] | None = None) -> int:
    """Makes the adapter."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", nargs="+", default=["attn_q", "attn_v"])
    args = parser.parse_args(argv)
    make(args.model, args.out, args.weights)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
