"""The real engine through llama.cpp's C interface: decodes given tokens, and nothing else.

    python decode.py LIBRARY MODEL BATCHES [--dump] [--wait]

BATCHES is JSON: one list per llama_decode of [token, position, sequence]. With --dump an eval
callback writes down what the engine has, a line of JSON each, in the order of execution:
  {"input": "inp_tokens", "values": [...]}  rows that a GET_ROWS takes: the graph's tokens, and
                                            (out_ids) which of its rows go on to the last layer
  {"layer": 0, "ids": [[...], ...]}         the ids tensor of a MUL_MAT_ID, once per graph
  {"layer": 0, "weights": [[...], ...]}     by what the chosen experts' outputs are multiplied
What of the engine's structs is used here was read in its headers, not taken from profinfer.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import re
import sys
from typing import Any

Ptr, I32, I64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64


class Params(ctypes.Structure):
    """llama_model_params or llama_context_params: larger than either."""

    _fields_ = (("words", ctypes.c_uint32 * 256),)


class Batch(ctypes.Structure):
    """struct llama_batch"""

    _fields_ = (("n_tokens", I32), ("token", Ptr), ("embd", Ptr), ("pos", Ptr), ("n_seq_id", Ptr),
                ("seq_id", Ptr), ("logits", Ptr), ("spare", ctypes.c_uint64 * 6))  # fmt: skip


class Tensor(ctypes.Structure):
    """The beginning of struct ggml_tensor."""

    _fields_ = (("type", I32), ("buffer", Ptr), ("ne", I64 * 4), ("nb", I64 * 4), ("op", I32),
                ("op_params", I32 * 16), ("flags", I32), ("src", Ptr * 10))  # fmt: skip


CALLBACK = ctypes.CFUNCTYPE(ctypes.c_bool, Ptr, ctypes.c_bool, Ptr)
CB_EVAL, THREADS = 88, 28
"""Offsets in llama_context_params: cb_eval, which follows defrag_thold, and n_threads with
n_threads_batch behind it."""


class Engine:
    """The loaded library."""

    def __init__(self, library: str) -> None:
        self.lib: Any = ctypes.CDLL(library)
        self.lib.ggml_op_desc.restype = self.lib.ggml_get_name.restype = ctypes.c_char_p
        self.lib.ggml_op_desc.argtypes = self.lib.ggml_get_name.argtypes = [Ptr]
        self.lib.ggml_backend_tensor_get.argtypes = [Ptr, Ptr, ctypes.c_size_t, ctypes.c_size_t]
        for name in ("llama_model_default_params", "llama_context_default_params"):
            getattr(self.lib, name).restype = Params
        self.lib.llama_model_load_from_file.restype = Ptr
        self.lib.llama_model_load_from_file.argtypes = [ctypes.c_char_p, Params]
        self.lib.llama_init_from_model.restype = Ptr
        self.lib.llama_init_from_model.argtypes = [Ptr, Params]
        self.lib.llama_decode.argtypes = [Ptr, Batch]
        self.lib.llama_free.argtypes = [Ptr]
        self.quiet = ctypes.CFUNCTYPE(None, I32, ctypes.c_char_p, Ptr)(lambda *_: None)
        self.lib.llama_log_set(self.quiet, None)
        self.lib.llama_backend_init()
        self.seen: set[int] = set()
        self.weights: list[list[float]] | None = None

    def rows(self, tensor: Tensor, kind: Any, dims: tuple[int, int]) -> list[list[Any]]:
        """The elements of a tensor along two of its dimensions."""
        inner, outer = dims
        found = []
        for row in range(tensor.ne[outer]):
            values = []
            for i in range(tensor.ne[inner]):
                value = kind()
                at = row * tensor.nb[outer] + i * tensor.nb[inner]
                self.lib.ggml_backend_tensor_get(
                    ctypes.byref(tensor), ctypes.byref(value), at, ctypes.sizeof(kind)
                )
                values.append(value.value)
            found.append(values)
        return found

    def on_eval(self, address: int, ask: bool, _data: object) -> bool:
        """Called before (ask) and after each node."""
        name = self.lib.ggml_get_name(address).decode()
        tensor = Tensor.from_address(address)
        if self.lib.ggml_op_desc(address) == b"MUL_MAT_ID":
            ids = tensor.src[2] or 0
            if not ask and ids not in self.seen:
                self.seen.add(ids)
                line = {
                    "layer": int(name.rpartition("-")[2]),
                    "ids": self.rows(Tensor.from_address(ids), I32, (0, 1)),
                }
                print(json.dumps(line), flush=True)
        elif re.fullmatch(r"ffn_moe_weighted-\d+", name):
            if not ask:
                # [1, used, tokens]: by what the chosen experts' outputs are multiplied.
                rows = self.rows(Tensor.from_address(tensor.src[1]), ctypes.c_float, (1, 2))
                print(json.dumps({"layer": int(name.rpartition("-")[2]), "weights": rows}),
                      flush=True)  # fmt: skip
        elif self.lib.ggml_op_desc(address) == b"GET_ROWS":
            taken = Tensor.from_address(tensor.src[1])
            if not ask and taken.op == 0:
                line = {
                    "input": self.lib.ggml_get_name(tensor.src[1]).decode(),
                    "values": self.rows(taken, I32, (0, 1))[0],
                }
                if line["input"] == "inp_tokens":
                    self.seen.clear()  # the next graph
                print(json.dumps(line), flush=True)
        else:
            return not ask
        return True


def batch(tokens: list[list[int]]) -> tuple[Batch, list[Any]]:
    """A llama_batch, and what must live as long as it; logits of every sequence's last token."""
    count = len(tokens)
    last = {sequence: i for i, (_, _, sequence) in enumerate(tokens)}
    token = (I32 * count)(*(t for t, _, _ in tokens))
    position = (I32 * count)(*(p for _, p, _ in tokens))
    ones = (I32 * count)(*([1] * count))
    sequences = [I32(s) for _, _, s in tokens]
    pointers = (Ptr * count)(*map(ctypes.addressof, sequences))
    logits = (ctypes.c_int8 * count)(*(int(i in last.values()) for i in range(count)))
    kept: list[Any] = [token, position, ones, pointers, logits]
    fields = [ctypes.addressof(item) for item in kept]
    return Batch(count, fields[0], None, *fields[1:]), [*kept, *sequences]


