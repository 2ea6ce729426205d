"""A real engine, and small hostile ones compiled on the spot."""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from profinfer.describing.roots import find_root
from tests.conftest import require
from tests.hostile import Place, make_root
from tests.probes.conftest import sysroot

__all__ = ["sysroot"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def engine() -> Path:
    """The one shared object of the xllamacpp wheel, found without importing it."""
    spec = importlib.util.find_spec("xllamacpp")
    origin = spec.origin if spec else None
    require("the xllamacpp wheel", origin)
    return next(Path(str(origin)).parent.glob("xllamacpp*.so"))


def _folder(path: Path) -> Path:
    """pytest's folders are closed to others, and a library's folder usually is not."""
    path.mkdir(parents=True)
    path.chmod(0o755)
    return path


@pytest.fixture
def here(tmp_path: Path) -> Place:
    """This system."""
    return Place("gcc", _folder(tmp_path / "hostile"))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Place:
    """Another root, in which there is next to nothing."""
    require("an x86-64 processor", os.uname().machine == "x86_64", hardware=True)
    require("root (to enter other roots)", os.geteuid() == 0)
    top = make_root(tmp_path / "root")
    (top / "proc").mkdir()
    return Place("gcc", _folder(top / "engine"), find_root("x86-64", top), top)


@pytest.fixture
def emulated(tmp_path: Path, sysroot: Path) -> Place:
    """Another processor."""
    root = find_root("aarch64", sysroot)
    return Place("aarch64-linux-gnu-gcc", _folder(tmp_path / "hostile"), root)


@pytest.fixture(params=["here", "elsewhere", "emulated"])
def place(request: pytest.FixtureRequest) -> Place:
    """All of these."""
    found: Place = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def port() -> Iterator[int]:
    """A port that this process listens on, in its own network."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


@pytest.fixture
def as_root() -> None:
    require("root, to become somebody else", os.geteuid() == 0)
