"""--evict: what a process has mapped, or a command names, is no longer in memory."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from profinfer.evict import evict_mapped, evict_named
from profinfer.mappings import Mappings
from tests.conftest import require

SIZE = 1 << 20


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF" + os.urandom(SIZE - 4))
    return path


def test_a_mapped_model_is_dropped(model: Path) -> None:
    require("root, which a recording needs", os.geteuid() == 0)
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert sum(mapped[::4096]) > 0  # every page is in memory, and in our page tables
        assert evict_mapped(os.getpid()) == [{"path": str(model), "bytes": SIZE, "left": 0}]


def test_a_named_model_is_dropped_and_other_files_are_left(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"ELF")
    os.mkfifo(tmp_path / "fifo")
    command = ["llama-cli", f"--model={model}", "-x", str(other), str(tmp_path / "fifo"), "\0"]
    assert evict_named(command) == [{"path": str(model), "bytes": SIZE, "left": 0}]


def test_mappings_tell_what_came_and_went(model: Path) -> None:
    require("root, which a recording needs", os.geteuid() == 0)
    looker = Mappings(os.getpid())
    try:
        looker.look(1)
        with model.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ):
            inode = os.fstat(file.fileno()).st_ino
            [frame] = looker.look(2)
            [found] = [m for m in frame.json()["new"] if m["path"] == str(model)]
            assert (found["inode"], found["end"] - found["start"]) == (inode, SIZE)
            assert [m.path for m in looker.models] == [str(model)]
        [frame] = looker.look(3)
        assert [m["path"] for m in frame.json()["gone"]].count(str(model)) == 1
    finally:
        looker.close()
