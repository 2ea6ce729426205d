"""adapted.py MODEL ADAPTER: the model twice in one process, of which the first is adapted from its
second request on. A line of JSON per request: model, scale and the engine's own timings."""

from __future__ import annotations

import json
import sys

import xllamacpp

model, adapter = sys.argv[1:]


def serve(adapters: list[xllamacpp.CommonAdapterLoraInfo]) -> xllamacpp.Server:
    """A server with a slot and a thread."""
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel, params.warmup = model, 512, 1, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.lora_adapters, params.lora_init_without_apply = adapters, True
    params.verbosity = -1
    return xllamacpp.Server(params)


info = xllamacpp.CommonAdapterLoraInfo()
info.path, info.scale = adapter, 1.0
servers = [serve([info]), serve([])]
for number, scale in ((0, 0.0), (0, 1.0), (1, None)):
    request = {
        "prompt": [5, 6, 7], "n_predict": 6, "temperature": 0, "ignore_eos": True,
        "cache_prompt": False,
    }  # fmt: skip
    if scale is not None:
        request["lora"] = [{"id": 0, "scale": scale}]
    timings = servers[number].handle_completions(request)["timings"]
    print(json.dumps({"model": number, "scale": scale, "timings": timings}), flush=True)
