"""A process that knows its own page faults: faulter.py LIBRARY FILE. Prints one line of JSON.

It holds an engine's library, so that it can be recorded, and waits for a line before it begins.
"""

import ctypes
import json
import mmap
import os
import resource
import sys
import threading
import time
from typing import Any

PAGE = mmap.PAGESIZE
ANONYMOUS, STRIDE = 1500, 3
"""Pages of fresh memory that are written; every how many pages of the file one is touched."""


def counts() -> tuple[int, int]:
    usage = resource.getrusage(resource.RUSAGE_THREAD)
    return usage.ru_minflt, usage.ru_majflt


def read_bytes() -> int:
    with open("/proc/self/io") as file:
        [line] = [line for line in file if line.startswith("read_bytes:")]
    return int(line.split()[1])


def now() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def observed(work: Any, name: str, said: list[dict[str, Any]]) -> None:
    counts(), now()
    begin, before = now(), counts()
    work()
    after, end = counts(), now()
    said.append({
        "name": name, "tid": threading.get_native_id(), "begin": begin, "end": end,
        "minor": after[0] - before[0], "major": after[1] - before[1],
    })  # fmt: skip


def fresh() -> None:
    memory = mmap.mmap(-1, ANONYMOUS * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    here = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    ctypes.memset(here, 1, ANONYMOUS * PAGE)


def main() -> None:
    ctypes.CDLL(sys.argv[1])
    file = os.open(sys.argv[2], os.O_RDONLY)
    model = mmap.mmap(file, 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
    # Without reading ahead, and with nothing in memory, each touch of a page is a major fault.
    model.madvise(mmap.MADV_RANDOM)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    pages = range(0, len(model) // PAGE, STRIDE)
    print("ready", flush=True)
    sys.stdin.readline()
    said: list[dict[str, Any]] = []
    total = read_bytes()
    for name, work in (("file", lambda: [model[p * PAGE] for p in pages]), ("fresh", fresh)):
        thread = threading.Thread(target=observed, args=(work, name, said))
        thread.start()
        thread.join()
    observed(fresh, "main", said)
    total = read_bytes() - total
    # Long enough for a last look at the mappings.
    time.sleep(0.6)
    print(json.dumps({"threads": said, "read_bytes": total, "pages": list(pages)}), flush=True)


main()
