"""A dense model of random weights in Q4_K_M: of LLaMA-3.2-1B's shape, or just like a known model.

    python tools/make_dense_gguf.py build/models/dense-1b.gguf
    python tools/make_dense_gguf.py build/models/gemma-2-2b.gguf --like gemma-2-2b

No model hub is reachable from where the project is built; speed depends on shapes and types, not
on what the weights say. Nothing can quantise to K-quants in Python either, so the blocks are made
as they lie in the file: random quants below scales that give weights of mean 0. The same
arguments make the same bytes.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import string
import sys
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Type
from gguf import TokenType

Bytes = npt.NDArray[np.uint8]

_CHUNK = 1 << 16
"""Blocks (of 256 weights) made at a time: 9 to 14 MB."""
_SPREAD = 0.02
"""Standard deviation of the weights, about that of real ones."""
_Q4_K_M = 15
"""general.file_type (llama_ftype)."""
_SPECIAL = (("<unk>", TokenType.UNKNOWN), ("<s>", TokenType.CONTROL), ("</s>", TokenType.CONTROL))


@dataclasses.dataclass(frozen=True)
class Shape:
    """What the model looks like; the defaults are LLaMA-3.2-1B's."""

    layers: int = 16
    embd: int = 2048
    ff: int = 8192
    heads: int = 32
    kv_heads: int = 8
    vocab: int = 128256
    context: int = 4096
    head_dim: int = 0
    """0: embd over heads."""

    @property
    def dim(self) -> int:
        """Elements of a head."""
        return self.head_dim or self.embd // self.heads

    def check(self) -> None:
        """SystemExit when no engine could load it."""
        for name in ("embd", "ff"):
            if getattr(self, name) % 256:
                raise SystemExit(f"--{name} must be a multiple of 256, the size of a K-quant block")
        if (not self.head_dim and self.embd % self.heads) or self.heads % self.kv_heads:
            raise SystemExit("--heads must divide --embd, and --kv-heads divide --heads")
        if self.heads * self.dim % 256:
            raise SystemExit("--heads times --head-dim must be a multiple of 256")
        if self.vocab < len(_SPECIAL) + 256 + 1:
            raise SystemExit("--vocab must have room for all bytes: at least 260")


LIKE = {
    "llama-3.2-1b": ("llama", Shape()),
    "qwen-2.5-1.5b": (
        "qwen2", Shape(layers=28, embd=1536, ff=8960, heads=12, kv_heads=2, vocab=151936)
    ),
    "gemma-2-2b": (
        "gemma2",
        Shape(layers=26, embd=2304, ff=9216, heads=8, kv_heads=4, vocab=256000, head_dim=256),
    ),
}  # fmt: skip
"""Known models: what engines call the architecture, and its shape."""


def q4_k(rng: np.random.Generator, blocks: int) -> Bytes:
    """Blocks of Q4_K: d, dmin (f16), 12 bytes of 6-bit scales and minima, 128 of 4-bit quants.

    A weight is d * scale * quant - dmin * minimum. With minimum = scale and dmin = 7.5 d it is
    d * scale * (quant - 7.5), whose mean is 0.
    """
    out = rng.integers(0, 256, (blocks, 144), np.uint8)
    # Standard deviations: 4.6 of a quant, 37 is the root mean square of a scale.
    d = _SPREAD / (4.61 * 37.0)
    out[:, :4] = np.array([d, 7.5 * d], "<f2").view(np.uint8)
    out[:, 8:12] = out[:, 4:8]
    low = out[:, 12:16] & 0xF
    out[:, 12:16] = low << 4 | low
    return out


def q6_k(rng: np.random.Generator, blocks: int) -> Bytes:
    """Blocks of Q6_K: 128 + 64 bytes of 6-bit quants, 16 scales (i8), d (f16).

    A weight is d * scale * (quant - 32).
    """
    out = rng.integers(0, 256, (blocks, 210), np.uint8)
    # Scales from 4 to 11 (root mean square 7.8), so that d does not fall below normal f16.
    out[:, 192:208] = (out[:, 192:208] & 7) + 4
    out[:, 208:] = np.array([_SPREAD / (18.5 * 7.8)], "<f2").view(np.uint8)
    return out


_MAKERS = {Type.Q4_K: (q4_k, 144), Type.Q6_K: (q6_k, 210)}


def weights(rng: np.random.Generator, kind: Type, rows: int, columns: int) -> Bytes:
    """A matrix as bytes."""
    make, size = _MAKERS[kind]
    count = rows * columns // 256
    out = np.empty((count, size), np.uint8)
    for first in range(0, count, _CHUNK):
        out[first : first + _CHUNK] = make(rng, min(_CHUNK, count - first))
    return out.reshape(rows, -1)


