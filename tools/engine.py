"""A real engine to record: llama.cpp's server, in this process, through the xllamacpp wheel.

    python tools/engine.py MODEL --prompt "Once upon a time" --predict 64
    python tools/engine.py MODEL --serve      # one request per line of stdin: JSON prompt, predict

Prints one line of JSON per request: the engine's own timings, and the text.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any


def main() -> int:
    """Loads the model, answers, ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--prompt", default="The history of the steam engine begins with")
    parser.add_argument("--predict", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--flash", choices=("auto", "on", "off"), default="auto")
    parser.add_argument(
        "--no-repack", action="store_true", help="use weights as they lie in the file"
    )
    parser.add_argument(
        "--io", action="store_true", help="print what the kernel has counted of this process"
    )
    parser.add_argument("--serve", action="store_true")
    args = parser.parse_args()

    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = args.model
    params.n_ctx = args.context
    params.cpuparams.n_threads = args.threads
    params.cpuparams_batch.n_threads = args.threads
    params.n_parallel = 1
    params.warmup = False
    params.no_extra_bufts = args.no_repack
    flash = {"auto": "AUTO", "on": "ENABLED", "off": "DISABLED"}[args.flash]
    params.flash_attn_type = getattr(
        xllamacpp.llama_flash_attn_type, f"LLAMA_FLASH_ATTN_TYPE_{flash}"
    )
    params.verbosity = -1
    server = xllamacpp.Server(params)

    def answer(prompt: str, predict: int) -> None:
        reply: dict[str, Any] = server.handle_completions(
            {
                "prompt": prompt,
                "n_predict": predict,
                "temperature": 0,
                "ignore_eos": True,
                "cache_prompt": False,
            }
        )
        line = {"timings": reply["timings"], "text": reply["choices"][0]["text"]}
        print(json.dumps(line), flush=True)

    if not args.serve:
        answer(args.prompt, args.predict)
        if not args.io:
            return 0
        with open("/proc/self/io") as io, open("/proc/self/stat") as stat:
            facts = {line.split(":")[0]: int(line.split(":")[1]) for line in io}
            facts["major_faults"] = int(stat.read().rpartition(")")[2].split()[9])
        print(json.dumps({"io": facts}), flush=True)
        return 0
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer(request["prompt"], request["predict"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
