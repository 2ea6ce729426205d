"""A system trace as Android's traced and traced_probes write it, of a schedule made up here.

    android = Android()
    android.ran(tid, cpu, begin, end)     # the thread has the CPU, idle before and after
    path.write_bytes(android.trace())

Times are ns of BOOTTIME. MONOTONIC is behind it by the time that the device was asleep, and
REALTIME ahead of it by when it was booted. Sequences, packets and their order are those of a
recording on a phone: the service's (1), the processes' and packages' (2), and one per CPU for
ftrace (3 and on), in which bundles are of compact_sched with interned names beside plain events.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import (
    FtraceEventBundle,
    FtraceStats,
    Trace,
    TracePacket,
)

BOOTED = 1_790_000_000_000_000_000
"""REALTIME at BOOTTIME 0."""
ASLEEP = 100_000_000_000

REALTIME, MONOTONIC, BOOTTIME = 1, 3, 6
SERVICE, PROCESSES, FTRACE = 1, 2, 3
ZYGOTE, SYSTEM_SERVER = 700, 1200
PACKAGE, UID = "com.example.llm", 10_123
PRIORITY, WAKER = 120, 1201
SLEEPING, PREEMPTED = 1, 256  # states of a thread that leaves its CPU: S, R+
_BUNDLE = 50
"""Switches per bundle."""


@dataclass(frozen=True)
class Switch:
    """One thread after another on a CPU."""

    ts: int
    before: int
    state: int
    after: int


@dataclass
class Android:
    """Collects what happened, and makes the trace of it."""

    pid: int
    threads: dict[int, str]
    """Of the app, its main thread (the app's pid) among them."""
    cpus: int = 4
    start: int = 0
    """When tracing began; the end is that of the last event."""
    booted: int = BOOTED
    system: str = "5.10.177-android13-4"
    switches: dict[int, list[Switch]] = field(default_factory=dict)
    wakeups: dict[int, list[tuple[int, int]]] = field(default_factory=dict)

    def ran(self, tid: int, cpu: int, begin: int, end: int, *, left: int = SLEEPING) -> None:
        """A thread is woken by another process, has the CPU, and leaves it in a state."""
        self.wakeups.setdefault(cpu, []).append((begin - 20_000, tid))
        self.switches.setdefault(cpu, []).append(Switch(begin, 0, 0, tid))
        self.switches[cpu].append(Switch(end, tid, left, 0))

    def preempted(self, tid: int, cpu: int, begin: int, end: int, by: int) -> None:
        """Within a time that `ran` has told, another thread has the CPU."""
        found = self.switches[cpu]
        found += [Switch(begin, tid, PREEMPTED, by), Switch(end, by, SLEEPING, tid)]

    def trace(self, *, compress: bool = False) -> bytes:
        """The trace; `compress`: in compressed packets, as the service itself can write it."""
        packets = self._packets()
        if not compress:
            return bytes(Trace(packet=packets).SerializeToString())
        whole = Trace()
        for first in range(0, len(packets), 7):
            some = Trace(packet=packets[first : first + 7]).SerializeToString()
            whole.packet.add(compressed_packets=zlib.compress(some))
        return bytes(whole.SerializeToString())

    # ---- Packets

    def _packets(self) -> list[Any]:
        last = max(s.ts for found in self.switches.values() for s in found) + 1_000_000
        every = [
            self._clocks(self.start), *self._about(), self._service(self.start, "tracing_started"),
            *self._processes(), self._ftrace_stats(FtraceStats.START_OF_TRACE),
            self._service(self.start + 1, "all_data_sources_started"),
        ]  # fmt: skip
        for cpu in sorted(self.switches):
            every += self._bundles(cpu)
        every += [
            self._clocks(last), self._ftrace_stats(FtraceStats.END_OF_TRACE),
            self._service(last, "tracing_disabled"), self._stats(),
        ]  # fmt: skip
        return every

    def _packet(self, sequence: int, ts: int | None = None) -> Any:
        packet = TracePacket(trusted_packet_sequence_id=sequence, trusted_uid=9999)
        if ts is not None:
            packet.timestamp = ts
        return packet

    def _clocks(self, ts: int) -> Any:
        packet = self._packet(SERVICE)
        packet.clock_snapshot.primary_trace_clock = BOOTTIME
        for clock, value in (
            (BOOTTIME, ts), (REALTIME, ts + self.booted), (2, ts + self.booted - 3_000_000),
            (MONOTONIC, ts - ASLEEP), (4, ts - ASLEEP - 3_000_000), (5, ts - ASLEEP + 12_345),
        ):  # fmt: skip
            packet.clock_snapshot.clocks.add(clock_id=clock, timestamp=value)
        return packet

    def _about(self) -> list[Any]:
        config, system = self._packet(SERVICE), self._packet(SERVICE)
        source = config.trace_config.data_sources.add()
        source.config.name = "linux.ftrace"
        source.config.ftrace_config.ftrace_events.append("sched/sched_switch")
        names = system.system_info.utsname
        names.sysname, names.release = "Linux", self.system
        names.version, names.machine = "#1 SMP PREEMPT", "aarch64"
        system.system_info.android_build_fingerprint = "example/board:13/TQ3A/1:userdebug"
        system.system_info.android_sdk_version = 33
        return [config, system]

    def _service(self, ts: int, what: str) -> Any:
        packet = self._packet(SERVICE, ts)
        setattr(packet.service_event, what, True)
        return packet

    def _processes(self) -> list[Any]:
        packages = self._packet(PROCESSES)
        packages.packages_list.packages.add(name=PACKAGE, uid=UID, version_code=7)
        tree = self._packet(PROCESSES, self.start + 10)
        for pid, parent, uid, command in (
            (1, 0, 0, "/system/bin/init"), (ZYGOTE, 1, 0, "zygote64"),
            (SYSTEM_SERVER, ZYGOTE, 1000, "system_server"), (self.pid, ZYGOTE, UID, PACKAGE),
        ):  # fmt: skip
            tree.process_tree.processes.add(pid=pid, ppid=parent, uid=uid, cmdline=[command])
        tree.process_tree.threads.add(tid=WAKER, tgid=SYSTEM_SERVER, name="Binder:1200_1")
        for tid, name in self.threads.items():
            if tid != self.pid:
                tree.process_tree.threads.add(tid=tid, tgid=self.pid, name=name)
        stats = self._packet(PROCESSES, self.start + 20)
        stats.process_stats.processes.add(pid=self.pid, vm_rss_kb=321_000, oom_score_adj=0)
        return [packages, tree, stats]

    def _ftrace_stats(self, phase: int) -> Any:
        packet = self._packet(FTRACE)
        packet.ftrace_stats.phase = phase
        for cpu in range(self.cpus):
            packet.ftrace_stats.cpu_stats.add(cpu=cpu, entries=0, overrun=0)
        return packet

    def _stats(self) -> Any:
        packet = self._packet(SERVICE)
        stats = packet.trace_stats
        stats.producers_connected = 1
        stats.buffer_stats.add(buffer_size=32 << 20, bytes_written=4096)
        stats.writer_stats.add(sequence_id=FTRACE, buffer=0)
        return packet

    def _bundles(self, cpu: int) -> list[Any]:
        packets = []
        switches = sorted(self.switches[cpu], key=lambda s: s.ts)
        wakeups = sorted(self.wakeups.get(cpu, []))
        for first in range(0, len(switches), _BUNDLE):
            some = switches[first : first + _BUNDLE]
            until = some[-1].ts if first + _BUNDLE < len(switches) else 1 << 62
            mine = [each for each in wakeups if each[0] <= until]
            del wakeups[: len(mine)]
            packet = self._packet(FTRACE + cpu)
            bundle = packet.ftrace_events
            bundle.cpu = cpu
            self._compact(bundle.compact_sched, some, mine)
            # Plain events beside them: a frequency, and a slice of the app's own (atrace).
            event = bundle.event.add(timestamp=some[0].ts, pid=0)
            event.cpu_frequency.state, event.cpu_frequency.cpu_id = 1_800_000 + first, cpu
            for text, ts in ((f"B|{SYSTEM_SERVER}|binder", some[0].ts), ("E", some[0].ts + 500)):
                event = bundle.event.add(timestamp=ts, pid=WAKER)
                event.print.buf = text + "\n"
            packets.append(packet)
        return packets

    def _compact(
        self, to: Any, switches: Sequence[Switch], wakeups: Sequence[tuple[int, int]]
    ) -> None:
        assert isinstance(to, FtraceEventBundle.CompactSched)
        table: list[str] = []

        def index(tid: int) -> int:
            name = self.threads.get(tid, "swapper" if not tid else "intruder")
            if name not in table:
                table.append(name)
            return table.index(name)

        last = 0
        for each in switches:
            to.switch_timestamp.append(each.ts - last)
            to.switch_prev_state.append(each.state)
            to.switch_next_pid.append(each.after)
            to.switch_next_prio.append(PRIORITY)
            to.switch_next_comm_index.append(index(each.after))
            last = each.ts
        last = 0
        for ts, tid in wakeups:
            to.waking_timestamp.append(ts - last)
            to.waking_pid.append(tid)
            to.waking_target_cpu.append(0)
            to.waking_prio.append(PRIORITY)
            to.waking_comm_index.append(index(tid))
            to.waking_common_flags.append(1)
            last = ts
        to.intern_table.extend(table)
