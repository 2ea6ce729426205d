"""Scripts that start much and compute nothing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.commands.command import profinfer

pytestmark = pytest.mark.usefixtures("root")

COMMANDS = 200
SECONDS = 20.0
"""When the recorder attached a probe to each process, and asked about each, it took longer."""


def test_a_script_of_many_commands_ends_as_ever(tmp_path: Path) -> None:
    script = f"for i in $(seq {COMMANDS}); do /bin/echo $i; done; /bin/echo last >&2; exit 7"
    began = time.monotonic()
    ran = profinfer("record", "-o", tmp_path / "t", "--", "/bin/sh", "-c", script, cwd=tmp_path)
    assert ran.out.split() == [str(number) for number in range(1, COMMANDS + 1)]
    assert ran.err.splitlines()[0] == "last"
    assert "/bin/sh exited with status 7 before it loaded any ggml" in ran.message
    assert ran.code == 5
    assert not (tmp_path / "t").exists()
    assert time.monotonic() - began < SECONDS
