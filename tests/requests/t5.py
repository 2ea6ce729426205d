"""t5.py FILE: a T5 of random weights: an encoder, a decoder that looks at it, no vocabulary."""

from __future__ import annotations

import sys
from pathlib import Path

import gguf
import numpy as np

VOCABULARY, WIDTH, HEADS, HIDDEN, LAYERS, BUCKETS = 256, 512, 8, 1024, 4, 32
Shapes = dict[str, tuple[int, ...]]

ATTENTION: Shapes = {"norm": (WIDTH,)} | dict.fromkeys("qkvo", (WIDTH, WIDTH))
FEEDING: Shapes = {"norm": (WIDTH,), "up": (HIDDEN, WIDTH), "down": (WIDTH, HIDDEN)}
PARTS = {
    "enc": {"attn": ATTENTION, "ffn": FEEDING},
    "dec": {"attn": ATTENTION, "cross_attn": ATTENTION, "ffn": FEEDING},
}


def shapes() -> Shapes:
    """All weights."""
    found: Shapes = {"token_embd": (VOCABULARY, WIDTH)}
    for side, parts in PARTS.items():
        found[f"{side}.output_norm"] = (WIDTH,)
        for layer in range(LAYERS):
            for part, weights in parts.items():
                for name, shape in weights.items():
                    found[f"{side}.blk.{layer}.{part}_{name}"] = shape
            found[f"{side}.blk.{layer}.attn_rel_b"] = (BUCKETS, HEADS)
    return found


def make(path: Path) -> None:
    """Writes it there: about 70 MB."""
    random = np.random.default_rng(1)
    writer = gguf.GGUFWriter(path, "t5")
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_decoder_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_key_length(WIDTH // HEADS)
    writer.add_value_length(WIDTH // HEADS)
    writer.add_relative_attn_buckets_count(BUCKETS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_layer_norm_eps(1e-6)
    writer.add_decoder_start_token_id(0)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("no_vocab")
    writer.add_file_type(0)
    for name, shape in shapes().items():
        weights = (random.standard_normal(shape) / 16).astype(np.float32)
        writer.add_tensor(f"{name}.weight", weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    make(Path(sys.argv[1]))
