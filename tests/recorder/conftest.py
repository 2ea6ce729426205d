"""The recorder in C, the known engine, and a plan for it."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import pytest

from tests.conftest import require
from tests.recorder.recording import TIMEOUT, make_plan


@pytest.fixture(scope="session")
def recorder(repo: Path) -> Path:
    """The recorder for this machine, its libc dynamic."""
    require("root, which recording needs", os.geteuid() == 0)
    path = repo / "build" / platform.machine() / "profinfer-recorder"
    require("the recorder in C (tools/build_recorder.sh)", path.exists())
    return path


@pytest.fixture(scope="session")
def built(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with known and libknown.so."""
    directory = tmp_path_factory.mktemp("built")
    command = ["sh", str(repo / "tests/double/build.sh"), str(directory)]
    subprocess.run(command, check=True, timeout=TIMEOUT)
    return directory


@pytest.fixture(scope="session")
def plan(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `profinfer plan` makes of the known engine, for every level."""
    return make_plan(built / "libknown.so", tmp_path_factory.mktemp("plan") / "plan.json")
