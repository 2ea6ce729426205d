"""What a launched script takes longer that starts much and computes nothing."""

from __future__ import annotations

import subprocess
import sys
import time
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
    """Alone and recorded in turn, the recording's own start and end included."""
    trace = str(directory / "commands.pftrace")
    pairs = [(_seconds(), _seconds(*_PROFINFER, "-o", trace, "--")) for _ in range(max(repeats, 1))]
    what = f"{COMMANDS:,} execs of /bin/true in a launched script: longer by"
    row = at_most(what, 1, [recorded[0] - alone[0] for alone, recorded in pairs], "s")
    row.measured += f", alone {min(alone[0] for alone, _ in pairs):.2f} s"
    rows.append(row)
    within = [recorded[1] - alone[1] for alone, recorded in pairs]
    rows.append(at_most("of that from the first exec to the last", None, within, "s"))


def _seconds(*before: str) -> tuple[float, float]:
    """From the start of all to its end, and from the first exec to the last."""
    began = time.monotonic()
    done = subprocess.run(
        [*before, "bash", "-c", _SCRIPT], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, check=False,
    )  # fmt: skip
    return time.monotonic() - began, int(done.stdout) / 1e6
