"""A missing requirement skips, unless skipping is forbidden."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import NO_SKIP

TESTS = """
import pytest

def test_set_up(require):
    require("a unicorn", False)

def test_there(require):
    require("a horse", True)

def test_hardware(require):
    require("PMU", False, hardware=True)

@pytest.mark.skip(reason="lazy")
def test_marked():
    pass

@pytest.mark.xfail
def test_expected():
    assert False
"""


@pytest.mark.parametrize(
    ("no_skip", "outcome"),
    [
        ("", "1 passed, 3 skipped, 1 xfailed"),
        ("1", "1 failed, 1 passed, 1 skipped, 1 xfailed, 1 error"),
    ],
)
def test_require(repo: Path, tmp_path: Path, no_skip: str, outcome: str) -> None:
    (tmp_path / "test_inner.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-rs", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={NO_SKIP: no_skip, "PYTHONPATH": str(repo)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert outcome in done.stdout, done.stdout + done.stderr
    if no_skip:
        assert "needs a unicorn" in done.stdout
