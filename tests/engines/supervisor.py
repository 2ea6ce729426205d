"""supervisor.py LIBRARY PROGRAM FORKED: holds an engine and never computes itself. As many children
as FORKED compute with what they have inherited, then PROGRAM does, with an engine of its own."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

library, program, forked = sys.argv[1:]
engine = ctypes.CDLL(library)
words = (ctypes.c_char_p * 2)(b"known", None)
for _ in range(int(forked)):
    child = os.fork()
    if child == 0:
        os._exit(engine.known_main(1, words))
    os.waitpid(child, 0)
if program:
    subprocess.run([program], check=True)
print("ready", file=sys.stderr, flush=True)
sys.stdin.read()
