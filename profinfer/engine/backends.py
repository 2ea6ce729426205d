"""What a backend is called, from the function that would tell it.

`struct ggml_backend` holds a pointer to `get_name`, which nobody can call for a stranger: its
symbol names the backend or, where that is stripped, the file it stands in.
"""

from __future__ import annotations

import re
from pathlib import Path

from profinfer.binaries.elf import Elf

_FUNCTION = re.compile(r"ggml_backend_(?:\w+?_)??(\w+?)_(?:backend_)?(?:get_)?name")
_FILE = re.compile(r"libggml-([a-z0-9]+)")
_NAMES = {"cpu": "CPU", "cuda": "CUDA", "opencl": "OpenCL", "vk": "Vulkan", "vulkan": "Vulkan",
          "rpc": "RPC", "blas": "BLAS", "sycl": "SYCL", "metal": "Metal", "cann": "CANN",
          "hip": "ROCm", "rknn": "RKNN", "musa": "MUSA", "hexagon": "Hexagon"}  # fmt: skip


def backend_functions(elf: Elf) -> dict[int, str]:
    """Virtual addresses of functions that may be a backend's get_name: its name."""
    found: dict[int, str] = {}
    for symbol in elf.symbols.matching(_FUNCTION):
        match = _FUNCTION.search(symbol.name)
        if match:
            found.setdefault(symbol.value, _NAMES.get(match[1].lower(), match[1]))
    return found


def backend_of_file(path: str) -> str:
    """The backend that a file's name speaks of; "" when it speaks of none."""
    match = _FILE.search(Path(path).name)
    return _NAMES.get(match[1], match[1]) if match and match[1] != "base" else ""
