"""The smallest model that llama.cpp decodes: random weights, one layer, no vocabulary."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

WIDTH, HEADS, HIDDEN = 64, 4, 64


@contextmanager
def tiny_model(vocabulary: int) -> Iterator[int]:
    """A descriptor of a GGUF in anonymous memory (about 150 kB), closed afterwards.

    It needs no file name: whoever inherits it opens `/proc/self/fd/N`. Token ids run from 0 to
    `vocabulary - 1`.
    """
    # Only a cold start needs it, and importing it costs more than all the rest of the parent's.
    import gguf
    import numpy as np

    random = np.random.default_rng(1)
    descriptor = os.memfd_create("profinfer-tiny.gguf", os.MFD_CLOEXEC)
    try:
        writer = gguf.GGUFWriter(f"/proc/self/fd/{descriptor}", "llama")
        writer.add_context_length(4096)
        writer.add_embedding_length(WIDTH)
        writer.add_block_count(1)
        writer.add_feed_forward_length(HIDDEN)
        writer.add_head_count(HEADS)
        writer.add_head_count_kv(HEADS)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_rope_dimension_count(WIDTH // HEADS)
        writer.add_vocab_size(vocabulary)
        writer.add_tokenizer_model("no_vocab")
        writer.add_file_type(0)
        shapes = {
            "token_embd": (vocabulary, WIDTH),
            "output_norm": (WIDTH,),
            "output": (vocabulary, WIDTH),
            "blk.0.attn_norm": (WIDTH,),
            "blk.0.attn_q": (WIDTH, WIDTH),
            "blk.0.attn_k": (WIDTH, WIDTH),
            "blk.0.attn_v": (WIDTH, WIDTH),
            "blk.0.attn_output": (WIDTH, WIDTH),
            "blk.0.ffn_norm": (WIDTH,),
            "blk.0.ffn_gate": (HIDDEN, WIDTH),
            "blk.0.ffn_up": (HIDDEN, WIDTH),
            "blk.0.ffn_down": (WIDTH, HIDDEN),
        }
        for name, shape in shapes.items():
            weights = random.standard_normal(shape).astype(np.float32)
            writer.add_tensor(f"{name}.weight", weights)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        yield descriptor
    finally:
        os.close(descriptor)
