"""What fuzzing has taught: each parser gets its corpus, under the sanitizers (no clang needed)."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Require

HERE = Path(__file__).parent
TARGETS = sorted(path.stem.removeprefix("target_") for path in HERE.glob("target_*.c"))
TIMEOUT = 120


@pytest.fixture(scope="session")
def replays(repo: Path, require: Require) -> Path:
    """The folder of the programs that replay, built as far as something has changed."""
    machine = platform.machine()
    require("make and gcc", shutil.which("make") and shutil.which("gcc"))
    require("json-c, the recorder's own", Path("/usr/include/json-c/json.h").exists())
    folder = Path("build") / machine / "recorder-units"
    done = subprocess.run(
        ["make", "--silent", f"-j{os.cpu_count()}", "-f", "tests/fuzz/Makefile", f"OUT={folder}",
         f"MACHINE={machine}", "replays"],
        cwd=repo, capture_output=True, text=True, check=False, timeout=TIMEOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return repo / folder


@pytest.mark.parametrize("target", TARGETS)
def test_corpus(target: str, replays: Path) -> None:
    inputs = sorted((HERE / "corpus" / target).iterdir())
    done = subprocess.run(
        [replays / f"{target}.replay", *inputs],
        env=os.environ | {"ASAN_OPTIONS": "detect_leaks=1"},
        capture_output=True, text=True, check=False, timeout=TIMEOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(path) for path in inputs]


def test_corpora_are_small() -> None:
    files = [path for path in (HERE / "corpus").rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} == set(TARGETS)
    assert sum(path.stat().st_size for path in files) < 100 << 10
