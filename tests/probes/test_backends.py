"""Which functions may be a backend's get_name, and what a file's name says of it."""

from __future__ import annotations

from pathlib import Path

from profinfer.engine.backends import backend_functions, backend_of_file
from profinfer.engine.target import file_object


def test_files() -> None:
    names = ("/x/libggml-cpu-armv8.2_1.so", "libggml-vulkan.so.0", "libggml-base.so", "libllama.so")
    assert [backend_of_file(name) for name in names] == ["CPU", "Vulkan", "", ""]


def test_functions(native: Path) -> None:
    item = file_object(native / "libknown.so")
    assert {"CPU", "fake"} <= set(backend_functions(item.elf).values())
