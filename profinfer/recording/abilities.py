"""What this machine can record, in words for people: the recorder is asked to try it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from profinfer.errors import KernelError
from profinfer.kernel import features
from profinfer.kernel.counters import want
from profinfer.kernel.perf_events import GENERIC
from profinfer.kernel.pmus import read_pmus
from profinfer.kernel.presets import cpu_models, presets
from profinfer.probes.hitcost import HitCost, hit_cost
from profinfer.recording.bcc_loader import load_bcc
from profinfer.recording.recorder import Server

_NUMBERS = ("PID_LEVEL", "PID_NAMESPACE", "TASK_THREAD_PID", "TASK_GROUP_LEADER", "PID_DEPTH",
            "PID_NUMBER", "NAMESPACE_INODE")  # fmt: skip
"""PID_PARAMETERS of bpf/parameters.h: the machine's own numbers."""


def _launch_source(child: int) -> dict[str, Any]:
    """What BCC is tried with: the least that there is in bpf/."""
    return {
        "name": "launch",
        "programs": {"on_objects_changed": 2, "on_fork": 5, "on_exec": 5},
        "maps": ["family", "stops"],
        "parameters": {
            "CHILD_OFFSET": child,
            "GROUP_DEAD_OFFSET": -1,
            **dict.fromkeys(_NUMBERS, 0),
        },
        "entries": {"stops": features.cpu_count()},
    }


class Abilities:
    """Of this machine. `lend`: the recorder, which every answer but the last needs."""

    def __init__(self, lend: Callable[[], Server]) -> None:
        self._lend = lend

    @cached_property
    def means(self) -> dict[str, Any]:
        """What a recording is made with."""
        return self._lend().ask("means", loader="auto", transport="auto", attach="auto")

    def hit_cost(self, *, again: bool = False) -> HitCost:
        """What a hit costs, measured `again`, or as it was."""
        return hit_cost(self._lend().ask, self.means["attach"], again=again)

    def uprobes(self) -> str:
        """How probes are attached."""
        if self.means["attach"] == "uprobe_multi":
            return "by uprobe_multi link: one for all places of a handler"
        return f"by perf event: {self.means['attach_reason']}"

    def hit_costs(self) -> str:
        """What each kind of instruction costs."""
        cost = self.hit_cost(again=True)
        lines = [
            "measured now among work, with 95 % intervals, "
            + (
                "kept for this machine until its next boot"
                if cost.settled
                else "the machine is busy: not kept"
            ),
            f"a handler that does nothing runs {cost.empty_handler_ns:.0f} ns by the kernel's"
            " count",
        ]
        for ns, kind in sorted((ns, kind) for kind, ns in cost.sites.items() if ns is not None):
            low, high = cost.intervals.get(kind, (ns, ns))
            lines += [f"{kind:12} {ns / 1000:6.2f} us ({low / 1000:.2f}..{high / 1000:.2f})"]
        lines += [
            f"{kind:12} refused by this kernel" for kind, ns in cost.sites.items() if ns is None
        ]
        return "\n".join(lines)

    def loaders(self) -> str:
        """Both are tried: BCC with a program that needs a tracepoint's format."""
        lines = [
            f"record uses libbpf, which is part of {self._lend().program}",
            "libbpf loads programs" if self.means else "",
        ]
        try:
            child = features.tracepoint_field("sched/sched_process_fork", "child_pid")
            load_bcc(_launch_source(child)).close()
            lines.append("bcc loads programs")
        except KernelError as error:
            lines.append(f"bcc does not: {error.message}")
        return "\n".join(lines)

    def tracefs(self) -> str:
        """Where it is, and what does not work without it."""
        try:
            return str(features.tracefs())
        except KernelError as error:
            lost = "record --pid works without, record -- COMMAND and --block-io do not"
            raise KernelError(f"{error.message}: {lost}", error.hint) from None

    def transport(self) -> str:
        """What records travel through."""
        computed = "; times are computed from CLOCK_MONOTONIC"
        return (
            f"record uses {self.means['transport']}{'' if self.means['boot_clock'] else computed}"
        )

    def counters(self) -> str:
        """What --counters can name."""
        lines = [read_pmus().describe()]
        lines.append("generic: " + ", ".join(name for name in GENERIC if self._count(name)[0]))
        for name, preset in presets().items():
            found, notes = self._count(name)
            lines.append(f"preset {name} ({preset.what}): {', '.join(found) or notes[0]}")
        return "\n".join(lines)

    def _count(self, name: str) -> tuple[list[str], list[str]]:
        """What of it counts here, and what is to be said of the rest."""
        wanted = want([name], read_pmus(), cpu_models())
        answer = self._lend().ask("counters", **wanted.to_json())
        return [str(event["name"]) for event in answer["events"]], list(map(str, answer["notes"]))

    def stub_clock(self) -> str:
        """Why stubs cannot tell times on this machine; empty where they can."""
        return str(self._lend().ask("ticks")["problem"])

    def scheduler(self) -> str:
        """What of it can be recorded; a recording without it is one all the same."""
        answer = self._lend().ask("scheduler", transport=self.means["transport"])
        if why := answer.get("why"):
            return f"cannot be recorded: {why}"
        found = ["states of threads"]
        if answer.get("system_calls"):
            found.append("the system call that each was blocked in")
        if answer.get("blocked_reasons"):
            found.append("the kernel's function")
        if answer.get("throttling", "none") != "none":
            found.append("whom a cgroup's quota keeps from CPUs")
        return ", ".join(found)

    def memory(self) -> str:
        """What of faults and file reads can be recorded; as above."""
        answer = self._lend().ask("memory")
        lines = []
        for what, option, means in (
            ("faults", "page faults cannot be recorded (--faults)",
             "page faults by the software events page-faults-min and page-faults-maj"),
            ("reads", "file reads cannot be recorded (--block-io)",
             "file reads by the tracepoint filemap/mm_filemap_add_to_page_cache"),
        ):  # fmt: skip
            why, hint = answer[what], answer[f"{what}_hint"]
            lines.append(f"{option}: {why}" if why else means)
            lines += [f"hint: {hint}"] if why and hint else []
        return "\n".join([*lines, *answer["notes"]])
