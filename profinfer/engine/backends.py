"""What a backend is called, from the function that would tell it.

`struct ggml_backend` holds a pointer to `get_name`, which nobody can call for a stranger: its
symbol names the backend or, where that is stripped, the file it stands in, else the GUID the kind.
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


_GUIDS = {
    "aa67c743": "CPU", "b8f74f86": "Vulkan", "99685b6c": "RPC", "2cdde81c": "CUDA",
    "dee070a2": "OpenCL", "12a8aef4": "BLAS or OpenVINO",
}  # fmt: skip
"""By the first bytes of the constant of 16 that each kind of backend has, and some share."""


def backend_of_guid(guid: bytes) -> str:
    """What a backend of that kind is called: one that nobody knows always the same; "" for none."""
    if not any(guid):
        return ""
    return _GUIDS.get(guid[:4].hex(), f"backend {guid[:4].hex()}")


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
