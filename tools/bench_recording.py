"""What `profinfer record` takes while it records: its processes' CPU time, memory and delay."""

from __future__ import annotations

import dataclasses
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from bench_engine import GEMMA, PROMPT, ROOT, Engine, RecorderError, RecorderProcess
from bench_processes import Family
from bench_table import Row, at_most, spread

from profinfer.records.capture import FrameKind, read_capture
from profinfer.records.dtypes import RECORD
from profinfer.trace_processor import Session, open_trace

_BARRIER = ("--level", "barrier")
EVERYTHING = (*_BARRIER, "--scheduler", "system", "--faults", "--block-io", "--experts",
              "--counters", "faults,task-clock")  # fmt: skip
_LOOK_S = 1.0
"""Between two looks at who is there: that takes milliseconds."""

_OURS = """
INCLUDE PERFETTO MODULE profinfer.scheduling.delays;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.scheduling.preemptions;
INCLUDE PERFETTO MODULE profinfer.tokens.requests;
WITH
  ours AS MATERIALIZED (
    SELECT utid, p.name AS process FROM thread JOIN process AS p USING (upid) WHERE pid IN ({pids})
  ),
  span AS MATERIALIZED (
    SELECT min(ts) AS first, max(ts + dur) AS last FROM profinfer_graph
    WHERE ts >= {since} AND dur > 0
  ),
  decoding AS MATERIALIZED (
    SELECT ubatch_id, ts, ts + dur AS end_ts FROM profinfer_ubatch
    WHERE phase = 'decode' AND ts >= {since} AND dur > 0
  )
SELECT
  (SELECT last - first FROM span),
  (
    SELECT coalesce(sum(min(s.ts + s.dur, last) - max(s.ts, first)), 0)
    FROM sched AS s JOIN ours USING (utid), span
    WHERE s.dur > 0 AND s.ts < last AND s.ts + s.dur > first
  ),
  (SELECT max(end_ts) - min(ts) FROM decoding),
  (
    SELECT coalesce(sum(d.dur), 0)
    FROM profinfer_delay AS d
    JOIN profinfer_preemption AS p ON p.id = d.preemption_id
    JOIN profinfer_graph AS g USING (graph_id)
    JOIN decoding USING (ubatch_id)
    WHERE p.taker_utid IN (SELECT utid FROM ours)
  ),
  (SELECT first FROM span),
  (SELECT last FROM span)"""


@dataclasses.dataclass
class Taken:
    """What our threads took, as the trace itself has it."""

    seconds: float
    """Between the first graph and the last."""
    running_s: float
    """All of our threads meanwhile."""
    decoding_s: float
    delay_s: float
    """By which our threads' taking CPUs made decoding longer."""
    records: int
    """Records meanwhile."""


def taken(trace: Path, raw: Path, pids: Iterable[int], since: int = 0) -> Taken:
    """Of a recording of the whole system's scheduler, from a time on."""
    with open_trace(trace) as session:
        seconds, running, decoding, delay, first, last = _numbers(session, pids, since)
    records = count_records(raw, first, last)
    return Taken(seconds / 1e9, running / 1e9, decoding / 1e9, delay / 1e9, records)


def _numbers(session: Session, pids: Iterable[int], since: int) -> list[int]:
    sql = _OURS.format(pids=", ".join(map(str, sorted(pids))), since=since)
    (row,) = session.query(sql).rows()
    if any(value is None for value in row):
        raise SystemExit("the trace has no graphs, or nothing of the scheduler")
    return [int(str(value)) for value in row]


def count_records(raw: Path, first: int, last: int) -> int:
    """Records of a capture, of the engine and of the scheduler, between two times."""
    found = 0
    for frame in read_capture(raw):
        if frame.kind in (FrameKind.RECORDS, FrameKind.SCHEDULER):
            ts = np.frombuffer(frame.data, RECORD)["ts"]
            found += int(np.count_nonzero((ts >= first) & (ts <= last)))
    return found


