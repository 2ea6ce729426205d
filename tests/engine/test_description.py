"""What is found out of an engine's file in a child process is what the file says."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from profinfer.binaries.elf import Elf
from profinfer.engine import aside, description
from profinfer.errors import TargetError
from tests.conftest import require


@pytest.fixture
def library(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real engine, with nothing known of it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = sorted((repo / ".venv/lib").glob("python3*/site-packages/xllamacpp/xllamacpp*.so"))
    require("the xllamacpp wheel", found)
    return found[0]


def test_a_child_says_what_we_would_find_ourselves(library: Path) -> None:
    direct, first, again = Elf(library), Elf(library), Elf(library)
    expected = description._examine(direct)
    assert len(expected.functions) > 5
    description.recall([first], os.getuid())
    assert description._known[first] == expected
    description.recall([again], os.getuid())  # from what is kept now
    assert description._known[again] == expected


def test_a_child_that_is_killed_by_a_file_is_named(
    library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(elf: Elf) -> description.Description:
        del elf
        os.kill(os.getpid(), signal.SIGKILL)
        return description.Description(False)

    monkeypatch.setattr(description, "_examine", dies)
    with pytest.raises(TargetError, match=rf"{library.name} could not be examined.*-9"):
        description.recall([Elf(library)], os.getuid())


def test_a_child_does_not_compute_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    def loops() -> bytes:
        while True:
            pass

    monkeypatch.setattr(aside, "_SECONDS", 1)
    with pytest.raises(ChildProcessError, match="-9"):
        aside.aside(loops)
