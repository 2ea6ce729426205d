"""The scheduler's records, made into ftrace bundles and what hangs on the target's threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from perfetto_protos import trace_pb2 as pb
from profinfer.records.dtypes import (
    RECORD,
    SWITCH_FROM_TARGET,
    SWITCH_TO_TARGET,
    Records,
    SchedulerKind,
    join,
    select,
)
from profinfer.records.words import flag, low, signed, word
from profinfer.scheduling.cpu_chain import (
    PRIORITY,
    SLEEPING,
    STAND_IN,
    CpuChain,
    Links,
    stand_in_name,
)
from profinfer.scheduling.task_names import TaskNames
from profinfer.scheduling.thread_ends import ThreadEnds
from profinfer.scheduling.thread_waits import ThreadWaits
from profinfer.trace.ftrace import NONE, Switches, Wakings, bundle
from profinfer.trace.lanes import Lanes
from profinfer.trace.losses import Losses
from profinfer.trace.writer import TraceWriter

_CLONE_THREAD = 0x10000


class Scheduling:
    """Takes the records of the scheduler in order and writes what they tell."""

    def __init__(
        self, writer: TraceWriter, lanes: Lanes, losses: Losses, pid: int, machine: str, mode: str
    ) -> None:
        """`pid`: the target; `machine` as uname says it; `mode`: "system" or "target"."""
        self._writer = writer
        self._lanes = lanes
        self._losses = losses
        self._pid = pid
        self._is_all = mode == "system"
        self._names = TaskNames()
        self._waits = ThreadWaits(writer, lanes, self._names, machine, takers=not self._is_all)
        self._pending = np.empty(0, RECORD)
        self._fresh: list[Records] = []
        self._horizon = 0
        self._since = 0
        self._chains: dict[int, CpuChain] = {}
        self._seen: dict[int, int] = {}
        self._functions: dict[int, str] = {}
        self._mine: set[int] = set()
        self._ends = ThreadEnds()
        self.records = 0

    def add_tasks(self, ts: int, tasks: dict[str, Any]) -> None:
        """Processes and threads that were there at a time (tasks.c)."""
        self._since = int(tasks.get("since", self._since))
        threads = [(int(tid), int(pid), str(name)) for tid, pid, name in tasks["threads"]]
        self._names.add_known((tid, name) for tid, _, name in threads)
        self._mine |= {tid for tid, pid, _ in threads if pid == self._pid}
        # The target's own process has been described already.
        processes = [p for p in tasks["processes"] if p[0] != self._pid and self._is_all]
        if not self._is_all:
            threads = [thread for thread in threads if thread[0] in self._mine]
        self._writer.process_tree(ts, processes, threads)
        self._functions |= {int(a): str(name) for a, name in tasks.get("functions", {}).items()}

    def see(self, records: Records) -> None:
        """Records of the engine tell who was running on CPUs where nobody has been switched."""
        cpus, first = np.unique(records["cpu"], return_index=True)
        for cpu, row in zip(cpus.tolist(), first.tolist(), strict=True):
            if cpu not in self._chains:
                self._seen.setdefault(cpu, int(records["tid"][row]))

    def feed(self, horizon: int | None, data: bytes) -> None:
        """Takes records; nothing older than `horizon` (None: nothing at all) is still to come."""
        fresh = np.frombuffer(data, RECORD)
        if len(fresh) and int(fresh["ts"].max()) >> 63:
            raise ValueError("a time beyond 2^63")
        self.records += len(fresh)
        self._losses.count_scheduler(fresh)
        self._fresh.append(fresh)
        if horizon is not None and horizon <= self._horizon:
            return  # more of a drain that is not over, and names may follow
        self._horizon = horizon or self._horizon
        everything = join([self._pending, *self._fresh])
        self._fresh = []
        old = everything["ts"] < (np.uint64(horizon) if horizon is not None else ~np.uint64(0))
        ready, self._pending = select(everything, old), select(everything, ~old)
        ready = ready.take(np.argsort(ready["ts"], kind="stable"))
        if not self._is_all:
            # Until then not every thread of the target was known as such.
            is_late = ready["ts"] >= self._since
            ready = select(ready, is_late | (ready["kind"] > SchedulerKind.WAKING))
        ready = self._ends.without_late(ready)
        kind = ready["kind"]
        self._begin_threads(select(ready, kind == SchedulerKind.NEWTASK))
        names = (kind == SchedulerKind.NEWNAME) | (kind == SchedulerKind.RENAME)
        self._names.begin(select(ready, names))
        for cpu in np.unique(ready["cpu"], return_inverse=True)[0].tolist():
            self._write_cpu(cpu, select(ready, ready["cpu"] == cpu))
        for cpu, tid in self._seen.items():
            if cpu not in self._chains:
                self._start(cpu, self._since, tid)
        self._seen = {}
        self._waits.write(ready)
        self._names.end()
        self._losses.forget_scheduler({c: chain.last_ts for c, chain in self._chains.items()})

    def _begin_threads(self, new: Records) -> None:
        for _, ts, a, b, *_ in new[["tid", "ts", "a", "b"]].tolist():
            if a >> 32 == self._pid and b & _CLONE_THREAD:
                self._lanes.threads.begin(a & 0xFFFFFFFF, ts + 1)

    # ---- One CPU

    def _write_cpu(self, cpu: int, rows: Records) -> None:
        switch = select(rows, rows["kind"] == SchedulerKind.SWITCH)
        waking = select(rows, rows["kind"] == SchedulerKind.WAKING)
        seen = _links(waking["ts"], waking["tid"])
        links = self._links(cpu, switch)
        if cpu not in self._chains:
            self._begin_chain(cpu, links, seen)
        is_lost = self._losses.has_fresh(cpu)
        if len(links.ts):
            links, gaps = self._chains[cpu].join(
                links, seen, lambda after, before: self._losses.last_switch(cpu, after, before)
            )
            for gap in gaps:
                self._losses.add_gap(cpu, gap)
        next_name = self._names.at(links.next, links.ts)
        next_name[links.next == 0] = self._names.number(f"swapper/{cpu}")
        next_name[links.next == STAND_IN + cpu] = self._names.number(stand_in_name(cpu))
        wakee = low(waking["a"])
        wakings = Wakings(
            seen.ts, wakee, word(waking["a"], 2), signed(word(waking["a"], 3)),
            self._names.at(wakee, seen.ts),
        )  # fmt: skip
        switches = Switches(links.ts, links.state, links.next, links.prio, next_name)
        rare = self._rare(select(rows, rows["kind"] > SchedulerKind.WAKING))
        self._writer.encoded(bundle(cpu, switches, wakings, self._names.texts, rare, lost=is_lost))

    def _begin_chain(self, cpu: int, links: Links, seen: Links) -> None:
        """Who has run since the beginning, as the first record on a CPU tells."""
        if len(links.ts):
            lost = self._losses.last_switch(cpu, 0, int(links.ts[0]))
            start = min(lost or self._since, int(links.ts[0]) - 1)
            self._start(cpu, start, int(links.prev[0]))
        elif len(seen.ts) and self._is_all:
            self._start(cpu, min(self._since, int(seen.ts[0]) - 1), int(seen.prev[0]))

    def _links(self, cpu: int, switch: Records) -> Links:
        """The switches of a CPU; with a stand-in for whoever is not recorded. What is: idle that
        comes after a thread of the target."""
        a, b = switch["a"], switch["b"]
        links = Links(
            switch["ts"].astype(np.int64), switch["tid"].astype(np.int64), word(a, 2), low(a),
            signed(word(a, 3)),
        )  # fmt: skip
        if self._is_all:
            return links
        from_target, to_target = flag(b, SWITCH_FROM_TARGET), flag(b, SWITCH_TO_TARGET)
        # Who takes over is followed until it gives the CPU away: so is idle.
        to_idle = from_target & ~to_target & (links.next == 0)
        chain = self._chains.get(cpu)
        from_idle = np.append(chain is not None and chain.running == 0, to_idle[:-1])[: len(a)]
        from_idle &= links.prev == 0
        links.prev[~from_target & ~from_idle] = STAND_IN + cpu
        links.state[~from_target] = SLEEPING
        links.next[~to_target & ~to_idle] = STAND_IN + cpu
        mine = np.flatnonzero(from_target | to_target | from_idle)
        return Links(*(column[mine] for column in links.columns()))

    def _start(self, cpu: int, ts: int, tid: int) -> None:
        """Somebody runs on a CPU since a time. Idle is who ran before, as far as anybody knows."""
        chain = self._chains[cpu] = CpuChain(cpu)
        chain.start(ts, tid)
        number = self._names.at(np.array([tid]), np.array([ts]))[0]
        name = stand_in_name(cpu) if tid == chain.stand_in else self._names.texts[number]
        idle = f"swapper/{cpu}"
        event = pb.FtraceEvent(timestamp=ts, pid=0, sched_switch={
            "prev_comm": idle, "prev_pid": 0, "prev_state": 0,
            "next_comm": name if tid else idle, "next_pid": tid, "next_prio": PRIORITY,
        })  # fmt: skip
        self._writer.encoded(bundle(cpu, Switches(*[NONE] * 5), Wakings(*[NONE] * 5), [], [event]))

    def _rare(self, rows: Records) -> list[pb.FtraceEvent]:
        """Events that have no compact form."""
        events: list[pb.FtraceEvent] = []
        if not len(rows):
            return events
        before = self._names.at(rows["tid"].astype(np.int64), rows["ts"].astype(np.int64) - 1)
        subject = rows["tid"].astype(np.int64)
        is_new = rows["kind"] == SchedulerKind.NEWTASK
        subject[is_new] = (rows["a"][is_new] & np.uint64(0xFFFFFFFF)).astype(np.int64)
        names = self._names.at(subject, rows["ts"].astype(np.int64))
        columns = (rows.tolist(), subject.tolist(), before.tolist(), names.tolist())
        for row, of, old, new in zip(*columns, strict=True):
            ts, a, b, tid, _, kind, _ = row
            if kind == SchedulerKind.NEWTASK and a >> 32 == self._pid and b & _CLONE_THREAD:
                self._mine.add(of)
            if not (self._is_all or of in self._mine):
                continue  # of its states nothing is told
            text = self._names.texts[new]
            what: dict[str, Any]
            if kind == SchedulerKind.NEWTASK:
                what = {"task_newtask": {"pid": of, "comm": text, "clone_flags": b}}
            elif kind == SchedulerKind.RENAME:
                before_it = self._names.texts[old]
                what = {"task_rename": {"pid": tid, "oldcomm": before_it, "newcomm": text}}
            elif kind == SchedulerKind.EXIT:
                what = {"sched_process_exit": {"pid": tid, "comm": text}}
            elif kind == SchedulerKind.FREE:
                what = {"sched_process_free": {"pid": tid, "comm": text}}
            elif kind == SchedulerKind.REASON:
                caller = self._writer.kernel_symbol(self._functions.get(a, f"{a:#x}"))
                what = {"sched_blocked_reason": {"pid": tid, "caller": caller, "io_wait": bool(b)}}
            else:
                continue
            events.append(pb.FtraceEvent(timestamp=ts, pid=tid, **what))
        return events


def _links(ts: npt.NDArray[np.uint64], tid: npt.NDArray[np.uint32]) -> Links:
    """That threads were seen to run."""
    return Links(ts.astype(np.int64), tid.astype(np.int64), NONE, NONE, NONE)