def main() -> int:
    """Decodes the batches."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library")
    parser.add_argument("model")
    parser.add_argument("batches")
    parser.add_argument("--dump", action="store_true")
    parser.add_argument("--warm-up", action="store_true", help="two tokens to all experts, first")
    parser.add_argument("--wait", action="store_true", help="for a line, before the first batch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ubatch", type=int, default=512)
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--sequences", type=int, default=4)
    args = parser.parse_args()
    engine = Engine(args.library)
    model = engine.lib.llama_model_load_from_file(
        args.model.encode(), engine.lib.llama_model_default_params()
    )
    assert model, "the model cannot be loaded"
    params = engine.lib.llama_context_default_params()
    params.words[0] = args.context
    params.words[2] = args.ubatch
    params.words[3] = args.sequences
    assert list(params.words[THREADS // 4 : THREADS // 4 + 2]) == [4, 4], "n_threads is elsewhere"
    params.words[THREADS // 4] = params.words[THREADS // 4 + 1] = args.threads
    callback = CALLBACK(engine.on_eval)
    if args.dump:
        pointer = ctypes.cast(callback, Ptr).value or 0
        at = CB_EVAL // 4
        assert list(params.words[at : at + 4]) == [0] * 4, "cb_eval is not where it was"
        params.words[at], params.words[at + 1] = pointer & 0xFFFFFFFF, pointer >> 32
    context = engine.lib.llama_init_from_model(model, params)
    assert context, "no context"
    if args.warm_up:
        engine.lib.llama_set_warmup.argtypes = [Ptr, ctypes.c_bool]
        engine.lib.llama_get_memory.argtypes = [Ptr]
        engine.lib.llama_get_memory.restype = Ptr
        engine.lib.llama_memory_clear.argtypes = [Ptr, ctypes.c_bool]
        engine.lib.llama_set_warmup(context, True)
        one, _kept = batch([[1, 0, 0], [2, 1, 0]])
        assert engine.lib.llama_decode(context, one) == 0
        engine.lib.llama_memory_clear(engine.lib.llama_get_memory(context), True)
        engine.lib.llama_set_warmup(context, False)
    if args.wait:
        print("ready", file=sys.stderr, flush=True)
        sys.stdin.readline()
    for tokens in json.loads(args.batches):
        one, _kept = batch(tokens)
        status = engine.lib.llama_decode(context, one)
        assert status == 0, f"llama_decode returned {status}"
    engine.lib.llama_free(context)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
