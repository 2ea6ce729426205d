"""infer.py FOLDER MODEL PROMPT PREDICT: as many tokens by the llama-cpp-python in a folder, and its
own account of them."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from itertools import islice

folder, model, prompt, predict = sys.argv[1:]
sys.path.insert(0, folder)
package = import_module("llama_cpp")
engine = package.Llama(model, n_ctx=512, n_threads=2, n_threads_batch=2, verbose=False)
words = [3 + index % 50 for index in range(int(prompt))]
tokens = list(islice(engine.generate(words, temp=0.0), int(predict)))
# Before and after 2024-09.
ask = getattr(package, "llama_perf_context", None) or package.llama_get_timings
said = ask(engine.ctx)
print(json.dumps({"prompt": said.n_p_eval, "decode": said.n_eval, "decode_ms": said.t_eval_ms}))
