"""An engine's exceptions get past what is probed, and are caught as without us."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.conftest import require
from tests.recording.helpers import record, rows


def test_what_decoding_throws_is_caught(built: Path, repo: Path, tmp_path: Path) -> None:
    require("a C++ compiler", shutil.which("g++"))
    program, trace = tmp_path / "throws", tmp_path / "t.pftrace"
    subprocess.run(
        ["g++", "-std=gnu++17", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(program),
         str(repo / "tests/double/throws.cc"), f"-L{built}", "-lknown", f"-Wl,-rpath,{built}"],
        check=True, timeout=120,
    )  # fmt: skip
    done = record(trace, ["--level", "barrier"], [program])
    assert done.stdout == "3 decoded, 3 caught\n"
    found = rows(
        trace,
        "SELECT name, count() FROM slice WHERE category = 'call' GROUP BY 1",
        "SELECT count() FROM slice WHERE category = 'ubatch' AND dur > 0",
    )
    assert found == [[("create", 1), ("decode", 6), ("free", 1)], [(3,)]]
