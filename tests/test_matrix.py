"""The table of what ran where has a row per test that asked for one, with its outcome."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

TESTS = """
import pytest

@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_fine(matrix, kernel):
    matrix("loaded", kernel=kernel, machine="aarch64", loader="libbpf")
    matrix("loaded", kernel=kernel, machine="aarch64", loader="libbpf", attach="multi")

def test_refused(matrix):
    matrix("loaded", kernel="5.10", machine="aarch64", why_not="none there")

def test_broken(matrix):
    matrix("recorded", kernel="7.2", machine="x86_64")
    assert False

def test_skipped(matrix):
    matrix("counted", transport="perf")
    pytest.skip("why not")

def test_without_row():
    pass
"""


def test_table(repo: Path, tmp_path: Path) -> None:
    (tmp_path / "test_inner.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(repo)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    lines = done.stdout.splitlines()
    (start,) = (number for number, line in enumerate(lines) if "what ran where" in line)
    below = itertools.takewhile(lambda line: not line.startswith("==="), lines[start + 1 :])
    rows = [line.split() for line in below if line]
    kernel, machine = os.uname().release.partition("-")[0], os.uname().machine
    assert rows == [
        ["what", "kernel", "machine", "loader", "transport", "attach", "result", "why", "not"],
        ["counted", kernel, "(host)", machine, "-", "perf", "-", "skipped"],
        ["loaded", "5.10", "aarch64", "-", "-", "-", "passed", "none", "there"],
        ["loaded", "6.1", "aarch64", "libbpf", "-", "multi", "passed"],
        ["loaded", "6.12", "aarch64", "libbpf", "-", "multi", "passed"],
        ["recorded", "7.2", "x86_64", "-", "-", "-", "failed"],
    ]
