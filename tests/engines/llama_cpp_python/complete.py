"""complete.py FOLDER MODEL: completions by the llama-cpp-python in a folder, and its own account of
each, a line of JSON. Between them it finds a prompt's beginning among what it has computed, is left
by who reads a stream, is reset, takes a state from its cache, and is closed and opened anew."""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing
from importlib import import_module
from itertools import islice
from typing import Any

folder, model = sys.argv[1:]
sys.path.insert(0, folder)
package = import_module("llama_cpp")


def words(count: int, variant: int) -> list[int]:
    """A prompt; two variants begin differently."""
    return [300 + (index * 79 + variant * 101) % 700 for index in range(count)]


def opened(**options: Any) -> Any:
    """An engine."""
    return package.Llama(model, n_ctx=512, n_batch=64, n_threads=1, n_threads_batch=1,
                         verbose=False, **options)  # fmt: skip


def tell(engine: Any, name: str, asked: Any) -> None:
    """Does as asked, and prints what the engine says of it."""
    package.llama_perf_context_reset(engine.ctx)
    begin = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    asked()
    end = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    said = package.llama_perf_context(engine.ctx)
    print(
        json.dumps(
            {"name": name, "begin": begin, "end": end, "prompt": said.n_p_eval,
             "prompt_ms": said.t_p_eval_ms, "decode": said.n_eval, "decode_ms": said.t_eval_ms}
        ),
        flush=True,
    )  # fmt: skip


def complete(
    engine: Any, name: str, prompt: list[int], predict: int, heard: int | None = None
) -> None:
    """`heard`: parts after which the reader goes away."""

    def asked() -> None:
        stream = engine.create_completion(
            prompt, max_tokens=predict, temperature=0.0, stream=True, logit_bias={"2": -100.0}
        )
        with closing(stream):
            for _ in islice(stream, heard):
                pass

    tell(engine, name, asked)


engine = opened()
complete(engine, "first", words(20, 0), 16)
complete(engine, "again", words(20, 0), 16)
complete(engine, "longer", words(26, 0), 16)
complete(engine, "parts", words(150, 1), 16)
complete(engine, "left", words(20, 2), 100, heard=5)
complete(engine, "after", words(20, 1), 16)
engine.reset()
complete(engine, "reset", words(20, 1), 16)
engine.set_cache(package.LlamaRAMCache())
complete(engine, "kept", words(40, 3), 16)
complete(engine, "other", words(30, 4), 16)
complete(engine, "restored", words(46, 3), 16)
engine.close()
engine = opened()
complete(engine, "anew", words(20, 0), 16)
engine.close()
engine = opened(embedding=True)
for number, size in enumerate((12, 40)):
    text = "the cat " * size
    tell(engine, f"embedded {number}", lambda text=text: engine.create_embedding(text))
engine.close()
