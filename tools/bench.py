"""The bench: what a recording costs, as ratios within this run. `make bench` prints the table.

Every figure is measured here, on the real engine and model, by the code that records. Which of
the rows were met is said in the last column; nothing is asserted.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bench_engine import Engine, decode_speed

from profinfer import kernel, query, target
from profinfer.attach import Attachments
from profinfer.capture import MAGIC, Frame, FrameKind, json_frame, pack, read_capture
from profinfer.config import Config
from profinfer.converter import Converter
from profinfer.drain import Drain
from profinfer.elf import Elf
from profinfer.layout import describe
from profinfer.loaded import Loaded, load_handlers
from profinfer.means import choose_means
from profinfer.output import Output
from profinfer.plan import HOT_HANDLERS, Plan, make_plan
from profinfer.recorder import Recorder
from profinfer.records import RECORD, WIDE_SIZE, Kind, SchedulerKind
from profinfer.trace_processor import Session, open_trace
from profinfer.trace_writer import TraceWriter


@dataclasses.dataclass
class Row:
    """One figure of the table."""

    figure: str
    wanted: str
    measured: str
    met: bool
    why: str = ""
    """What stands in the way where it is not met."""


class Probed:
    """Handlers loaded for a running engine, to be attached full or empty at one set of probes."""

    def __init__(self, engine: Engine, level: str, loader: str = "auto") -> None:
        self.engine = engine
        self.objects = target.engine_objects(engine.pid)
        uid, gid = target.owner(engine.pid)
        self.layout = describe([o.library for o in self.objects], uid=uid, gid=gid)
        means = choose_means(loader, "auto")
        self.way = means.way
        self.loaded: Loaded = load_handlers(
            means.loader.load, self.layout, means.transport, 16 << 20, 16 << 20,
            means.way.attach_type,
        )  # fmt: skip
        self.plan: Plan = make_plan(self.objects, level)

    def run(self, predict: int, *, empty: bool) -> tuple[dict[str, Any], dict[str, Any], int]:
        """One request under probes: the engine's timings, the kernel's counts of each handler,
        and the records drained (and thrown away)."""
        drain = Drain(self.loaded, self.engine.pid)
        self.loaded.set_control(active=1)
        attachments = Attachments(
            self.loaded, self.engine.pid, self.way, empty=HOT_HANDLERS if empty else ()
        )
        attachments.attach(self.plan)
        # Empty handlers are one program.
        programs = {
            "on_nothing" if empty else name: attachments.programs[name] for name in HOT_HANDLERS
        }
        before = {name: kernel.program_stats(fd) for name, fd in programs.items()}
        self.engine.start(predict)
        stop = time.monotonic() + 0.1
        timings: list[dict[str, Any]] = []
        waiter = threading.Thread(target=lambda: timings.append(self.engine.answer()))
        waiter.start()
        while waiter.is_alive():
            waiter.join(max(0.0, stop - time.monotonic()))
            stop += 0.1
            drain.take(self.objects)
        attachments.detach()
        self.loaded.set_control(active=0)
        drain.take(self.objects)
        stats = {}
        for name, fd in programs.items():
            now = kernel.program_stats(fd)
            stats[name] = (now.runs - before[name].runs, now.run_ns - before[name].run_ns)
        return timings[0], stats, drain.records

    def close(self) -> None:
        """Unloads."""
        self.loaded.close()


def bench_handlers(rows: list[Row], repeats: int, predict: int, threads: int) -> None:
    """Handler time over an empty one, and decode speed full : empty, alternating."""
    engine = Engine(threads)
    stats_fd = kernel.enable_stats()
    engine.start(8)
    engine.answer()
    probed = Probed(engine, "barrier")
    per_hit: dict[str, list[float]] = {name: [] for name in (*HOT_HANDLERS, "on_nothing")}
    for empty in (True, False) * repeats:
        _, stats, _ = probed.run(predict, empty=empty)
        for name, (runs, run_ns) in stats.items():
            if runs:
                per_hit[name].append(run_ns / runs)
    os.close(stats_fd)
    # Counting runs and time costs time itself: the speeds are taken without it.
    speed: dict[bool, list[float]] = {True: [], False: []}
    for empty in (True, False) * repeats:
        timings, _, _ = probed.run(predict, empty=empty)
        speed[empty].append(decode_speed(timings))
    bare = []
    for _ in range(repeats):
        engine.start(predict)
        bare.append(decode_speed(engine.answer()))
    probed.close()
    engine.close()
    median = {name: statistics.median(values) for name, values in per_hit.items() if values}
    base = median["on_nothing"]
    operator, barrier = median["on_operator"] - base, median["on_barrier"] - base
    rows.append(
        Row(
            "BPF time per hit over an empty handler: operator / barrier",
            "150 / 200 ns",
            f"{operator:.0f} / {barrier:.0f} ns (empty: {base:.0f} ns)",
            operator <= 150 and barrier <= 200,
            "five helper calls: slot, submit, clock, ids, CPU; clocks are dear in virtual machines",
        )
    )
    ratio = statistics.median(speed[False]) / statistics.median(speed[True])
    rows.append(
        Row(
            "decode speed, full : empty handlers on the same probes",
            "0.95",
            f"{ratio:.3f} ({statistics.median(speed[False]):.1f} : "
            f"{statistics.median(speed[True]):.1f} tokens/s; bare {statistics.median(bare):.1f})",
            ratio >= 0.95,
            "the drain shares the CPUs with the engine's threads: fewer --threads leave it room",
        )
    )


def record(
    level: str, predict: int, threads: int, directory: Path, scheduler: str = "off"
) -> tuple[Path, Path, float]:
    """Records a whole request of a running engine.

    Returns the trace, the raw capture, and the recorder's CPU seconds per million records, from
    the request to its answer, without what writing the capture took.
    """
    engine = Engine(threads)
    trace, raw = directory / f"{level}.pftrace", directory / f"{level}.raw"
    output, capture = Output(trace, force=True), Output(raw, force=True)
    capture.append(MAGIC)
    converter = Converter(TraceWriter(output))
    spent = {"capture": 0.0, "begun": 0.0, "ended": 0.0}

    def sink(frame: Frame) -> None:
        converter.feed(frame)
        before = time.process_time()
        capture.append(pack(frame))
        spent["capture"] += time.process_time() - before

    def on_drain(_: object) -> None:
        if not spent["begun"]:
            engine.start(predict)
            spent["capture"] = 0.0
            spent["begun"] = time.process_time()
        elif not spent["ended"] and engine.has_answered():
            spent["ended"] = time.process_time()
            os.kill(os.getpid(), signal.SIGTERM)

    with Recorder(Config(pid=engine.pid, level=level, scheduler=scheduler)) as recorder:
        sink(recorder.prepare())
        result = recorder.run(sink, on_drain)
    engine.close()
    output.close()
    capture.close()
    cpu = spent["ended"] - spent["begun"] - spent["capture"]
    return trace, raw, cpu / max(result.records, 1) * 1e6


def repeat_capture(raw: Path, times: int) -> list[Frame]:
    """A capture whose records go on `times` times as long: a real mix, at any length.

    Only what recurs is repeated (records, switches, wake-ups and token runs); structures and what
    tasks there are come once.
    """
    frames = list(read_capture(raw))
    records = [f for f in frames if f.kind == FrameKind.RECORDS]
    everything = np.concatenate([np.frombuffer(f.data, RECORD) for f in records])
    span = int(everything["ts"].max()) - int(everything["ts"].min()) + 1_000_000
    out = [f for f in frames if f.kind not in (FrameKind.END, FrameKind.LOSS)]
    for i in range(1, times):
        shift = i * span
        for frame in frames:
            if frame.kind == FrameKind.RECORDS:
                rows = np.frombuffer(frame.data, RECORD).copy()
                rows = rows[rows["kind"] != Kind.NODE]
                rows["ts"] += np.uint64(shift)
                out.append(Frame(frame.kind, frame.ts + shift, rows.tobytes()))
            elif frame.kind == FrameKind.SCHEDULER:
                rows = np.frombuffer(frame.data, RECORD).copy()
                rows = rows[rows["kind"] <= SchedulerKind.WAKING]
                rows["ts"] += np.uint64(shift)
                out.append(Frame(frame.kind, frame.ts + shift, rows.tobytes()))
            elif frame.kind == FrameKind.WIDE:
                wide = np.frombuffer(frame.data, np.uint8).reshape(-1, WIDE_SIZE)
                wide = wide[wide[:, 14] == Kind.TOKENS].copy()
                stamps = wide[:, :8].copy().view("<u8") + np.uint64(shift)
                wide[:, :8] = stamps.view(np.uint8)
                out.append(Frame(frame.kind, frame.ts + shift, wide.tobytes()))
    out.append(json_frame(FrameKind.END, out[-1].ts + 1, {"reason": "bench"}))
    return out


def convert(frames: list[Frame], path: Path) -> tuple[int, float]:
    """Records converted and the CPU seconds it took."""
    output = Output(path, force=True)
    converter = Converter(TraceWriter(output))
    begun = time.process_time()
    for frame in frames:
        converter.feed(frame)
    seconds = time.process_time() - begun
    output.close()
    count = sum(len(f.data) // RECORD.itemsize for f in frames if f.kind == FrameKind.RECORDS)
    return count, seconds


def protobuf_rate(count: int = 200_000) -> float:
    """TrackEvents per second that python-protobuf serialises, with our minimal schema."""
    from perfetto_protos import trace_pb2 as pb

    begun = time.process_time()
    parts = []
    for i in range(count):
        packet = pb.TracePacket(timestamp=10**15 + i, trusted_packet_sequence_id=1)
        packet.sequence_flags = 2
        event = packet.track_event
        event.type = pb.TrackEvent.TYPE_SLICE_BEGIN
        event.track_uuid = 5
        event.name_iid = i % 400 + 1
        event.category_iids.append(1)
        event.debug_annotations.add(name_iid=1, string_value_iid=i % 400 + 1)
        trace = pb.Trace()
        trace.packet.append(packet)
        parts.append(trace.SerializeToString())
    b"".join(parts)
    return count / (time.process_time() - begun)


def count_operators(session: Session) -> int:
    """Operator slices in a trace."""
    sql = "SELECT count(*) FROM slice WHERE category IN ('operator', 'operator.incomplete')"
    return int(session.query(sql).column(0)[0])


def bench_encoding(rows: list[Row], predict: int, threads: int, directory: Path) -> Path:
    """Recorder CPU, hits, bytes, and the speed of conversion; returns the long trace."""
    # Long enough that the structure of the first graphs does not count much.
    _, _, cpu = record("barrier", 8 * predict, threads, directory)
    _, raw, _ = record("barrier", predict, threads, directory)
    rows.append(
        Row(
            "recorder's CPU per million records, drain to file, real run",
            "0.5 s",
            f"{cpu:.2f} s",
            cpu <= 0.5,
            "small chunks (what 0.25 s bring) pay numpy's call overhead; slow machines pay more",
        )
    )
    frames = repeat_capture(raw, 20)
    count, seconds = convert(frames, directory / "long.pftrace")
    plain = protobuf_rate()
    packets = 2 * count  # a begin and an end for nearly every record
    rows.append(
        Row(
            "records to packets to file, one core, real mix",
            "4 M records/s, 10x protobuf",
            f"{count / seconds / 1e6:.1f} M records/s, "
            f"{packets / seconds / plain:.0f}x ({plain / 1e6:.2f} M packets/s)",
            count / seconds >= 4e6 and packets / seconds >= 10 * plain,
            "the absolute rate scales with the machine; the ratio to protobuf does not",
        )
    )
    return directory / "long.pftrace"


def bench_level_operator(rows: list[Row], predict: int, threads: int, directory: Path) -> None:
    """Hits and bytes per operator and thread at level operator."""
    trace, raw, _ = record("operator", predict, threads, directory)
    size = trace.stat().st_size
    with open_trace(trace) as session:
        slices = count_operators(session)
    hits = sum(
        int(np.count_nonzero(np.frombuffer(f.data, RECORD)["kind"] <= Kind.BARRIER))
        for f in read_capture(raw)
        if f.kind == FrameKind.RECORDS
    )
    rows.append(
        Row(
            "uprobe hits per operator and thread, level operator",
            "1.0",
            f"{hits / slices:.3f}",
            hits <= slices,
        )
    )
    long = directory / "operator-long.pftrace"
    convert(repeat_capture(raw, 20), long)
    per_slice = long.stat().st_size / (20 * slices)
    rows.append(
        Row(
            "bytes per operator and thread in the file, no counters",
            "60",
            f"{per_slice:.1f} (long run; {size / slices:.1f} in {predict} tokens, structure"
            " included)",
            per_slice <= 60,
        )
    )


def bench_queries(rows: list[Row], trace: Path) -> None:
    """Every ready query on a million operator slices, embedded Trace Processor."""
    times: dict[str, float] = {}
    slices = 0
    load = 0.0
    for file in query.ready_queries():
        begun = time.perf_counter()
        with open_trace(trace, trace_processor="wasm") as session:
            load = time.perf_counter() - begun
            begun = time.perf_counter()
            query.run(session, query.read(file))
            times[file.stem] = time.perf_counter() - begun
            if not slices:
                slices = count_operators(session)
    worst = max(times, key=lambda name: times[name])
    rows.append(
        Row(
            f"ready queries on {slices:,} operator slices, embedded",
            "5 s each",
            f"{worst} {times[worst]:.1f} s, the others less (loading the trace: {load:.1f} s)",
            times[worst] <= 5,
            "joining and grouping a million slices in WebAssembly; a native shell is faster",
        )
    )
    print("queries: " + ", ".join(f"{n} {t:.1f} s" for n, t in times.items()), file=sys.stderr)


def bench_reading(rows: list[Row]) -> None:
    """Reading the engine's symbols and its layout: what comes before the first probe."""
    engine = Engine(1)
    objects = target.engine_objects(engine.pid)
    uid, gid = target.owner(engine.pid)
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        count = sum(len(Elf(item.library).symbols) for item in objects)
        times.append(time.perf_counter() - begun)
    libraries = [item.library for item in objects]
    describe(libraries, uid=uid, gid=gid)
    begun = time.perf_counter()
    describe(libraries, uid=uid, gid=gid)
    cached = time.perf_counter() - begun
    engine.close()
    rows.append(
        Row(
            "reading the engine's symbols / its cached layout",
            "0.3 / 0.1 s",
            f"{min(times):.2f} / {cached:.3f} s ({count:,} functions)",
            min(times) <= 0.3 and cached <= 0.1,
            "one Python loop over the names",
        )
    )


def main() -> int:
    """Runs everything and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--predict", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    rows: list[Row] = []
    steps: list[Callable[[Path], object]] = []
    with tempfile.TemporaryDirectory(prefix="profinfer-bench-") as name:
        directory = Path(name)
        steps.append(lambda _: bench_reading(rows))
        steps.append(lambda d: bench_level_operator(rows, args.predict, args.threads, d))
        steps.append(
            lambda d: bench_queries(rows, bench_encoding(rows, args.predict, args.threads, d))
        )
        steps.append(lambda _: bench_handlers(rows, args.repeats, args.predict, args.threads))
        for step in steps:
            step(directory)
    widths = [max(len(getattr(r, f)) for r in rows) for f in ("figure", "wanted", "measured")]
    print(f"Linux {os.uname().release}, {target.cpu_model()}, {os.cpu_count()} CPUs")
    for row in rows:
        print(
            f"{row.figure:<{widths[0]}}  {row.wanted:<{widths[1]}}  {row.measured:<{widths[2]}}"
            f"  {'met' if row.met else 'NOT MET: ' + row.why}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
