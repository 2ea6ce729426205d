"""What a recording is done with on this machine: loader, transport, and way to attach."""

from __future__ import annotations

from dataclasses import dataclass

from profinfer import features, loader, uprobes
from profinfer.loader import Loader
from profinfer.uprobes import Way


@dataclass(frozen=True)
class Means:
    """What was chosen."""

    loader: Loader
    transport: str
    """"ring" or "perf"."""
    way: Way
    boot_clock: bool
    """Whether BPF reads CLOCK_BOOTTIME; else it is computed from CLOCK_MONOTONIC."""

    def to_json(self) -> dict[str, object]:
        """For the trace."""
        return {
            "loader": self.loader.name,
            "transport": self.transport,
            "attach": self.way.name,
            "attach_reason": self.way.reason,
            "boot_clock": self.boot_clock,
        }


def choose_means(wanted_loader: str, wanted_transport: str) -> Means:
    """The means for "auto", or what is asked for. KernelError when that cannot be had."""
    chosen = loader.choose(wanted_loader)
    way = (
        uprobes.best_way()
        if chosen.name == loader.LIBBPF
        else Way(uprobes.EVENT, "BCC loads no programs for uprobe_multi links")
    )
    return Means(chosen, features.transport(wanted_transport), way, features.has_boot_clock())
