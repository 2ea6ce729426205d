"""The known engine, built once."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import require


@pytest.fixture(scope="session")
def engine(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with known, known-dl and libknown.so."""
    require("root, which recording needs", os.geteuid() == 0)
    directory = tmp_path_factory.mktemp("engine")
    subprocess.run(["sh", str(repo / "tests/engine/build.sh"), str(directory)], check=True,
                   capture_output=True, timeout=120)  # fmt: skip
    return directory
