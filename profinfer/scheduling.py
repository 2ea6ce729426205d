"""The scheduler's records, made into ftrace bundles and what hangs on the target's threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from perfetto_protos import trace_pb2 as pb
from profinfer import packets
from profinfer.cpu_chain import PRIORITY, STAND_IN, STAND_IN_NAME, CpuChain, Links
from profinfer.ftrace import NONE, Switches, Wakings, bundle
from profinfer.lanes import Lanes
from profinfer.losses import Losses
from profinfer.records import (
    RECORD,
    SWITCH_FROM_TARGET,
    SWITCH_HAS_CALL,
    SWITCH_TO_TARGET,
    Records,
    SchedulerKind,
    join,
    select,
)
from profinfer.slices import I64, Mask
from profinfer.spans import Spans
from profinfer.system_calls import call_name
from profinfer.task_names import TaskNames
from profinfer.trace_writer import TraceWriter

_SLEEPS, _ENDED = 0x0F, 0x30
"""Of the states that a switch reports: asleep or stopped; never to run again."""
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
        self._machine = machine
        self._is_all = mode == "system"
        self._names = TaskNames()
        self._pending = np.empty(0, RECORD)
        self._since = 0
        self._chains: dict[int, CpuChain] = {}
        self._seen: dict[int, int] = {}
        self._blocked = Spans()
        self._takers = Spans()
        self._taken_from: dict[int, int] = {}
        self._functions: dict[int, str] = {}
        self.records = 0

    def add_tasks(self, ts: int, tasks: dict[str, Any]) -> None:
        """Processes and threads that were there at a time (tasks.py)."""
        self._since = int(tasks.get("since", self._since))
        threads = [(int(tid), int(pid), str(name)) for tid, pid, name in tasks["threads"]]
        # The target's own process has been described already.
        processes = [p for p in tasks["processes"] if p[0] != self._pid]
        self._names.add_known((tid, name) for tid, _, name in threads)
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
        everything = join([self._pending, fresh])
        old = everything["ts"] < (np.uint64(horizon) if horizon is not None else ~np.uint64(0))
        ready, self._pending = select(everything, old), select(everything, ~old)
        ready = ready.take(np.argsort(ready["ts"], kind="stable"))
        if not self._is_all:
            # Until then not every thread of the target was known as such.
            is_late = ready["ts"] >= self._since
            ready = select(ready, is_late | (ready["kind"] > SchedulerKind.WAKING))
        kind = ready["kind"]
        names = (kind == SchedulerKind.NEWNAME) | (kind == SchedulerKind.RENAME)
        self._names.begin(select(ready, names))
        for cpu in np.unique(ready["cpu"], return_inverse=True)[0].tolist():
            self._write_cpu(cpu, select(ready, ready["cpu"] == cpu))
        for cpu, tid in self._seen.items():
            if cpu not in self._chains:
                self._start(cpu, self._since, tid)
        self._seen = {}
        self._write_waits(ready)
        self._names.end()
        if horizon is not None:
            self._losses.forget_scheduler(horizon)

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
                is_lost = True
                self._losses.add_gap(cpu, gap.first, gap.last)
        next_name = self._names.at(links.next, links.ts)
        next_name[links.next == 0] = self._names.number(f"swapper/{cpu}")
        next_name[links.next == STAND_IN + cpu] = self._names.number(STAND_IN_NAME)
        wakee = _low(waking["a"])
        wakings = Wakings(
            seen.ts, wakee, _word(waking["a"], 2), _signed(_word(waking["a"], 3)),
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
        """The switches of a CPU; with a stand-in for whoever is not recorded."""
        a, b = switch["a"], switch["b"]
        links = Links(
            switch["ts"].astype(np.int64), switch["tid"].astype(np.int64), _word(a, 2), _low(a),
            _signed(_word(a, 3)),
        )  # fmt: skip
        if self._is_all:
            return links
        from_target, to_target = _flag(b, SWITCH_FROM_TARGET), _flag(b, SWITCH_TO_TARGET)
        links.prev[~from_target] = STAND_IN + cpu
        links.next[~to_target] = STAND_IN + cpu
        mine = np.flatnonzero(from_target | to_target)
        return Links(*(column[mine] for column in links.columns()))

    def _start(self, cpu: int, ts: int, tid: int) -> None:
        """Somebody runs on a CPU since a time. Idle is who ran before, as far as anybody knows."""
        chain = self._chains[cpu] = CpuChain(cpu)
        chain.start(ts, tid)
        number = self._names.at(np.array([tid]), np.array([ts]))[0]
        name = STAND_IN_NAME if tid == chain.stand_in else self._names.texts[number]
        event = pb.FtraceEvent(timestamp=ts, pid=0)
        event.sched_switch.prev_comm = f"swapper/{cpu}"
        event.sched_switch.prev_pid = event.sched_switch.prev_state = 0
        event.sched_switch.next_comm = name if tid else f"swapper/{cpu}"
        event.sched_switch.next_pid = tid
        event.sched_switch.next_prio = PRIORITY
        self._writer.encoded(bundle(cpu, Switches(*[NONE] * 5), Wakings(*[NONE] * 5), [], [event]))

    def _rare(self, rows: Records) -> list[pb.FtraceEvent]:
        """Events that have no compact form."""
        events = []
        before = self._names.at(rows["tid"].astype(np.int64), rows["ts"].astype(np.int64) - 1)
        subject = rows["tid"].astype(np.int64)
        is_new = rows["kind"] == SchedulerKind.NEWTASK
        subject[is_new] = (rows["a"][is_new] & np.uint64(0xFFFFFFFF)).astype(np.int64)
        names = self._names.at(subject, rows["ts"].astype(np.int64))
        for row, old, new in zip(rows.tolist(), before.tolist(), names.tolist(), strict=True):
            ts, a, b, tid, _, kind, _ = row
            event = pb.FtraceEvent(timestamp=ts, pid=tid)
            text = self._names.texts[new]
            if kind == SchedulerKind.NEWTASK:
                if a >> 32 == self._pid and b & _CLONE_THREAD:
                    self._lanes.add_beginning(a & 0xFFFFFFFF, ts + 1)
                event.task_newtask.pid = a & 0xFFFFFFFF
                event.task_newtask.comm = text
                event.task_newtask.clone_flags = b
            elif kind == SchedulerKind.RENAME:
                event.task_rename.pid = tid
                event.task_rename.oldcomm = self._names.texts[old]
                event.task_rename.newcomm = text
            elif kind == SchedulerKind.EXIT:
                event.sched_process_exit.pid = tid
                event.sched_process_exit.comm = text
            elif kind == SchedulerKind.FREE:
                event.sched_process_free.pid = tid
                event.sched_process_free.comm = text
            elif kind == SchedulerKind.REASON:
                event.sched_blocked_reason.pid = tid
                event.sched_blocked_reason.caller = self._writer.kernel_symbol(
                    self._functions.get(a, f"{a:#x}")
                )
                event.sched_blocked_reason.io_wait = b
            else:
                continue
            events.append(event)
        return events

    # ---- The target's threads

    def _write_waits(self, rows: Records) -> None:
        """What each of them was blocked in and, where others are not recorded, who took its CPU."""
        switch = select(rows, rows["kind"] == SchedulerKind.SWITCH)
        waking = select(rows, rows["kind"] == SchedulerKind.WAKING)
        a, b = switch["a"], switch["b"]
        ts, tid = switch["ts"].astype(np.int64), switch["tid"].astype(np.int64)
        following, state = _low(a), _word(a, 2)
        is_mine = _flag(b, SWITCH_FROM_TARGET)
        blocks = (state & _SLEEPS != 0) & (state & _ENDED == 0) & _flag(b, SWITCH_HAS_CALL)
        begins = np.flatnonzero(is_mine & blocks)
        call = _signed(_low(b), np.int32)[begins]
        calls, index = np.unique(call, return_inverse=True)
        names = [self._writer.name(call_name(self._machine, number)) for number in calls.tolist()]
        ended = self._blocked.feed(
            tid[begins], ts[begins],
            np.concatenate([following, _low(waking["a"])]),
            np.concatenate([ts, waking["ts"].astype(np.int64)]),
        )  # fmt: skip
        track = self._lanes.blocked
        self._end_slices([track(t) for t in ended.tid.tolist()], ended.ts)
        if len(begins):
            self._writer.encoded(
                packets.NAMED_BEGIN.encode(
                    ts[begins].astype(np.uint64),
                    track=np.array([track(t) for t in tid[begins].tolist()], np.uint64),
                    name=np.array(names, np.uint64)[index],
                    category=self._writer.category("blocked"),
                )
            )
        if not self._is_all:
            takes = is_mine & (state & 0xFF == 0) & ~_flag(b, SWITCH_TO_TARGET) & (following != 0)
            self._write_takers(switch, np.flatnonzero(takes))

    def _write_takers(self, switch: Records, begins: I64) -> None:
        ts, tid = switch["ts"].astype(np.int64), switch["tid"].astype(np.int64)
        following = _low(switch["a"])
        # A taker stays until the next switch on its CPU, of which there is a record.
        end_tid, end_ts = [following], [ts]
        takes = np.zeros(len(ts), np.bool_)
        takes[begins] = True
        for cpu in np.unique(switch["cpu"], return_inverse=True)[0].tolist():
            mine = np.flatnonzero(switch["cpu"] == cpu)
            victim = np.where(takes[mine], tid[mine], -1)
            end_tid.append(np.append(np.int64(self._taken_from.get(cpu, -1)), victim[:-1]))
            end_ts.append(ts[mine])
            self._taken_from[cpu] = int(victim[-1])
        ended = self._takers.feed(
            tid[begins], ts[begins], np.concatenate(end_tid), np.concatenate(end_ts)
        )
        track = self._lanes.takers
        self._end_slices([track(t) for t in ended.tid.tolist()], ended.ts)
        if not len(begins):
            return
        writer = self._writer
        taker = following[begins]
        names = [self._names.texts[n] for n in self._names.at(taker, ts[begins]).tolist()]
        writer.encoded(
            packets.TAKER_BEGIN.encode(
                ts[begins].astype(np.uint64),
                track=np.array([track(t) for t in tid[begins].tolist()], np.uint64),
                name=np.array([writer.name(name) for name in names], np.uint64),
                tid=np.array([writer.string(str(t)) for t in taker.tolist()], np.uint64),
                category=writer.category("taken"),
            )
        )

    def _end_slices(self, tracks: list[int], ts: I64) -> None:
        if tracks:
            self._writer.encoded(
                packets.SLICE_END.encode(ts.astype(np.uint64), track=np.array(tracks, np.uint64))
            )


def _links(ts: npt.NDArray[np.uint64], tid: npt.NDArray[np.uint32]) -> Links:
    """That threads were seen to run."""
    return Links(ts.astype(np.int64), tid.astype(np.int64), NONE, NONE, NONE)


def _low(words: npt.NDArray[np.uint64]) -> I64:
    """The lower 32 bits."""
    return (words & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _word(words: npt.NDArray[np.uint64], index: int) -> I64:
    """One of the four times 16 bits, from below."""
    return (words >> np.uint64(16 * index) & np.uint64(0xFFFF)).astype(np.int64)


def _signed(values: I64, of: type[np.int16 | np.int32] = np.int16) -> I64:
    return values.astype(of).astype(np.int64)


def _flag(words: npt.NDArray[np.uint64], bit: int) -> Mask:
    flags: Mask = words >> np.uint64(bit) & np.uint64(1) != 0
    return flags
