"""A real engine that loads a model in one of the ways there are, answers once, and lets it go.

    MODEL=m.gguf python loading.py mmap|read|direct [repack]

No file is named on its command line. What the engine says of it goes to stderr; stdout gets one
line of JSON: what the kernel has counted of this process, from a time in `begin` to one in `end`
(BOOTTIME ns: memory that is short is read back while one asks).
"""

import json
import os
import resource
import sys
import time

import xllamacpp

MODES = {"mmap": "MMAP", "read": "NONE", "direct": "DIRECT_IO"}


def now() -> int:
    """As records have it."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def counts() -> tuple[list[int], int, int]:
    """When, bytes read from storage until then, and major faults."""
    since = now()
    with open("/proc/self/io") as io:
        found = {line.split(":")[0]: int(line.split(":")[1]) for line in io}
    major = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
    return [since, now()], found["read_bytes"], major


def main() -> None:
    """Of two threads."""
    params = xllamacpp.CommonParams()
    params.model.path = os.environ["MODEL"]
    params.load_mode = getattr(xllamacpp.llama_load_mode, f"LLAMA_LOAD_MODE_{MODES[sys.argv[1]]}")
    params.no_extra_bufts = "repack" not in sys.argv
    params.n_ctx = 256
    params.n_parallel = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
    params.warmup = False
    params.verbosity = 4
    counts()
    begin, *before = counts()
    server = xllamacpp.Server(params)
    request = {"prompt": "a b c", "n_predict": 2, "temperature": 0, "ignore_eos": True}
    server.handle_completions(request)
    del server
    time.sleep(0.2)
    end, *after = counts()
    said = {"begin": begin, "end": end, "read_bytes": after[0] - before[0]}
    said |= {"major": after[1] - before[1]}
    time.sleep(0.2)
    print(json.dumps(said), flush=True)


main()