def tensors(shape: Shape, like: str = "") -> Iterator[tuple[str, Type, tuple[int, ...]]]:
    """Name, type and (rows, columns) of every tensor. The output layer is token_embd's, as in
    the real ones."""
    q, kv = shape.heads * shape.dim, shape.kv_heads * shape.dim
    yield "token_embd.weight", Type.Q6_K, (shape.vocab, shape.embd)
    yield "output_norm.weight", Type.F32, (shape.embd,)
    if like == "llama-3.2-1b":
        yield "rope_freqs.weight", Type.F32, (shape.dim // 2,)
    further: tuple[tuple[str, int], ...] = ()
    if like == "qwen-2.5-1.5b":
        further = (("attn_q.bias", q), ("attn_k.bias", kv), ("attn_v.bias", kv))
    elif like == "gemma-2-2b":
        further = (
            ("post_attention_norm.weight", shape.embd), ("post_ffw_norm.weight", shape.embd),
        )  # fmt: skip
    eighth = shape.layers // 8
    for i in range(shape.layers):
        # llama.cpp's quantiser gives more bits to the first and last eighth and every third.
        more = i < eighth or i >= 7 * shape.layers // 8 or (i - eighth) % 3 == 2
        best = Type.Q6_K if more else Type.Q4_K
        for name, kind, size in (
            ("attn_norm", Type.F32, (shape.embd,)),
            ("attn_q", Type.Q4_K, (q, shape.embd)),
            ("attn_k", Type.Q4_K, (kv, shape.embd)),
            ("attn_v", best, (kv, shape.embd)),
            ("attn_output", Type.Q4_K, (shape.embd, q)),
            ("ffn_norm", Type.F32, (shape.embd,)),
            ("ffn_gate", Type.Q4_K, (shape.ff, shape.embd)),
            ("ffn_up", Type.Q4_K, (shape.ff, shape.embd)),
            ("ffn_down", best, (shape.embd, shape.ff)),
        ):
            yield f"blk.{i}.{name}.weight", kind, size
        for name, rows in further:
            yield f"blk.{i}.{name}", Type.F32, (rows,)


def vocabulary(size: int) -> tuple[list[str], list[TokenType]]:
    """Tokens for any text: every byte, then all words of one letter, two, three and so on, each
    after a space and within a word.

    There must be texts, not a language: with `no_vocab` llama.cpp's server aborts as soon as it
    wants to show a token.
    """
    words = (
        "".join(letters)
        for length in itertools.count(1)
        for letters in itertools.product(string.ascii_lowercase, repeat=length)
    )
    pieces = (space + word for word in words for space in ("\u2581", ""))
    texts = [text for text, _ in _SPECIAL] + [f"<0x{i:02X}>" for i in range(256)]
    kinds = [kind for _, kind in _SPECIAL] + [TokenType.BYTE] * 256
    normal = size - len(texts)
    return [*texts, *itertools.islice(pieces, normal)], kinds + [TokenType.NORMAL] * normal


def write(out: Path, shape: Shape, seed: int, like: str = "") -> None:
    """Writes the model. The file appears under its name only when it is whole."""
    part = out.with_name(out.name + ".part")
    architecture = LIKE[like][0] if like else "llama"
    writer = gguf.GGUFWriter(str(part), architecture)
    writer.add_name(f"dense, random weights, seed {seed}")
    writer.add_file_type(_Q4_K_M)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.embd)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ff)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.dim)
    writer.add_rope_freq_base(
        {"llama": 500000.0, "qwen2": 1000000.0, "gemma2": 10000.0}[architecture]
    )
    writer.add_layer_norm_rms_eps(1e-5 if architecture == "llama" else 1e-6)
    if architecture == "gemma2":
        writer.add_key_length(shape.dim)
        writer.add_value_length(shape.dim)
        writer.add_attn_logit_softcapping(50.0)
        writer.add_final_logit_softcapping(30.0)
        writer.add_sliding_window(4096)
    writer.add_vocab_size(shape.vocab)
    writer.add_tokenizer_model("llama")
    texts, kinds = vocabulary(shape.vocab)
    writer.add_token_list(texts)
    writer.add_token_scores([-float(i) for i in range(shape.vocab)])
    writer.add_token_types(kinds)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    sizes = list(tensors(shape, like))
    for name, kind, size in sizes:
        if kind == Type.F32:
            writer.add_tensor_info(name, size, np.dtype(np.float32), 4 * size[0])
        else:
            row = size[1] // 256 * _MAKERS[kind][1]
            writer.add_tensor_info(
                name, (size[0], row), np.dtype(np.uint8), size[0] * row, raw_dtype=kind
            )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    rng = np.random.Generator(np.random.SFC64(seed))
    for _, kind, size in sizes:
        if kind == Type.F32:
            writer.write_tensor_data(np.ones(size, np.float32))
        else:
            writer.write_tensor_data(weights(rng, kind, *size))
    writer.close()
    os.replace(part, out)


def main(argv: list[str] | None = None) -> int:
    """Makes the model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--like", choices=tuple(LIKE), default="", help="a known model")
    for field in dataclasses.fields(Shape):
        flag = "--" + field.name.replace("_", "-")
        parser.add_argument(flag, type=int, help=f"default {field.default}, or as --like has it")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    given = {f.name: getattr(args, f.name) for f in dataclasses.fields(Shape)}
    shape = dataclasses.replace(
        LIKE[args.like][1] if args.like else Shape(),
        **{name: size for name, size in given.items() if size is not None},
    )
    shape.check()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write(args.out, shape, args.seed, args.like)
    return 0


if __name__ == "__main__":
    sys.exit(main())
