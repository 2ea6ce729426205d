"""`make demo-moe`, as a user runs it."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPO, require
from tests.support import require_recording

V1, V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


def tables(text: str) -> dict[str, list[str]]:
    """The rows below each title."""
    found = {}
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if not line.startswith("==")]
        if len(lines) > 2 and set(lines[2]) <= {"-", " "}:
            found[lines[0]] = lines[3:]
    return found


@pytest.mark.timeout(400)
def test_the_demo_shows_experts_reuse_and_reads() -> None:
    require("the xllamacpp wheel", importlib.util.find_spec("xllamacpp"))
    require_recording()
    require("root, which cgroups need", os.geteuid() == 0)
    if (V2 / "cgroup.controllers").is_file():
        subtree = (V2 / "cgroup.subtree_control").read_text().split()
        require("the memory controller of cgroup v2", "memory" in subtree, hardware=True)
    else:
        require("a memory cgroup (v1 or v2)", (V1 / "cgroup.procs").is_file(), hardware=True)
    done = subprocess.run(
        [REPO / "tools/demo_moe.sh"], capture_output=True, text=True, check=False, timeout=350
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r" 0 lost \(the target ended\)", done.stderr), done.stderr
    assert "warning" not in done.stderr
    found = {title.split(" (")[0]: rows for title, rows in tables(done.stdout).items()}
    for title in (
        "Experts by layer and phase",
        "Distance, time and faults by layer, decode",
        "Faults by tensor of a model",
        "Bytes read by tensor",
        "Memory by operator",
    ):
        assert len(found[title]) >= 4, title
        # A person reads it.
        assert len(found[title]) <= 9, title
    assert any("exps" in row for row in found["Bytes read by tensor"])
    assert not list(V1.glob("profinfer-demo-*")) + list(V2.glob("profinfer-demo-*"))
