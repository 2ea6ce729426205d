"""What a recording is done with on this machine: loader, transport, and way to attach."""

from __future__ import annotations

from dataclasses import dataclass

from profinfer import features, loader, uprobes
from profinfer.errors import KernelError
from profinfer.loader import Loader
from profinfer.uprobes import BY_EVENT, Way


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


def choose_means(
    wanted_loader: str = "auto", wanted_transport: str = "auto", wanted_way: str = "auto"
) -> Means:
    """The means asked for, or what this machine has for "auto". KernelError when something that is
    asked for cannot be had."""
    chosen = loader.choose(wanted_loader)
    if wanted_way == uprobes.EVENT:
        way = BY_EVENT
    elif chosen.name == loader.LIBBPF:
        way = uprobes.best_way()
    else:
        way = Way(uprobes.EVENT, "BCC loads no programs for uprobe_multi links")
    if wanted_way == uprobes.LINK != way.name:
        raise KernelError(f"no probes by uprobe_multi link: {way.reason}", "record --attach auto")
    transport = features.choose_transport(wanted_transport)
    return Means(chosen, transport, way, features.has_boot_clock())