def bench_attached(
    rows: list[Row], repeats: int, predict: int, threads: int, directory: Path
) -> None:
    """`record --pid` beside an engine that answers requests."""
    engine = Engine(threads)
    figures: dict[str, list[float]] = defaultdict(list)
    peaks: dict[str, float] = {}
    trace, raw = directory / "attached.pftrace", directory / "attached.raw"
    kinds = {
        "": (*_BARRIER, "--scheduler", "system"),
        ", no scheduler": (*_BARRIER, "--scheduler", "off"),
        ", everything": EVERYTHING,
    }
    try:
        engine.start(8)  # reads the model
        engine.answer()
        for repeat in range(-1, repeats):  # before the first the engine is described
            for name, options in list(kinds.items())[: 1 if repeat < 0 else None]:
                raw.unlink(missing_ok=True)
                recorder = RecorderProcess(engine.pid, trace, (*options, "--raw", str(raw)))
                try:
                    _, cost = recorder.record(engine, predict)
                finally:
                    recorder.close()
                if repeat < 0:
                    continue
                records = count_records(raw, cost.begun_ns, cost.ended_ns)
                figures["cpu" + name].append(cost.cpu_s / records * 1e6)
                figures["records" + name].append(records / cost.seconds)
                figures["lost"].append(cost.lost)
                if name == ", everything":
                    peaks |= {p: max(mb, peaks.get(p, 0.0)) for p, mb in cost.peaks_mb.items()}
                if not name:
                    figures["attached"].append(recorder.attached_s)
                    figures["first"].append(_first_attached(engine.pid, trace, options))
                    found = taken(trace, raw, recorder.family.pids, cost.begun_ns)
                    _add(figures, found)
    finally:
        engine.close()
    rows.append(at_most("`record --pid`, engine described before: exec to the last probe attached",
                        0.5, figures["attached"], "s"))  # fmt: skip
    rows.append(at_most("the same, of an engine never seen before", 1.0, figures["first"], "s"))
    for name, wanted in (("", 0.1), (", no scheduler", None), (", everything", None)):
        row = at_most(f"CPU per million records while it records{name}", wanted,
                      figures["cpu" + name], "s", 3)  # fmt: skip
        row.measured += f", at {statistics.median(figures['records' + name]):,.0f} records/s"
        rows.append(row)
    _rows(rows, figures, "`record --pid`", wanted=False)
    memory = ", ".join(f"{name} {mb:.1f} MB" for name, mb in sorted(peaks.items()))
    recorders = [mb for name, mb in peaks.items() if name.startswith("profinfer-rec")]
    rows.append(
        Row("peak RSS of each process while it records, everything on (the recorder: 8 MB)",
            "8 MB", memory, max(recorders or peaks.values()) <= 8)
    )  # fmt: skip
    rows.append(Row("records lost, all of these runs", "0", f"{sum(figures['lost']):.0f}",
                    not any(figures["lost"])))  # fmt: skip


def _first_attached(pid: int, trace: Path, options: Sequence[str]) -> float:
    """Seconds to the last probe when nothing is kept of the engine (what a hit costs here is)."""
    kept = Path(os.environ["XDG_CACHE_HOME"], "profinfer")
    for kind in ("file", "layout"):
        shutil.rmtree(kept / kind)
    recorder = RecorderProcess(pid, trace, options)
    recorder.close()
    return recorder.attached_s


def bench_launched(
    rows: list[Row], repeats: int, predict: int, threads: int, directory: Path
) -> None:
    """The demo's recording: a launched command, the scheduler of the whole system."""
    figures: dict[str, list[float]] = defaultdict(list)
    trace, raw = directory / "launched.pftrace", directory / "launched.raw"
    for _ in range(repeats):
        family = Family()
        raw.unlink(missing_ok=True)
        command = family.unmarked(
            [sys.executable, str(ROOT / "tools/engine.py"), str(GEMMA), "--prompt", PROMPT,
             "--predict", str(predict), "--threads", str(threads)]
        )  # fmt: skip
        options = (*_BARRIER, "--scheduler", "system", "--counters", "faults", "--raw", str(raw))
        _launch(family, trace, options, command)
        found = taken(trace, raw, family.pids)
        _add(figures, found)
        figures["per million"].append(found.running_s / found.records * 1e6)
    _rows(rows, figures, "the demo", wanted=True)
    rows.append(at_most("the demo: the same per million records", None,
                        figures["per million"], "s", 3))  # fmt: skip


def _launch(family: Family, trace: Path, options: Sequence[str], command: list[str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "profinfer", "record", "--force", "-o", str(trace), *options, "--",
         *command],
        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, env=family.environment,
    )  # fmt: skip
    while process.poll() is None:
        family.look()
        time.sleep(_LOOK_S)
    said = process.stderr.read() if process.stderr else ""
    if process.returncode:
        raise RecorderError(said.strip())


def _add(figures: dict[str, list[float]], found: Taken) -> None:
    figures["running"].append(1e3 * found.running_s)
    figures["seconds"].append(found.seconds)
    figures["delay"].append(100 * found.delay_s / found.decoding_s)
    figures["delay ms"].append(1e3 * found.delay_s)


def _rows(rows: list[Row], figures: dict[str, list[float]], what: str, *, wanted: bool) -> None:
    row = at_most(f"{what}: running time of all our threads, first graph to last",
                  50 if wanted else None, figures["running"], "ms", 1)  # fmt: skip
    row.measured += f" of {statistics.median(figures['seconds']):.2f} s"
    rows.append(row)
    row = at_most(f"{what}: delay charged to us, of the decode time", 0.7 if wanted else None,
                  figures["delay"], "%")  # fmt: skip
    row.measured += f": {spread(figures['delay ms'], 'ms', 1)}"
    rows.append(row)
