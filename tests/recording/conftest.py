"""The known engine, built once."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import require


@pytest.fixture(scope="session")
def built(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with known, known-dl and libknown.so."""
    require("root, which recording needs", os.geteuid() == 0)
    directory = tmp_path_factory.mktemp("built")
    command = ["sh", str(repo / "tests/double/build.sh"), str(directory)]
    subprocess.run(command, check=True, timeout=120)
    return directory
