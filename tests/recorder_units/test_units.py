"""The recorder's modules, each by itself, under AddressSanitizer and UndefinedBehaviorSanitizer.

harness.h says how a unit test is written; whoever adds NOUN.c here has added its test.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Require

HERE = Path(__file__).parent
UNITS = sorted(path.stem for path in HERE.glob("*.c"))
TIMEOUT = 120
PRIVILEGED = {"evict", "mappings", "scheduler_drain", "tracepoints"}
"""What they try is root's alone."""


@pytest.fixture(scope="session")
def units(repo: Path, require: Require) -> Path:
    """The folder of their programs, built as far as something has changed."""
    machine = platform.machine()
    require("make and gcc", shutil.which("make") and shutil.which("gcc"))
    require("json-c, the recorder's own", Path("/usr/include/json-c/json.h").exists())
    folder = Path("build") / machine / "recorder-units"
    done = subprocess.run(
        ["make", "--silent", f"-j{os.cpu_count()}", "-f", "tests/recorder_units/Makefile",
         f"OUT={folder}", f"MACHINE={machine}"],
        cwd=repo, capture_output=True, text=True, check=False, timeout=TIMEOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return repo / folder


@pytest.mark.parametrize("unit", UNITS)
def test_unit(unit: str, units: Path, require: Require, tmp_path: Path) -> None:
    require("root, which a recording needs", unit not in PRIVILEGED or os.geteuid() == 0)
    # The recorder frees nothing that lives as long as it does.
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run(
        [units / f"{unit}.unit"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT,
    )  # fmt: skip
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    assert done.stdout, "it ran no test"
