"""--evict: what a process has mapped, or a command names, is no longer in memory."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from profinfer.errors import TargetError
from profinfer.evict import evict_mapped, evict_named
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


def test_all_parts_of_a_model_are_dropped(tmp_path: Path) -> None:
    parts = [tmp_path / f"m-{i:05}-of-00003.gguf" for i in (1, 2, 3)]
    for part in parts:
        part.write_bytes(b"GGUF" + os.urandom(SIZE - 4))
    assert [done["path"] for done in evict_named(["llama-cli", "-m", str(parts[0])])] == [
        str(part) for part in parts
    ]


def test_pages_that_others_hold_stay_and_are_counted(model: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(model)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout
        assert holder.stdout.readline() == b"ready\n"
        assert evict_named([str(model)]) == [{"path": str(model), "bytes": SIZE, "left": SIZE}]
    finally:
        holder.kill()
        holder.communicate()


HOLDER = """if True:
    import mmap, sys
    with open(sys.argv[1]) as file:
        model = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    sum(model[::4096])
    print("ready", flush=True)
    sys.stdin.readline()
"""


def test_a_file_of_somebody_elses_is_dropped(model: Path) -> None:
    require("root, which a recording needs", os.geteuid() == 0)
    os.chown(model, 12345, 12345)
    model.chmod(0o400)
    assert evict_named([str(model)]) == [{"path": str(model), "bytes": SIZE, "left": 0}]


def test_nothing_to_evict_is_said(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").symlink_to("nowhere")
    (tmp_path / "folder.gguf").mkdir()
    with pytest.raises(TargetError, match="names no GGUF file"):
        evict_named(
            ["llama-cli", "-m", str(tmp_path / "broken.gguf"), str(tmp_path / "folder.gguf")]
        )
    require("root, which a recording needs", os.geteuid() == 0)
    with pytest.raises(TargetError, match="no GGUF file mapped"):
        evict_mapped(os.getpid())
