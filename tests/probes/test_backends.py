"""Which functions may be a backend's get_name, and what a file's name says of it."""

from __future__ import annotations

from pathlib import Path

from profinfer.engine.backends import backend_functions, backend_of_file, backend_of_guid
from profinfer.engine.target import file_object


def test_files() -> None:
    names = ("/x/libggml-cpu-armv8.2_1.so", "libggml-vulkan.so.0", "libggml-base.so", "libllama.so")
    assert [backend_of_file(name) for name in names] == ["CPU", "Vulkan", "", ""]


def test_functions(native: Path) -> None:
    item = file_object(native / "libknown.so")
    assert {"CPU", "fake"} <= set(backend_functions(item.elf).values())


def test_guids() -> None:
    """A kind that nobody knows has one name in every recording; some share theirs."""
    assert backend_of_guid(bytes.fromhex("2cdde81c95d65e85c6de03b95c8be21f")) == "CUDA"
    assert backend_of_guid(bytes.fromhex("12a8aef4c01e61978feb3304a133512d")) == "BLAS or OpenVINO"
    assert backend_of_guid(b"known Fake guid\0") == "backend 6b6e6f77"
    assert backend_of_guid(bytes(16)) == ""
