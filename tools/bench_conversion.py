"""What comes before and after a recording: reading the engine, converting, asking; what is hit."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from bench_engine import Engine, RecorderProcess, decode_speed
from bench_table import Row, at_most

from profinfer.binaries.elf import Elf
from profinfer.converting.converter import Converter
from profinfer.describing.describe import describe
from profinfer.engine import target
from profinfer.output import Output
from profinfer.records.capture import Frame, FrameKind, json_frame, read_capture
from profinfer.records.dtypes import RECORD, WIDE_SIZE, Kind, SchedulerKind
from profinfer.trace.writer import TraceWriter
from profinfer.trace_processor import Session, open_trace, query


def record(level: str, predict: int, threads: int, directory: Path) -> tuple[Path, Path]:
    """Records requests of a running engine: the trace, and its raw capture."""
    engine = Engine(threads)
    trace, raw = directory / f"{level}.pftrace", directory / f"{level}.raw"
    raw.unlink(missing_ok=True)
    try:
        recorder = RecorderProcess(engine.pid, trace, ("--level", level, "--raw", str(raw)))
        try:
            recorder.record(engine, predict)
        finally:
            recorder.close()
    finally:
        engine.close()
    return trace, raw


def bench_handlers(
    rows: list[Row], repeats: int, predict: int, threads: int, directory: Path
) -> None:
    """Handler time over an empty one, and decode speed full : empty, alternating."""
    engine = Engine(threads)
    trace = directory / "handlers.pftrace"
    speed: dict[str, list[float]] = defaultdict(list)
    over: dict[str, list[float]] = defaultdict(list)
    options = {"bare": None, "empty": ("--empty-handlers",), "full": ("--probes", "stub")}
    try:
        engine.start(8)
        engine.answer()
        for repeat in range(repeats):
            # Back and forth, so that a drift of the machine's speed favours none of them.
            for name in list(options)[:: -1 if repeat % 2 else 1]:
                more = options[name]
                if more is None:
                    engine.start(predict)
                    timings = engine.answer()
                else:
                    recorder = RecorderProcess(engine.pid, trace, ("--level", "barrier", *more))
                    try:
                        timings, _ = recorder.record(engine, predict)
                    finally:
                        recorder.close()
                speed[name].append(decode_speed(timings))
                if name == "full":
                    _add_handlers(over, trace)
    finally:
        engine.close()
    for name, wanted in (("on_operator", 150), ("on_barrier", 200)):
        if over[name]:
            rows.append(at_most(f"BPF time per hit over an empty handler: {name}", wanted,
                                over[name], "ns", 0))  # fmt: skip
    ratios = [full / empty for full, empty in zip(speed["full"], speed["empty"], strict=True)]
    row = at_most("decode speed, full : empty handlers on the same probes", None, ratios, "", 3)
    row.wanted, row.met = "0.95", statistics.median(ratios) >= 0.95
    row.measured += "; " + ", ".join(
        f"{name} {statistics.median(found):.1f} tokens/s" for name, found in speed.items()
    )
    rows.append(row)


def _add_handlers(over: dict[str, list[float]], trace: Path) -> None:
    """What the recorder itself found, a part of the time."""
    sql = (
        "INCLUDE PERFETTO MODULE profinfer.recording.handlers;"
        "SELECT handler, max(handler_ns) FROM profinfer_handler"
        " WHERE handler_ns IS NOT NULL GROUP BY 1"
    )
    with open_trace(trace) as session:
        for handler, ns in session.query(sql):
            over[str(handler)].append(float(str(ns)))


def repeat_capture(raw: Path, times: int) -> list[Frame]:
    """A capture whose records go on `times` times as long: a real mix, at any length.

    Only what recurs is repeated (records, switches, wake-ups and token runs); structures and what
    tasks there are come once.
    """
    frames = list(read_capture(raw))
    # The scheduler's records begin before the engine's, and end after them.
    records = [f for f in frames if f.kind in (FrameKind.RECORDS, FrameKind.SCHEDULER)]
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
    return int(str(session.query(sql).column(0)[0]))


def bench_encoding(rows: list[Row], predict: int, threads: int, directory: Path) -> Path:
    """The speed of conversion; returns the long trace."""
    _, raw = record("barrier", predict, threads, directory)
    count, seconds = convert(repeat_capture(raw, 20), directory / "long.pftrace")
    plain = protobuf_rate()
    packets = 2 * count  # a begin and an end for nearly every record
    rows.append(
        Row(
            "records to packets to file, one core, real mix",
            "4 M records/s, 10x protobuf",
            f"{count / seconds / 1e6:.1f} M records/s, "
            f"{packets / seconds / plain:.0f}x ({plain / 1e6:.2f} M packets/s)",
            count / seconds >= 4e6 and packets / seconds >= 10 * plain,
        )
    )
    return directory / "long.pftrace"


def bench_level_operator(rows: list[Row], predict: int, threads: int, directory: Path) -> None:
    """Hits and bytes per operator and thread at level operator."""
    trace, raw = record("operator", predict, threads, directory)
    size = trace.stat().st_size
    with open_trace(trace) as session:
        slices = count_operators(session)
    hits = sum(
        int(np.count_nonzero(np.frombuffer(f.data, RECORD)["kind"] <= Kind.BARRIER))
        for f in read_capture(raw)
        if f.kind == FrameKind.RECORDS
    )
    what = "uprobe hits per operator and thread, level operator"
    rows.append(Row(what, "1.0", f"{hits / slices:.3f}", hits <= slices))
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
        )
    )
    print("queries: " + ", ".join(f"{n} {t:.1f} s" for n, t in times.items()), file=sys.stderr)


def bench_reading(rows: list[Row]) -> None:
    """Reading the engine's symbols and its layout: what comes before the first probe."""
    engine = Engine(1)
    try:
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
    finally:
        engine.close()
    rows.append(
        Row(
            "reading the engine's symbols / its cached layout",
            "0.3 / 0.1 s",
            f"{min(times):.2f} / {cached:.3f} s ({count:,} functions)",
            min(times) <= 0.3 and cached <= 0.1,
        )
    )


def machine() -> str:
    """On what all of this was measured."""
    return f"Linux {os.uname().release}, {target.cpu_model()}, {os.cpu_count()} CPUs"
