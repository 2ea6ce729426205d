"""The whole tree passes `make lint`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Require


@pytest.mark.timeout(600)
def test_lint(repo: Path, require: Require) -> None:
    for tool in ("make", "clang-format"):
        require(tool, shutil.which(tool))
    done = subprocess.run(
        ["make", "lint"], cwd=repo, capture_output=True, text=True, check=False, timeout=590
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
