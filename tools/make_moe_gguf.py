"""A mixture of experts with random weights, small enough for tests.

    python tools/make_moe_gguf.py build/models/moe-60x4.gguf
    python tools/make_moe_gguf.py build/models/moe-128x8.gguf --experts 128 --used 8
    python tools/make_moe_gguf.py build/models/moe-shared.gguf --shared 2

What a router chooses depends on its own weights and on its input: with random ones every expert is
used, some more than others. The architecture is llama's, with --shared that of qwen2moe, whose
shared experts every token passes. The same arguments make the same bytes.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Type
from make_dense_gguf import vocabulary

_SKEW = 0.7
"""Standard deviation of the logarithm of a router row's length: what makes some experts popular."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """What the model looks like; `shared` is the width of the shared expert in experts."""

    layers: int = 4
    embd: int = 128
    heads: int = 4
    kv_heads: int = 2
    experts: int = 60
    used: int = 4
    width: int = 96
    shared: int = 0
    vocab: int = 1024
    context: int = 4096

    def check(self) -> None:
        """SystemExit when no engine could load it."""
        if not 0 < self.used <= self.experts:
            raise SystemExit("--used must be between 1 and --experts")
        if self.embd % 32 or self.width % 32:
            raise SystemExit("--embd and --width must be multiples of 32, the size of a block")
        if self.embd % self.heads or self.heads % self.kv_heads:
            raise SystemExit("--heads must divide --embd, and --kv-heads divide --heads")

    @property
    def architecture(self) -> str:
        """The architecture's name in the file."""
        return "qwen2moe" if self.shared else "llama"


def tensors(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every tensor, the contiguous dimension last."""
    kv = shape.embd // shape.heads * shape.kv_heads
    yield "token_embd", (shape.vocab, shape.embd)
    yield "output_norm", (shape.embd,)
    yield "output", (shape.vocab, shape.embd)
    for i in range(shape.layers):
        blk = f"blk.{i}."
        yield blk + "attn_norm", (shape.embd,)
        yield blk + "attn_q", (shape.embd, shape.embd)
        yield blk + "attn_k", (kv, shape.embd)
        yield blk + "attn_v", (kv, shape.embd)
        yield blk + "attn_output", (shape.embd, shape.embd)
        yield blk + "ffn_norm", (shape.embd,)
        yield blk + "ffn_gate_inp", (shape.experts, shape.embd)
        yield blk + "ffn_gate_exps", (shape.experts, shape.width, shape.embd)
        yield blk + "ffn_up_exps", (shape.experts, shape.width, shape.embd)
        yield blk + "ffn_down_exps", (shape.experts, shape.embd, shape.width)
        if shape.shared:
            wide = shape.shared * shape.width
            yield blk + "ffn_gate_inp_shexp", (shape.embd,)
            yield blk + "ffn_gate_shexp", (wide, shape.embd)
            yield blk + "ffn_up_shexp", (wide, shape.embd)
            yield blk + "ffn_down_shexp", (shape.embd, wide)


def weights(rng: np.random.Generator, name: str, size: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Random weights that keep activations in range; norms are 1."""
    if name.endswith("_norm"):
        return np.ones(size, np.float32)
    found = rng.standard_normal(size, np.float32) / np.float32(np.sqrt(size[-1]))
    if name.endswith("gate_inp"):
        lengths = np.exp(rng.normal(0, _SKEW, (size[0], 1))).astype(np.float32)
        found *= 2 * lengths
    if name == "token_embd":
        found *= np.float32(np.sqrt(size[-1]))
    return found


def write(out: Path, shape: Shape, seed: int = 1) -> None:
    """Writes the model. The file appears under its name only when it is whole."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    writer = gguf.GGUFWriter(str(part), shape.architecture)
    writer.add_name(f"mixture of {shape.experts} experts, random weights, seed {seed}")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.embd)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.width)
    writer.add_expert_feed_forward_length(shape.width)
    writer.add_expert_count(shape.experts)
    writer.add_expert_used_count(shape.used)
    if shape.shared:
        writer.add_expert_shared_feed_forward_length(shape.shared * shape.width)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.embd // shape.heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(shape.vocab)
    writer.add_tokenizer_model("llama")
    texts, kinds = vocabulary(shape.vocab)
    writer.add_token_list(texts)
    writer.add_token_scores([-float(i) for i in range(shape.vocab)])
    writer.add_token_types(kinds)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    rng = np.random.Generator(np.random.SFC64(seed))
    for name, size in tensors(shape):
        data = weights(rng, name.rpartition(".")[2], size)
        if "_exps" in name:
            writer.add_tensor(
                f"{name}.weight", gguf.quants.quantize(data, Type.Q8_0), raw_dtype=Type.Q8_0
            )
        else:
            writer.add_tensor(f"{name}.weight", data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(part, out)


def main(argv: list[str] | None = None) -> int:
    """Makes the model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    for field in dataclasses.fields(Shape):
        flag = "--" + field.name.replace("_", "-")
        parser.add_argument(flag, type=int, default=field.default, help=f"default {field.default}")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    shape = Shape(**{f.name: getattr(args, f.name) for f in dataclasses.fields(Shape)})
    shape.check()
    write(args.out, shape, args.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
