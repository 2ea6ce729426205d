"""An engine as people run it: how it is started, what of it is counted, what it says itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.recording.counter import WHAT, Place

PROMPT, PREDICT = 7, 24
"""Tokens that are asked for."""

OPERATORS, BARRIERS, GRAPHS = WHAT
FUNCTIONS = {
    "ggml_cpu_extra_compute_forward": OPERATORS,
    "ggml_compute_forward_rms_norm_mul_fused": OPERATORS,
    "ggml_barrier": BARRIERS,
    "ggml_graph_compute": GRAPHS,
}
"""What is called once per thread for each operator, wherever compilers leave it a function of its
own; once per thread for each barrier; once per graph on the processor."""


@dataclass(frozen=True)
class Own:
    """An engine's own account of what it has done."""

    prompt: int
    decode: int
    """Tokens that a decoding step was made for."""
    decode_ms: float
    """What it says these steps took."""
    with_gaps: bool
    """Whether that is from the first step's beginning to the last one's, so that sampling is in
    it, or the steps alone."""


@dataclass(frozen=True)
class Engine:
    """An engine, and a command that has it compute."""

    name: str
    version: str
    kind: str
    """How it was built and comes."""
    libc: str
    command: tuple[str, ...]
    places: tuple[Place, ...]
    """What is counted."""
    read: Callable[[str], Own] | None
    """Its own account, from what the command prints; None where it gives none of tokens."""
    known: Mapping[str, int] = field(default_factory=dict)
    """What follows from the graph that it computes, where no function can be counted."""


def functions(libraries: Sequence[Path], names: dict[str, str] = FUNCTIONS) -> tuple[Place, ...]:
    """Places of all these functions, in whichever of the libraries they are."""
    return tuple(
        Place(what, library, name) for library in libraries for name, what in names.items()
    )


def last_line(stdout: str) -> dict[str, Any]:
    """The JSON that it ends with."""
    found: dict[str, Any] = json.loads(stdout.splitlines()[-1])
    return found
