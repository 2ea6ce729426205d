"""direct.py MODEL (all-logits PROMPT | encode TOKENS) PREDICT: asks an engine by its C interface.

    all-logits  decodes a prompt in micro-batches of 64, with the logits of every token, each time
                in a context that is made for it
    encode      encodes tokens, then decodes with what came of them

and predicts so many tokens; three times. Prints how long it was until the first, and until each
later one, in ms.
"""

from __future__ import annotations

import ctypes
import importlib.util
import itertools
import json
import sys
import time
from ctypes import c_bool, c_char_p, c_int, c_int8, c_int32, c_uint32, c_void_p
from pathlib import Path
from typing import Any

TIMES = 3
UBATCH = {"all-logits": 64, "encode": 128}
"""An encoder's tokens must fit into one."""


class Parameters(ctypes.Structure):
    """A struct of unknown contents, larger than any."""

    _fields_ = [("words", c_uint32 * 256)]


class Batch(ctypes.Structure):
    """llama_batch."""

    _fields_ = [
        ("count", c_int32), ("token", ctypes.POINTER(c_int32)), ("embd", c_void_p),
        ("position", ctypes.POINTER(c_int32)), ("sequences", ctypes.POINTER(c_int32)),
        ("sequence", ctypes.POINTER(ctypes.POINTER(c_int32))),
        ("logits", ctypes.POINTER(c_int8)),
    ]  # fmt: skip


class Engine:
    """A model and a context."""

    def __init__(self, model: str, ubatch: int) -> None:
        spec = importlib.util.find_spec("xllamacpp")
        assert spec
        assert spec.origin
        [path] = Path(spec.origin).parent.glob("xllamacpp*.so")
        self._library = ctypes.CDLL(str(path))
        log = ctypes.CFUNCTYPE(None, c_int, c_char_p, c_void_p)
        self._quiet = log(lambda *_: None)
        self.call(None, "llama_log_set", self._quiet, None)
        self.call(None, "llama_backend_init")
        parameters = self.call(Parameters, "llama_model_default_params")
        loaded = self.call(c_void_p, "llama_model_load_from_file", model.encode(), parameters)
        assert loaded
        self._model = c_void_p(loaded)
        self._parameters = self.call(Parameters, "llama_context_default_params")
        self._parameters.words[0:3] = [512, 512, ubatch]  # n_ctx, n_batch, n_ubatch
        self._make()
        self._sampler = c_void_p(self.call(c_void_p, "llama_sampler_init_greedy"))
        self._batch = self.call(Batch, "llama_batch_init", 512, 0, 1)

    def call(self, returns: Any, name: str, *arguments: object) -> Any:
        """Calls a function of the library."""
        function = getattr(self._library, name)
        function.restype = returns
        return function(*arguments)

    def run(self, name: str, tokens: list[int], position: int, outputs: bool) -> None:
        """llama_encode or llama_decode: the last token's logits, or those of all."""
        batch = self._batch
        batch.count = len(tokens)
        for index, token in enumerate(tokens):
            batch.token[index] = token
            batch.position[index] = position + index
            batch.sequences[index] = 1
            batch.sequence[index][0] = 0
            batch.logits[index] = outputs or index == len(tokens) - 1
        assert not self.call(c_int, name, self._context, batch)

    def _make(self) -> None:
        made = self.call(c_void_p, "llama_init_from_model", self._model, self._parameters)
        self._context = c_void_p(made)
        self.call(None, "llama_set_n_threads", self._context, 1, 1)

    def renew(self) -> None:
        """The context."""
        self.call(None, "llama_free", self._context)
        self._make()

    def forget(self) -> None:
        """All that was computed."""
        memory = c_void_p(self.call(c_void_p, "llama_get_memory", self._context))
        self.call(None, "llama_memory_clear", memory, c_bool(True))

    def sample(self) -> int:
        """The likeliest token after the last."""
        token = self.call(c_int32, "llama_sampler_sample", self._sampler, self._context, -1)
        assert isinstance(token, int)
        return token


def main() -> None:
    """Asks, and prints what it took."""
    model, kind, count, predict = sys.argv[1:]
    engine = Engine(model, UBATCH[kind])
    for _ in range(TIMES):
        ask(engine, kind, int(count), int(predict))
        engine.forget() if kind == "encode" else engine.renew()


def ask(engine: Engine, kind: str, count: int, predict: int) -> None:
    """Once."""
    prompt = [3 + index % 250 for index in range(count)]
    times = [time.perf_counter()]
    if kind == "encode":
        engine.run("llama_encode", prompt, 0, outputs=True)
        engine.run("llama_decode", [0], 0, outputs=False)
        position = 1
    else:
        engine.run("llama_decode", prompt, 0, outputs=True)
        position = len(prompt)
    for _ in range(predict):
        token = engine.sample()
        times.append(time.perf_counter())
        if len(times) <= predict:
            engine.run("llama_decode", [token], position, outputs=False)
            position += 1
    first, *steps = (1e3 * (b - a) for a, b in itertools.pairwise(times))
    print(json.dumps({"first_ms": first, "steps_ms": steps}))


if __name__ == "__main__":
    main()
