"""Modules and ready queries on traces that ProfInfer did not make, or did not finish."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from perfetto_protos import trace_pb2 as pb
from profinfer.trace_processor import SQL_DIR, Session, open_trace, query
from profinfer.trace_processor.session import sql_modules
from tests.captures import convert
from tests.sql.test_tables import small, write_small

READY = [path.stem for path in query.ready_queries()]
MODULES = sql_modules(SQL_DIR)
NOT_OURS = (
    "this trace was not recorded by ProfInfer, or its beginning is missing: its tables are empty"
)
TRUNCATED = "this trace is truncated: the end of the recording is missing"


def _clocks(trace: pb.Trace) -> None:
    packet = trace.packet.add()
    packet.trusted_packet_sequence_id = 7
    for clock in (1, 3, 6):  # REALTIME, MONOTONIC, BOOTTIME
        entry = packet.clock_snapshot.clocks.add()
        entry.clock_id, entry.timestamp = clock, 1_000_000 + clock


def empty_trace(path: Path) -> Path:
    """A trace with a clock snapshot and nothing else."""
    trace = pb.Trace()
    _clocks(trace)
    path.write_bytes(trace.SerializeToString())
    return path


def foreign_trace(path: Path) -> Path:
    """A trace of another program: slices on a thread, one in a category named like one of ours."""
    trace = pb.Trace()
    _clocks(trace)
    packet = trace.packet.add()
    packet.trusted_packet_sequence_id = 7
    packet.track_descriptor.uuid = 70
    packet.track_descriptor.thread.pid = packet.track_descriptor.thread.tid = 700
    packet.track_descriptor.thread.thread_name = "browser"
    for name, category, begin, end in (
        ("load", "loading", 2_000_000, 5_000_000),
        ("barrier", "sync", 3_000_000, 4_000_000),
        ("recording started", "media", 6_000_000, 7_000_000),
    ):
        for kind, ts in (
            (pb.TrackEvent.TYPE_SLICE_BEGIN, begin),
            (pb.TrackEvent.TYPE_SLICE_END, end),
        ):
            packet = trace.packet.add()
            packet.trusted_packet_sequence_id = 7
            packet.timestamp = ts
            event = packet.track_event
            event.type, event.track_uuid = kind, 70
            if kind == pb.TrackEvent.TYPE_SLICE_BEGIN:
                event.name = name
                event.categories.append(category)
                note = event.debug_annotations.add()
                note.name, note.string_value = "config.level", "barrier"
    # Begins and ends were added slice by slice: on one track they must be in order of time.
    trace.packet.sort(key=lambda packet: packet.timestamp)
    path.write_bytes(trace.SerializeToString())
    return path


def unfinished_trace(path: Path) -> Path:
    """The trace of a recorder that was killed between two frames."""
    return convert(small().frames(ended=False), path)


def warnings(session: Session) -> list[str]:
    return [message for message, _ in query.recording_warnings(session)]


OTHERS = pytest.mark.parametrize("make", [empty_trace, foreign_trace])


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("make", [empty_trace, write_small])
def test_module_can_be_included_alone_and_twice(
    make: Callable[[Path], Path], module: str, tmp_path: Path
) -> None:
    with open_trace(make(tmp_path / "some.pftrace")) as session:
        for _ in range(2):
            session.query(f"INCLUDE PERFETTO MODULE {module}")


@OTHERS
def test_every_table_is_empty_in_a_trace_of_another_program(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    with open_trace(make(tmp_path / "other.pftrace")) as session:
        for module in MODULES:
            session.query(f"INCLUDE PERFETTO MODULE {module}")
        names = [
            str(row[0])
            for row in session.query(
                "SELECT name FROM sqlite_master WHERE name GLOB 'profinfer_*' AND type IN "
                "('table', 'view') AND name != 'profinfer_recording_warning' ORDER BY name"
            )
        ]
        assert {"profinfer_operator", "profinfer_recording", "profinfer_token"} <= set(names)
        for name in names:
            assert session.query(f"SELECT * FROM {name}").rows() == [], name  # noqa: S608


@OTHERS
@pytest.mark.parametrize("name", READY)
def test_ready_query_answers_without_rows_on_a_trace_of_another_program(
    make: Callable[[Path], Path], name: str, tmp_path: Path
) -> None:
    with open_trace(make(tmp_path / "other.pftrace")) as session:
        tables = query.run(session, query.read(query.resolve(name)))
    assert tables
    assert all(table.columns for table in tables)
    assert [table.rows for table in tables] == [[] for _ in tables]


@OTHERS
def test_trace_of_another_program_is_warned_of(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    with open_trace(make(tmp_path / "other.pftrace")) as session:
        assert session.import_errors() == []
        assert warnings(session) == [NOT_OURS]


def test_foreign_slices_stay_as_they_are(tmp_path: Path) -> None:
    with open_trace(foreign_trace(tmp_path / "other.pftrace")) as session:
        for module in MODULES:
            session.query(f"INCLUDE PERFETTO MODULE {module}")
        found = session.query("SELECT name, category, dur FROM slice ORDER BY ts").rows()
    assert found == [
        ("load", "loading", 3_000_000),
        ("barrier", "sync", 1_000_000),
        ("recording started", "media", 1_000_000),
    ]


def test_recording_without_its_end_is_truncated(tmp_path: Path) -> None:
    with open_trace(unfinished_trace(tmp_path / "unfinished.pftrace")) as session:
        assert warnings(session) == [TRUNCATED]
        assert session.query(
            "SELECT count() FROM slice WHERE category = 'operator'"
        ).rows() == [(24,)]  # fmt: skip


@pytest.mark.parametrize("name", READY)
def test_ready_query_answers_alike_without_the_end_of_the_recording(
    name: str, tmp_path: Path
) -> None:
    """But for requests, which may have gone on, and what is told at the end."""
    text = query.read(query.resolve(name))
    with open_trace(unfinished_trace(tmp_path / "unfinished.pftrace")) as session:
        unfinished = query.run(session, text)
    with open_trace(write_small(tmp_path / "whole.pftrace")) as session:
        whole = query.run(session, text)
    assert list(map(without_certainty, unfinished)) == list(map(without_certainty, whole))
    for table in unfinished:
        if "certain" in table.columns:
            at = table.columns.index("certain")
            assert {row[at] for row in table.rows} <= {0}


def without_certainty(table: query.Table) -> query.Table:
    if table.columns == ["requests", "request", "reason"]:  # of which what is not certain
        return query.Table(table.title, table.columns, [r for r in table.rows if r[1] is None])
    if table.columns == ["about", "what", "value"]:  # threads' own names may come late
        return query.Table(table.title, table.columns, [r for r in table.rows if r[0] != "threads"])
    if "sentence" in table.columns:  # and how many they are
        rest = [r for r in table.rows if not ("unknown" in r and "requests" in r)]
        return query.Table(table.title, table.columns, rest)
    kept = [i for i, name in enumerate(table.columns) if name not in ("certain", "reason")]
    rows = [tuple(row[i] for i in kept) for row in table.rows]
    return query.Table(table.title, [table.columns[i] for i in kept], rows)


def test_finished_recording_has_no_warning(tmp_path: Path) -> None:
    with open_trace(write_small(tmp_path / "whole.pftrace")) as session:
        assert warnings(session) == []
