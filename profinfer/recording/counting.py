"""Which of the counters that are asked for can be had; said before anything begins."""

from __future__ import annotations

from typing import Any

from profinfer.errors import KernelError
from profinfer.kernel.counters import want
from profinfer.kernel.pmus import read_pmus
from profinfer.kernel.presets import cpu_models
from profinfer.recording.recorder import Server


def ask_counters(server: Server, names: list[str]) -> tuple[dict[str, Any], list[str]]:
    """What a plan says of the counters, and what is to be said of those that cannot be had.
    KernelError when none of them can."""
    counters = want(names, read_pmus(), cpu_models()).to_json()
    answer = server.ask("counters", **counters)
    notes = [str(note) for note in answer["notes"]]
    if not answer["events"]:
        reasons = "; ".join(note.removeprefix("not counted: ") for note in notes)
        raise KernelError(
            f"none of the counters can be counted here: {reasons}",
            "profinfer doctor shows what can be; or record without --counters",
        )
    return counters, notes
