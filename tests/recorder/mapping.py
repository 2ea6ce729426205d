"""A process with the engine's library that maps files when it is told: test_memory.py runs it.

python mapping.py LIBRARY [FILE]...      (the files are mapped at once)
"""

import ctypes
import mmap
import sys
import threading

ctypes.CDLL(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
PAGE = mmap.PAGESIZE
kept: dict[str, mmap.mmap] = {}


def map_file(path: str) -> None:
    """All of it, each page looked at."""
    with open(path, "rb") as file:
        kept[path] = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    sum(kept[path][::PAGE])


def map_often(path: str, count: int) -> None:
    """Single pages, never two that the kernel would join."""
    libc.mmap.restype = ctypes.c_void_p
    long, pointer = ctypes.c_long, ctypes.c_void_p
    with open(path, "rb") as file:
        base = libc.mmap(None, long(count * PAGE), 0, 0x22, -1, long(0))  # MAP_ANONYMOUS
        for i in range(count):
            offset = long(i % 2 * 2 * PAGE)
            # MAP_PRIVATE, MAP_FIXED
            at = libc.mmap(pointer(base + i * PAGE), long(PAGE), 1, 0x12, file.fileno(), offset)
            assert at == base + i * PAGE


def begin_threads(count: int) -> None:
    """Threads that wait until the process ends."""
    threading.stack_size(64 << 10)
    for _ in range(count):
        threading.Thread(target=threading.Event().wait, daemon=True).start()


for name in sys.argv[2:]:
    map_file(name)
print("ready", flush=True)
for line in sys.stdin:
    what, path, *count = line.split()
    if what == "map":
        map_file(path)
    elif what == "threads":
        begin_threads(int(path))
    elif what == "often":
        map_often(path, int(*count))
    else:
        kept.pop(path).close()
    print("done", flush=True)
