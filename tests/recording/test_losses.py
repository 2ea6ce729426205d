"""Rings that overflow: what is lost is counted, and nothing that is shown is longer than it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace

from profinfer.records.capture import Frame, FrameKind, pack, read_capture
from profinfer.records.dtypes import RECORD, STRUCTURE_RECORD, WIDE_SIZE, Kind
from profinfer.trace_processor import is_cut
from profinfer.trace_processor.trace_file import packet_bounds
from tests.support import Engine, Recording, as_int, double_fixture, pairs, record, run

__all__ = ["double_fixture"]

LOSS_STATS = {"traced_buf_trace_writer_packet_loss", "traced_buf_sequence_packet_loss"}
LOSSES = """
SELECT ts, EXTRACT_ARG(arg_set_id, 'debug.cpu'), EXTRACT_ARG(arg_set_id, 'debug.kind'),
  EXTRACT_ARG(arg_set_id, 'debug.lost'), EXTRACT_ARG(arg_set_id, 'debug.first_ts'),
  EXTRACT_ARG(arg_set_id, 'debug.last_ts')
FROM slice WHERE category = 'loss'
"""
OPERATORS = """
SELECT tid, slice.ts, slice.ts + slice.dur, category FROM slice
JOIN thread_track ON track_id = thread_track.id JOIN thread USING (utid)
WHERE category IN ('operator', 'operator.incomplete') ORDER BY slice.ts
"""
TARGET = ("known", "--threads", 2, "--layers", 3, "--decode", 61, "--work-us", 11,
          "--samples", 1009)  # fmt: skip


@dataclass
class Lossy:
    """A recording whose rings were too small, with its capture."""

    recording: Recording
    raw: Path

    @property
    def truth(self) -> dict[str, Any]:
        return self.recording.truth


# The first structure alone takes 57 records: with 4K it has to be walked again and again. Rings are
# looked at 16 times in the seconds given, 64 times once one has been found filling: too seldom for
# the slowest machine's records to fit in.
@pytest.fixture(
    scope="module",
    params=[
        ("8K", 4, "libbpf", "ring", "stub"),
        ("4K", 1, "bcc", "ring", "stub"),
        ("8K", 4, "bcc", "perf", "stub"),
        ("4K", 0.5, "libbpf", "perf", "stub"),
        ("8K", 4, "libbpf", "ring", "recording"),
        ("4K", 1, "libbpf", "ring", "recording"),
    ],
    ids=[
        "rarely drained",
        "often drained",
        "rarely drained, perf",
        "often drained, perf",
        "rarely drained, recording stubs",
        "often drained, recording stubs",
    ],
)
def lossy(
    request: pytest.FixtureRequest, double: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lossy]:
    folder = tmp_path_factory.mktemp("lossy")
    raw = folder / "t.raw"
    size, poll, loader, transport, probes = request.param
    options = ("--level", "barrier", "--ring-size", size, "--poll", poll, "--raw", raw,
               "--loader", loader, "--transport", transport, "--probes", probes)  # fmt: skip
    with record(double, folder / "t.pftrace", *options, target=TARGET) as recording:
        yield Lossy(recording, raw)


def drained(raw: Path) -> Counter[int]:
    """Records of a capture by kind."""
    parts = [
        np.frombuffer(f.data, RECORD)["kind"]
        for f in read_capture(raw)
        if f.kind == FrameKind.RECORDS
    ]
    return Counter(np.concatenate(parts).tolist())


def test_what_was_recorded_and_what_was_lost_is_what_was_emitted(lossy: Lossy) -> None:
    lost: Counter[str] = Counter()
    for _, _, kind, number, _, _ in lossy.recording.rows(LOSSES):
        lost[str(kind)] += as_int(number)
    kept = drained(lossy.raw)
    truth = lossy.truth
    calls, ubatches = truth["calls"], sum(truth["ubatches"].values())
    graphs = calls["ggml_backend_graph_compute_async"]
    for kind, emitted in (
        (Kind.OPERATOR, calls["ggml_cpu_extra_compute_forward"]),
        (Kind.FUSED, calls["ggml_compute_forward_rms_norm_mul_fused"]),
        (Kind.BARRIER, calls["ggml_barrier"]),
        (Kind.GRAPH_BEGIN, graphs),
        (Kind.GRAPH_END, graphs),
        (Kind.UBATCH_BEGIN, ubatches),
        (Kind.UBATCH_END, ubatches),
    ):
        assert kept[kind] + lost[kind.name.lower()] == emitted, kind.name
    assert lost["operator"] > 0
    assert lost["barrier"] > 0


def test_losses_are_said_on_stderr_with_the_remedy(lossy: Lossy) -> None:
    total = sum(as_int(row[3]) for row in lossy.recording.rows(LOSSES))
    assert f" {total:,} lost " in lossy.recording.stderr
    assert "warning: records were lost" in lossy.recording.stderr
    assert "--ring-size" in lossy.recording.stderr


def test_loss_counters_reach_what_the_marks_add_up_to(lossy: Lossy) -> None:
    marks: Counter[str] = Counter()
    for ts, cpu, kind, lost, first, last in lossy.recording.rows(LOSSES):
        assert as_int(first) <= as_int(last) == as_int(ts)
        where = "any CPU" if cpu is None else f"CPU {cpu!s}"
        marks[f"Lost {kind!s} records, {where}"] += as_int(lost)
        marks["Lost records"] += as_int(lost)
    rows = lossy.recording.rows(
        "SELECT name, CAST(MAX(value) AS INT) FROM counter"
        " JOIN counter_track ON track_id = counter_track.id WHERE name GLOB 'Lost *' GROUP BY 1"
    )
    assert pairs(rows) == marks


def test_operators_that_meet_a_loss_are_marked_incomplete(lossy: Lossy) -> None:
    windows = [(as_int(r[4]), as_int(r[5])) for r in lossy.recording.rows(LOSSES)]
    assert windows
    for _, begin, end, category in lossy.recording.rows(OPERATORS):
        is_open = as_int(end) < as_int(begin)
        if any(as_int(begin) <= b and (is_open or as_int(end) >= a) for a, b in windows):
            assert category == "operator.incomplete"


def test_complete_operators_are_as_long_as_they_were(lossy: Lossy) -> None:
    stamps: dict[int, list[list[Any]]] = {}
    for sample in lossy.truth["samples"]:
        stamps.setdefault(sample[0], []).append(sample)
    graph_ends = [g[-1] for g in lossy.truth["graphs"]]
    work = 11_000
    complete = 0
    for tid, begin, end, category in lossy.recording.rows(OPERATORS):
        mine = stamps[as_int(tid)]
        at = int(np.searchsorted([s[2] for s in mine], as_int(begin), "right")) - 1
        sample = mine[at]
        assert sample[2] <= as_int(begin) <= sample[3] - work
        if category != "operator":
            continue
        complete += 1
        following = mine[at + 1] if at + 1 < len(mine) else None
        if following and following[7] == sample[7]:
            assert following[2] <= as_int(end) <= following[3] - work
        else:
            assert sample[3] <= as_int(end) <= graph_ends[sample[7]]
    # Those before the first ring was full, at the least.
    assert complete > 0


def test_a_lossy_trace_reads_without_errors(lossy: Lossy) -> None:
    assert {n.partition("[")[0] for n, _ in lossy.recording.session.import_errors()} == LOSS_STATS


def test_a_lossy_capture_converts_to_the_same_trace(
    lossy: Lossy, double: Engine, tmp_path: Path
) -> None:
    again = tmp_path / "again.pftrace"
    done = run(double, "convert", lossy.raw, again)
    assert (done.returncode, done.stderr) == (0, "")
    assert again.read_bytes() == lossy.recording.trace.read_bytes()


@pytest.mark.parametrize("share", [0.31, 0.67, 0.97])
def test_a_capture_that_was_cut_converts_to_the_beginning_of_the_trace(
    share: float, lossy: Lossy, double: Engine, tmp_path: Path
) -> None:
    cut, trace = tmp_path / "cut.raw", tmp_path / "cut.pftrace"
    raw = lossy.raw.read_bytes()
    cut.write_bytes(raw[: int(len(raw) * share)])
    done = run(double, "convert", cut, trace)
    assert done.returncode == 0
    assert "is truncated" in done.stderr
    whole, part = lossy.recording.trace.read_bytes(), trace.read_bytes()
    assert 0 < len(part) < len(whole)
    # Behind it stands what was held back: the last micro-batches, until their call returns, and
    # the requests that had not ended.
    one, other = (np.frombuffer(data[: len(part)], np.uint8) for data in (whole, part))
    same = int(np.append(np.flatnonzero(one != other), len(part))[0])
    same = max(end for end in (0, *packet_bounds(part)[0][2::3]) if end <= same)
    assert len(part) - same < 2000
    for packet in Trace.FromString(part[same:]).packet:
        kinds = ("track_event", "track_descriptor", "interned_data")
        assert any(map(packet.HasField, kinds))
    assert not is_cut(trace)


def structures(raw: Path) -> list[Any]:
    rows = []
    for frame in read_capture(raw):
        if frame.kind == FrameKind.WIDE:
            for at in range(0, len(frame.data), WIDE_SIZE):
                row = np.frombuffer(frame.data, STRUCTURE_RECORD, 1, at)[0]
                if row["header"]["kind"] == Kind.STRUCTURE:
                    rows.append(row)
    return rows


@pytest.mark.parametrize("transport", ["ring", "perf"])
def test_structure_that_does_not_fit_is_walked_again_until_it_does(
    transport: str, double: Engine, tmp_path: Path
) -> None:
    """With a ring of 12 slots the structure comes bit by bit; operators are counted regardless."""
    raw = tmp_path / "t.raw"
    options = ("--level", "barrier", "--structure-ring-size", "4K", "--poll", 0.01, "--raw", raw,
               "--transport", transport)  # fmt: skip
    target = ("known", "--layers", 2, "--decode", 61, "--rebuild", 0, "--work-us", 211)
    with record(double, tmp_path / "t.pftrace", *options, target=target) as recording:
        assert {n.partition("[")[0] for n, _ in recording.session.import_errors()} == LOSS_STATS
        truth = recording.truth
        executed = sum(t["extra"] + t["fused"] for t in truth["threads"])
        operators = recording.rows(OPERATORS)
        assert len(operators) == executed
        lost = Counter(str(row[2]) for row in recording.rows(LOSSES))
        assert lost["tensor"] > 0
        assert set(lost) <= {"tensor", "structure", "tokens"}
        # The decode graph is the same from its first token on: in the end it is known.
        assert structures(raw)
        rows = recording.rows(
            "SELECT EXTRACT_ARG(arg_set_id, 'debug.structure_id') FROM slice"
            " WHERE category = 'graph' ORDER BY ts"
        )
        assert rows[0] == (0,)
        assert as_int(rows[-1][0]) > 0
        names = recording.rows(
            "SELECT DISTINCT slice.name FROM slice JOIN slice graph ON slice.parent_id = graph.id"
            " WHERE slice.category = 'operator'"
            " AND EXTRACT_ARG(graph.arg_set_id, 'debug.structure_id') > 0"
        )
        assert {"result_output", "Qcur-1", "l_out-0", "ffn_norm-1"} <= {name for (name,) in names}
        unknown = recording.rows(
            "SELECT COUNT(*) FROM slice JOIN slice graph ON slice.parent_id = graph.id"
            " WHERE slice.name = 'operator of an unknown graph'"
            " AND EXTRACT_ARG(graph.arg_set_id, 'debug.structure_id') > 0"
        )
        assert unknown == [(0,)]


def test_a_capture_without_its_end_frame_still_gives_every_finished_operator(
    lossy: Lossy, double: Engine, tmp_path: Path
) -> None:
    """What a killed recorder leaves: whole frames, but no word that it was over."""
    frames: list[Frame] = list(read_capture(lossy.raw))
    assert frames[-1].kind == FrameKind.END
    cut, trace = tmp_path / "cut.raw", tmp_path / "cut.pftrace"
    raw = lossy.raw.read_bytes()
    cut.write_bytes(raw[: -len(pack(frames[-1]))])
    done = run(double, "convert", cut, trace)
    assert "it has no end frame" in done.stderr
    recording = Recording(trace, "", "", 0)
    # Those that had not ended are only shown once it is certain that they never will.
    ended = [row for row in lossy.recording.rows(OPERATORS) if as_int(row[2]) >= as_int(row[1])]
    assert len(ended) > 20
    assert recording.rows(OPERATORS) == ended
    assert {n.partition("[")[0] for n, _ in recording.session.import_errors()} == LOSS_STATS
    recording.close()
