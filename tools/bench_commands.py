"""What a launched script takes longer that starts much and computes nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench_table import Row, at_most

COMMANDS = 1000
_SCRIPT = f"""
began=$EPOCHREALTIME
for ((i = 0; i < {COMMANDS}; i++)); do /bin/true; done
ended=$EPOCHREALTIME
echo $((10#${{ended/[.,]/}} - 10#${{began/[.,]/}}))
"""
_PROFINFER = (sys.executable, "-m", "profinfer", "record", "--force")


def bench_commands(rows: list[Row], repeats: int, directory: Path) -> None:
    """Alone and recorded in turn."""
    trace = str(directory / "commands.pftrace")
    pairs = [(_seconds(), _seconds(*_PROFINFER, "-o", trace, "--")) for _ in range(max(repeats, 1))]
    longer = [recorded - alone for alone, recorded in pairs]
    row = at_most(
        f"{COMMANDS:,} execs of /bin/true in a launched script: longer by", 1, longer, "s"
    )
    row.measured += f", alone {min(alone for alone, _ in pairs):.2f} s"
    rows.append(row)


def _seconds(*before: str) -> float:
    done = subprocess.run(
        [*before, "bash", "-c", _SCRIPT], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, check=False,
    )  # fmt: skip
    return int(done.stdout) / 1e6
