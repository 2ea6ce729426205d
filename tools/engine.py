"""A real engine to record: llama.cpp's server, in this process, through the xllamacpp wheel.

    python tools/engine.py MODEL --prompt "Once upon a time" --predict 64
    python tools/engine.py MODEL --serve      # one request per line of stdin: JSON prompt, predict

Prints one line of JSON per request: the engine's own timings, and the text; for a request with
"times": true when each token came (CLOCK_BOOTTIME, ns) in place of the text.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from typing import Any


def say_io() -> None:
    """A line of JSON: what the kernel has counted of this process."""
    time.sleep(0.2)  # the engine's threads have gone to sleep by then
    # Twice, so that whatever it takes to say it is in memory, and is counted.
    for _ in range(2):
        with open("/proc/self/io") as io:
            facts = {line.split(":")[0]: int(line.split(":")[1]) for line in io}
        facts["major_faults"] = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
        text = json.dumps({"io": facts})
    print(text, flush=True)


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
        "--io",
        action="store_true",
        help="with --serve: print what the kernel has counted of this process, at first and after"
        " each answer",
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

    def stream(prompt: str, predict: int) -> None:
        pieces: list[dict[str, Any]] = []
        times: list[int] = []

        def take(piece: dict[str, Any]) -> bool:
            times.append(time.clock_gettime_ns(time.CLOCK_BOOTTIME))
            pieces.append(piece)
            return False  # go on

        server.handle_completions(
            {
                "prompt": prompt,
                "n_predict": predict,
                "temperature": 0,
                "ignore_eos": True,
                "cache_prompt": False,
                "stream": True,
            },
            take,
        )
        # The last piece has the timings and no token.
        print(json.dumps({"timings": pieces[-1]["timings"], "times": times[:-1]}), flush=True)

    if not args.serve:
        answer(args.prompt, args.predict)
        return 0
    print("ready", flush=True)
    if args.io:
        say_io()
    for line in sys.stdin:
        request = json.loads(line)
        (stream if request.get("times") else answer)(request["prompt"], request["predict"])
        if args.io:
            say_io()
    return 0


if __name__ == "__main__":
    sys.exit(main())
