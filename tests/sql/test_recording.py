"""profinfer.recording.metadata, profinfer.recording.losses, profinfer.recording.warnings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from profinfer.records.capture import FrameKind
from profinfer.records.dtypes import RECORD, WIDE_SIZE, Kind
from profinfer.trace_processor import Session, open_trace
from tests.captures import BASE, CPUS, MAIN, WORKER, Capture, Row, convert
from tests.sql.harness import ask, foreign_trace, opened, ready, rows
from tests.sql.schedules import small

MS = 1_000_000


def lossy() -> Capture:
    """Two gaps on CPU 0, the second one of two kinds; read at 10, 20 and 30 ms."""
    capture = Capture(cpu=lambda _tid, _ts: 0)
    for kind, times in (
        (Kind.OPERATOR, (11, 12, 14, 23)),
        (Kind.BARRIER, (24, 25)),
    ):
        for time in times:
            capture.add(kind, time * MS, MAIN)
    capture.lose(lambda _row: True)
    return capture


DRAINS = [(BASE + t * MS, BASE + t * MS) for t in (10, 20, 30)]


def test_losses() -> None:
    with opened(lossy(), drains=DRAINS) as session:
        assert ask(
            session,
            "SELECT (ts - BASE) / 1000000, (first_ts - BASE) / 1000000, cpu, kind, lost "
            "FROM profinfer_loss ORDER BY ts",
        ) == [(14, 10, 0, "operator", 3), (23, 20, 0, "operator", 1), (25, 20, 0, "barrier", 2)]
        table = next(t for name, t in ready(session, "summary").items() if "Losses" in name)
        assert rows(table, "kind", "cpu", "lost", "gaps", "gaps_ms") == [
            ("operator", 0, 4, 2, 7.0),
            ("barrier", 0, 2, 1, 5.0),
        ]


def test_the_loss_counters_show_totals() -> None:
    with opened(lossy(), drains=DRAINS) as session:
        assert ask(
            session,
            "SELECT t.name, (c.ts - BASE) / 1000000, value FROM counter c "
            "JOIN track t ON t.id = c.track_id WHERE t.name GLOB 'Lost*' ORDER BY t.name, c.ts",
        ) == [
            ("Lost barrier records, CPU 0", 20, 0.0),
            ("Lost barrier records, CPU 0", 25, 2.0),
            ("Lost operator records, CPU 0", 10, 0.0),
            ("Lost operator records, CPU 0", 14, 3.0),
            ("Lost operator records, CPU 0", 23, 4.0),
            ("Lost records", 0, 0.0),
            ("Lost records", 14, 3.0),
            ("Lost records", 23, 4.0),
            ("Lost records", 25, 6.0),
        ]


def test_without_losses_there_is_one_counter_of_them_and_it_stays_at_zero() -> None:
    with opened(small()) as session:
        assert ask(
            session,
            "SELECT t.name, c.ts - BASE, value FROM counter c JOIN track t ON t.id = c.track_id "
            "WHERE t.name GLOB 'Lost*'",
        ) == [("Lost records", 0, 0.0)]


def stats(session: Session, name: str) -> dict[object, object]:
    """By number of the ring."""
    rows = ask(session, "SELECT name, idx, value FROM stats WHERE value > 0")
    return {ring: value for stat, ring, value in rows if stat == f"traced_buf_{name}"}


def wide_and_narrow() -> Capture:
    """A recording that has lost two operators on CPU 1 and one tensor."""
    capture = small()
    gone = [row.ts for row in capture.records if row.kind == Kind.OPERATOR and row.cpu == 1][:2]
    capture.lose(lambda row: row.ts in gone and row.cpu == 1)
    capture.lost.append(Row(gone[1], 0, 0, MAIN, 3, Kind.TENSOR))
    return capture


@pytest.mark.parametrize("cut", [False, True])
def test_trace_processors_own_statistics_tell_the_losses(cut: bool, tmp_path: Path) -> None:
    """By ring: those of the CPUs, then the structure ring. The sequence is told apart from them."""
    capture = wide_and_narrow()
    middle = capture.lost[0].ts + 1
    frames = capture.frames([(middle, middle)])
    losses = [i for i, frame in enumerate(frames) if frame.kind == FrameKind.LOSS]
    assert len(losses) == 2
    path = convert(frames[: losses[1] + 2] if cut else frames, tmp_path / "lossy.pftrace")
    with open_trace(path, trace_processor="wasm") as session:
        lost = {1: 2, CPUS: 1}
        assert stats(session, "trace_writer_packet_loss") == lost
        assert stats(session, "chunks_discarded") == lost
        assert stats(session, "sequence_packet_loss") == {CPUS + 1: len(losses)}
        assert dict(session.import_errors()) == {
            "traced_buf_sequence_packet_loss[5]": 2,
            "traced_buf_trace_writer_packet_loss[1]": 2,
            "traced_buf_trace_writer_packet_loss[4]": 1,
        }
        sums = "SELECT iif(kind IN ('tensor', 'structure', 'tokens'), 4, cpu), sum(lost) "
        assert ask(session, sums + "FROM profinfer_loss GROUP BY 1") == list(lost.items())
        if not cut:
            written = stats(session, "chunks_written")
            assert written == stats(session, "chunks_read")
            assert written == {
                cpu: sum(row.cpu == cpu for row in capture.records) for cpu in (0, 1)
            } | {CPUS: len(capture.wide)}  # fmt: skip
            sizes = {ring: RECORD.itemsize for ring in range(CPUS)} | {CPUS: WIDE_SIZE}
            assert stats(session, "bytes_written") == {
                ring: int(str(count)) * sizes[int(str(ring))] for ring, count in written.items()
            }


def test_what_follows_a_loss_refers_to_the_same_strings() -> None:
    """The state is stated again: SQL still joins operators and tensors by one argument set."""
    capture = wide_and_narrow()
    capture.lost = capture.lost[:1]
    with opened(capture, drains=[(capture.lost[0].ts + 1,) * 2]) as session:
        assert ask(
            session,
            "SELECT count(DISTINCT arg_set_id), count(DISTINCT description) FROM "
            "_operator_arg_set JOIN slice USING (arg_set_id)",
        ) == [(4, 4)]
        [(graphs,)] = ask(session, "SELECT count() FROM profinfer_graph")
        assert graphs == 3


@pytest.mark.parametrize(
    ("ts", "dur", "lost"),
    [(0, 9, 0), (0, 10, 1), (12, 1, 1), (14, 0, 1), (15, 4, 0), (15, 6, 1), (26, 100, 0)],
)
def test_has_loss(ts: int, dur: int, lost: int) -> None:
    """The gaps are 10 to 14 and 20 to 25 ms."""
    with opened(lossy(), drains=DRAINS) as session:
        call = f"profinfer_has_loss(upid, BASE + {ts * MS}, {dur * MS})"
        assert ask(session, f"SELECT {call} FROM profinfer_process") == [(lost,)]  # noqa: S608


def test_recording_says_how_it_was_made() -> None:
    with opened(small()) as session:
        found = {
            key: value for key, value in ask(session, "SELECT key, value FROM profinfer_recording")
        }
    assert found["plan.level"] == "barrier"
    assert found["target.name"] == "engine"
    assert found["target.command[2]"] == "model"
    assert found["layout.version"] == "1.2.3"
    assert found["uname.release"] == "6.1"
    assert found["reason"] == "the target ended"
    assert found["records"] == str(len(small().records))


def test_a_whole_recording_has_no_warning() -> None:
    with opened(small()) as session:
        assert ask(session, "SELECT message FROM profinfer_recording_warning") == []


def test_warns_of_levels_that_were_left_out(tmp_path: Path) -> None:
    start, *rest = small().frames()
    said = json.loads(start.data)
    said["plan"]["missing"] = {"token": "no process_ubatch", "barrier": "no ggml_barrier"}
    path = convert([replace(start, data=json.dumps(said).encode()), *rest], tmp_path / "t.pftrace")
    with open_trace(path, trace_processor="wasm") as session:
        assert sorted(ask(session, "SELECT message FROM profinfer_recording_warning")) == [
            ("level barrier was not recorded: no ggml_barrier",),
            ("level token was not recorded: no process_ubatch",),
        ]


def test_warns_of_losses() -> None:
    with opened(lossy(), drains=DRAINS) as session:
        assert ask(session, "SELECT message FROM profinfer_recording_warning") == [
            ("6 records were lost in 3 gaps",)
        ]


def test_warns_of_a_missing_end(tmp_path: Path) -> None:
    path = convert(small().frames(ended=False), tmp_path / "cut.pftrace")
    with open_trace(path, trace_processor="wasm") as session:
        assert ask(session, "SELECT message FROM profinfer_recording_warning") == [
            ("this trace is truncated: the end of the recording is missing",)
        ]


@pytest.mark.parametrize("foreign", [False, True])
def test_warns_of_a_trace_that_is_not_ours(tmp_path: Path, foreign: bool) -> None:
    path = foreign_trace(tmp_path / "foreign.pftrace") if foreign else None
    with open_trace(path, trace_processor="wasm") as session:
        [(message,)] = ask(session, "SELECT message FROM profinfer_recording_warning")
        assert "not recorded by ProfInfer" in str(message)


def test_threads_that_compute_are_named_by_what_they_do() -> None:
    with opened(small()) as session:
        assert ask(
            session,
            "SELECT tid, t.name, p.pid, p.name FROM thread t JOIN process p USING (upid)"
            " WHERE tid > 0 ORDER BY tid",
        ) == [
            (MAIN, "compute 0", 100, "engine"),
            (WORKER, "compute 1", 100, "engine"),
        ]


def test_their_own_names_stand_among_the_facts() -> None:
    capture = small()
    capture.threads = {MAIN: 'engine "x"', WORKER: "pool.1"}
    with opened(capture) as session:
        facts = ready(session, "recording")["Facts"]
    found = {row["what"]: row["value"] for row in facts if row["about"] == "threads"}
    assert found == {f"compute 0 ({MAIN})": 'engine "x"', f"compute 1 ({WORKER})": "pool.1"}
