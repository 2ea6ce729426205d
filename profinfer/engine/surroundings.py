"""Where a process runs, and what it may do there: as /proc shows it, which may be of any kernel.

What the kernel does not show is None.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from profinfer.engine.target import printable, process_name
from profinfer.errors import TargetError

_ID = re.compile(r"(?:^|[-/:])([0-9a-f]{64}|[0-9a-f]{32}-\d+)(?:\.scope)?(?=$|/)")
"""Of a container, as docker, podman, containerd and CRI-O name its cgroup; the second, ECS."""
_UNIT = re.compile(r"(?:^|/)([^/]+\.(?:service|scope))(?=$|/)")
_SECCOMP = {0: "none", 1: "strict", 2: "filter"}
_BUSY = 10
"""Of the busiest thread's CPU time this part makes a busy thread."""
_MAX_THREADS = 65536
_SHOWN = 5


@dataclass(frozen=True)
class Threads:
    """Of a process, now."""

    count: int
    busy: int
    """Those that have used a tenth at least of the CPU time that the busiest one has: as a rule,
    they compute."""
    names: dict[str, int]


@dataclass(frozen=True)
class Container:
    """A process's control group, and what its path tells."""

    cgroup: str | None
    id: str | None
    unit: str | None
    namespaces: tuple[str, ...] | None
    """Kinds of namespaces in which it is not where we are."""
    other_root: bool | None


@dataclass(frozen=True)
class Restrictions:
    """What was taken from a process."""

    seccomp: str | None
    seccomp_filters: int | None
    no_new_privileges: bool | None


@dataclass(frozen=True)
class Surroundings:
    """All of it."""

    threads: Threads
    container: Container
    restrictions: Restrictions

    def describe(self) -> list[str]:
        """Lines for people."""
        threads, where, taken = self.threads, self.container, self.restrictions
        names = [f"{count} {name}" for name, count in list(threads.names.items())[:_SHOWN]]
        more = len(threads.names) - len(names)
        others = ", ".join(where.namespaces or ()) or (
            "unknown" if where.namespaces is None else ""
        )
        filters = f" ({taken.seccomp_filters})" if taken.seccomp_filters else ""
        return [
            f"threads: {threads.count}, of which {threads.busy} busy so far"
            f" ({', '.join(names)}{f', {more} other names' if more else ''})",
            f"container: {where.id or 'none that its control group tells of'}",
            f"unit: {where.unit or 'none'}; control group {where.cgroup or 'unknown'}",
            f"namespaces other than ours: {others or 'none'}"
            + ("; another root folder" if where.other_root else ""),
            f"seccomp: {taken.seccomp or 'unknown'}{filters}"
            + ("; no new privileges" if taken.no_new_privileges else "")
            + ("; on Linux 6.18 the calls of probes pass it" if taken.seccomp == "filter" else ""),
        ]

    def to_json(self) -> dict[str, object]:
        """With what cannot be known."""
        why = "the kernel tells only the process itself whether it may make writable memory code"
        return {**asdict(self), "mdwe": None, "why_no_mdwe": why}


def surroundings(pid: int) -> Surroundings:
    """Of a process; TargetError when it does not exist."""
    try:
        status = dict(
            line.split(":", 1)
            for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
            if ":" in line
        )
    except OSError:
        raise TargetError(f"process {pid} does not exist") from None
    return Surroundings(_threads(pid), container(pid), _restrictions(status))


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isdigit() else None


def _restrictions(status: dict[str, str]) -> Restrictions:
    mode, privileges = _number(status.get("Seccomp")), _number(status.get("NoNewPrivs"))
    return Restrictions(
        None if mode is None else _SECCOMP.get(mode, f"mode {mode}"),
        _number(status.get("Seccomp_filters")),
        None if privileges is None else bool(privileges),
    )


# ---- Threads


def _threads(pid: int) -> Threads:
    names: Counter[str] = Counter()
    times = []
    try:
        tids = os.listdir(f"/proc/{pid}/task")[:_MAX_THREADS]
    except OSError:
        raise TargetError(f"process {pid} has ended") from None
    for tid in tids:
        folder = Path(f"/proc/{pid}/task/{tid}")
        try:
            # utime and stime; the name before them may hold anything.
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            times.append(int(fields[11]) + int(fields[12]))
        except (OSError, ValueError, IndexError):
            continue
        names[process_name(int(tid))] += 1
    most = max(times, default=0)
    busy = sum(time * _BUSY >= most for time in times) if most else 0
    return Threads(len(times), busy, dict(names.most_common()))


# ---- Containers


def container(pid: int) -> Container:
    """Of a process; nothing of one that has ended."""
    cgroup = _cgroup(pid)
    ids = _ID.findall(cgroup or "")
    units = _UNIT.findall(cgroup or "")
    return Container(
        None if cgroup is None else printable(cgroup), ids[-1] if ids else None,
        printable(units[-1]) if units else None, _other_namespaces(pid), _has_other_root(pid),
    )  # fmt: skip


def _cgroup(pid: int) -> str | None:
    """The path in the unified hierarchy, or in that of the longest path where there are several."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(errors="replace").split("\n")
    except OSError:
        return None
    paths = [tuple(line.split(":", 2)[1:]) for line in lines if line.count(":") >= 2]
    unified = [path for controllers, path in paths if not controllers]
    if unified and unified[0] != "/":
        return unified[0]
    return max((path for _, path in paths), key=len, default=None)


def _other_namespaces(pid: int) -> tuple[str, ...] | None:
    found = []
    try:
        for kind in sorted(os.listdir("/proc/self/ns")):
            if kind.endswith("_for_children"):
                continue
            if os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}"):
                found.append(kind)
    except OSError:
        return None
    return tuple(found)


def _has_other_root(pid: int) -> bool | None:
    try:
        theirs, ours = os.stat(f"/proc/{pid}/root/."), os.stat("/proc/self/root/.")
    except OSError:
        return None
    return (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino)
