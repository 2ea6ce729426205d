"""A real engine, and small hostile ones compiled on the spot."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import require
from tests.hostile import build_hostile


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


@pytest.fixture
def hostile(tmp_path: Path) -> Callable[[str], Path]:
    """Compile a library with ggml's names whose constructor runs the given C statements."""
    return partial(build_hostile, tmp_path / "hostile", "gcc")
