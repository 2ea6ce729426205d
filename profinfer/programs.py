"""BPF programs and their maps: what is to be loaded, and what the kernel then holds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from profinfer.errors import KernelError

BPF_DIR = Path(__file__).resolve().parent.parent / "bpf"
KPROBE, TRACEPOINT, PERF_EVENT, RAW_TRACEPOINT = 2, 5, 7, 17
"""BPF_PROG_TYPE_*; uprobes are of the first."""


@dataclass(frozen=True)
class Source:
    """One of the programs of bpf/, with everything that is decided when it is loaded."""

    name: str
    """"profinfer", "scheduler" or "launch"."""
    programs: Mapping[str, int]
    """Their bpf_prog_type, by name."""
    maps: tuple[str, ...]
    """Those that user space uses."""
    parameters: Mapping[str, int]
    """Integers by name."""
    entries: Mapping[str, int] = field(default_factory=dict)
    """max_entries of maps that have none in the source; bytes, of a BPF ring buffer."""
    transport: int | None = None
    """TRANSPORT of bpf/parameters.h, where the source has it."""
    attach_type: int = 0
    """expected_attach_type of its programs for uprobes."""


@dataclass
class Programs:
    """Programs and maps in the kernel; closing lets go of them."""

    programs: dict[str, int]
    """fd by name."""
    maps: dict[str, int]
    """fd by name."""
    refused: dict[str, KernelError] = field(default_factory=dict)
    """What the verifier said, by name, where a loader loads one by one."""

    def program(self, name: str) -> int:
        """The fd of a program; KernelError with the verifier's last lines when it was refused."""
        if name in self.refused:
            raise self.refused[name]
        return self.programs[name]

    def close(self) -> None:
        """Closes all of them."""
        for fd in [*self.programs.values(), *self.maps.values()]:
            os.close(fd)
        self.programs, self.maps = {}, {}
