"""Builds a graph with a ggml library, prints its address and waits for the end of its input.

python graph_program.py LIBRARY NO_ALLOC     NO_ALLOC: 1 for tensors without data
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

library = ctypes.CDLL(sys.argv[1])
Pointer, Long, Size = ctypes.c_void_p, ctypes.c_int64, ctypes.c_size_t


class Parameters(ctypes.Structure):
    _fields_ = (("mem_size", Size), ("mem_buffer", Pointer), ("no_alloc", ctypes.c_bool))


def call(name: str, *arguments: Any) -> Any:
    function = getattr(library, f"ggml_{name}")
    function.restype = Pointer
    return Pointer(function(*arguments))


context = call("init", Parameters(1 << 24, None, sys.argv[2] == "1"))


def tensor(*ne: int) -> Any:
    return call("new_tensor_2d", context, ctypes.c_int(0), *map(Long, ne))


def op(name: str, *arguments: Any) -> Any:
    return call(name, context, *arguments)


x = tensor(64, 8)
for layer in range(3):
    normed = op("mul", op("rms_norm", x, ctypes.c_float(1e-5)), tensor(64, 1))
    up = op("reshape_2d", op("mul_mat", tensor(64, 128), normed), Long(128), Long(8))
    part = op("view_2d", op("gelu", up), Long(64), Long(8), Size(512), Size(128))
    turned = op("permute", op("cont", part), *map(ctypes.c_int, (1, 0, 2, 3)))
    down = op("mul_mat", op("cont", turned), tensor(8, 8))
    call("set_name", down, ctypes.c_char_p(f"down-{layer}".encode()))
    x = op("add", x, op("soft_max", op("mul_mat", tensor(64, 64), down)))
graph = op("new_graph")
call("build_forward_expand", graph, x)
print(graph.value, flush=True)
sys.stdin.read()
