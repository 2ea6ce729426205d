"""What a backend is called, by the address of its get_name."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from profinfer.backends import backend_functions, backend_name, backend_of_file
from profinfer.target import EngineObject, file_object, is_engine

_VULKAN = """
const char *hidden(void) { return "Vulkan0"; }
void *ggml_backend_init(void) { return 0; }
"""


@pytest.fixture
def loaded(native: Path, tmp_path: Path) -> list[EngineObject]:
    """An engine at two addresses, and above it a backend in a library of its own."""
    source, library = tmp_path / "vk.c", tmp_path / "libggml-vulkan.so"
    source.write_text(_VULKAN)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True, timeout=60)
    engine, backend = file_object(native / "libknown.so"), file_object(library)
    assert is_engine(engine.elf)
    assert is_engine(backend.elf)
    return [replace(engine, bases=(1 << 30, 2 << 30)), replace(backend, bases=(3 << 30,))]


def test_by_symbol_and_by_file(loaded: list[EngineObject]) -> None:
    known, vulkan = (item.elf.symbols for item in loaded)
    for base in loaded[0].bases:
        for name, symbol in (("CPU", "cpu"), ("fake", "fake")):
            function = base + known[f"ggml_backend_{symbol}_get_name"].value
            assert backend_name(function, loaded) == name
    assert backend_name((3 << 30) + vulkan["hidden"].value, loaded) == "Vulkan"


def test_what_is_not_known_has_no_name(loaded: list[EngineObject]) -> None:
    known = loaded[0].elf.symbols
    # In an object that says nothing, between objects, above all of them, and nowhere.
    for function in ((1 << 30) + known["ggml_barrier"].value, 5 << 29, 4 << 30, 0):
        assert backend_name(function, loaded) is None


def test_files() -> None:
    names = ("/x/libggml-cpu-armv8.2_1.so", "libggml-vulkan.so.0", "libggml-base.so", "libllama.so")
    assert [backend_of_file(name) for name in names] == ["CPU", "Vulkan", "", ""]


def test_functions(native: Path) -> None:
    item = file_object(native / "libknown.so")
    assert {"CPU", "fake"} <= set(backend_functions(item.elf).values())
