"""What a process has mapped, and which of it are models."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from profinfer import mappings
from profinfer.mappings import Mappings, mappings_in
from tests.conftest import require

SIZE = 1 << 20


@pytest.fixture(autouse=True)
def _root() -> None:
    require("root, which a recording needs", os.geteuid() == 0)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF" + bytes(SIZE - 4))
    return path


@pytest.fixture
def looker() -> Iterator[Mappings]:
    found = Mappings(os.getpid())
    yield found
    found.close()


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as found:
        yield found


def test_mappings_tell_what_came_and_went(model: Path, looker: Mappings) -> None:
    looker.look(1)
    with mapped(model):
        [frame] = looker.look(2)
        [found] = [m for m in frame.json()["new"] if m["path"] == str(model)]
        assert (found["inode"], found["end"] - found["start"]) == (model.stat().st_ino, SIZE)
        assert [m.path for m in looker.models] == [str(model)]
    [frame] = looker.look(3)
    assert [m["path"] for m in frame.json()["gone"]].count(str(model)) == 1


def test_memory_of_no_file_is_told(looker: Mappings) -> None:
    looker.look(1)
    with mmap.mmap(-1, 64 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS):
        [frame] = looker.look(2)
        sizes = {m["end"] - m["start"] for m in frame.json()["new"] if not m["inode"]}
        assert any(size >= 64 << 20 for size in sizes)


def test_a_name_cannot_pass_for_other_mappings(tmp_path: Path) -> None:
    for end in ("\x0b", "\x1c", "\x85", "\u2028", "\r", "\n"):
        path = tmp_path / f"a{end}1000-2000 r--p 00000000 08:01 77 \x1b[31mfake"
        path.write_bytes(bytes(SIZE))
        with mapped(path):
            found = mappings_in(Path("/proc/self/maps").read_bytes())
        assert 77 not in {m.inode for m in found}
        [mine] = [m for m in found if m.inode == path.stat().st_ino]
        assert mine.path.isprintable()


def test_a_deleted_model_is_read_where_it_was(model: Path, looker: Mappings) -> None:
    with mapped(model):
        model.unlink()
        model.write_bytes(b"ELF")  # another file by that name
        looker.look(1)
        [found] = looker.models
        assert found.fd is not None
        assert os.pread(found.fd, 4, 0) == b"GGUF"
        assert found.path == str(model)


def test_a_file_that_becomes_a_model_is_seen_when_it_is_mapped_again(
    model: Path, looker: Mappings
) -> None:
    model.write_bytes(b"none" + bytes(SIZE))
    with mapped(model):
        looker.look(1)
        assert looker.models == []
    looker.look(2)
    # The same inode, as that of a deleted file may be.
    model.write_bytes(b"GGUF" + bytes(SIZE))
    with mapped(model):
        looker.look(3)
        assert [m.path for m in looker.models] == [str(model)]
    looker.look(4)
    with mapped(model):
        looker.look(5)
    assert len(looker.models) == 1


def test_a_model_too_many_is_named(
    tmp_path: Path, looker: Mappings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mappings, "_MAX_MODELS", 1)
    paths = [tmp_path / "a.gguf", tmp_path / "b.gguf"]
    for path in paths:
        path.write_bytes(b"GGUF" + bytes(SIZE))
    with mapped(paths[0]):
        looker.look(1)
        with mapped(paths[1]):
            looker.look(2)
    assert [(m.path, m.fd is None, m.problem) for m in looker.models] == [
        (str(paths[0]), False, ""),
        (str(paths[1]), True, "only 1 models are looked into"),
    ]


OVERLAY = """if True:
    import ctypes, os, sys
    from profinfer.mappings import Mappings
    import mmap
    folder = sys.argv[1]
    libc = ctypes.CDLL(None, use_errno=True)
    private = 1 << 18 | 1 << 14  # MS_PRIVATE, MS_REC
    assert not libc.unshare(0x20000) and not libc.mount(b"", b"/", None, private, None)
    options = f"lowerdir={folder}/low,upperdir={folder}/up,workdir={folder}/work".encode()
    if libc.mount(b"overlay", f"{folder}/all".encode(), b"overlay", 0, options):
        sys.exit(3)
    for place in ("low", "all"):
        with open(f"{folder}/{place}/m.gguf", "rb") as file:
            kept = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        looker = Mappings(os.getpid())
        looker.look(1)
        print(place, [model.is_overlaid for model in looker.models])
        looker.close()
        kept.close()
"""


def test_a_model_on_an_overlay_is_known(tmp_path: Path) -> None:
    for name in ("low", "up", "work", "all"):
        (tmp_path / name).mkdir()
    (tmp_path / "low/m.gguf").write_bytes(b"GGUF" + bytes(SIZE))
    done = subprocess.run(
        [sys.executable, "-c", OVERLAY, str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    require("overlay file systems", done.returncode != 3, hardware=True)
    assert done.stdout == "low [False]\nall [True]\n", done.stderr
