"""A small trace, a query, and the rows to expect."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

from profinfer.trace_processor import SQL_DIR, Session, open_trace, query
from profinfer.trace_processor.session import sql_modules
from tests.captures import BASE, Capture, convert

MODULES = sql_modules(SQL_DIR)
"""Name to text."""
READY = [path.stem for path in query.ready_queries()]

Rows = list[tuple[object, ...]]
LOSSES = {
    "ftrace_cpu_has_data_loss", "traced_buf_sequence_packet_loss",
    "traced_buf_trace_writer_packet_loss",
}  # fmt: skip
"""Rows of Trace Processor's statistics that say what the recorder has lost."""


@contextmanager
def opened(capture: Capture, *, drains: list[tuple[int, int]] | None = None) -> Iterator[Session]:
    """The trace of a capture in a Trace Processor of its own, which finds no error in it and no
    losses but those of the recorder."""
    with tempfile.TemporaryDirectory() as folder:
        path = convert(capture.frames(drains or []), Path(folder) / "small.pftrace")
        with open_trace(path, trace_processor="wasm") as session:
            errors = {name.partition("[")[0] for name, _ in session.import_errors()}
            assert errors <= (LOSSES if capture.lost or capture.unscheduled else set())
            yield session


def ask(session: Session, sql: str) -> Rows:
    """The rows of a query; every module is there, and BASE stands for itself."""
    include = "".join(f"INCLUDE PERFETTO MODULE {name};\n" for name in MODULES)
    return [tuple(row) for row in session.query(include + sql.replace("BASE", str(BASE)))]


def ready(
    session: Session, name: str, *, is_all: bool = False
) -> dict[str, list[dict[str, object]]]:
    """The tables of a ready query: title to rows. `is_all`: with what it leaves out."""
    sql = query.read(query.resolve(name))
    tables = query.run(session, query.of_all(sql) if is_all else sql)
    return {t.title: [dict(zip(t.columns, row, strict=True)) for row in t.rows] for t in tables}


def rows(table: list[dict[str, object]], *columns: str) -> Rows:
    """Some columns of a table."""
    return [tuple(row[column] for column in columns) for row in table]


def foreign_trace(path: Path) -> Path:
    """A trace that another program made, with one slice in a category that Chrome uses."""
    trace = Trace()
    packet = trace.packet.add(trusted_packet_sequence_id=3)
    packet.track_descriptor.uuid = 77
    packet.track_descriptor.thread.pid = packet.track_descriptor.thread.tid = 5
    for kind, time in ((TrackEvent.TYPE_SLICE_BEGIN, 10), (TrackEvent.TYPE_SLICE_END, 20)):
        packet = trace.packet.add(trusted_packet_sequence_id=3, timestamp=time)
        packet.track_event.type = kind
        packet.track_event.track_uuid = 77
        if kind == TrackEvent.TYPE_SLICE_BEGIN:
            packet.track_event.name = "RunTask"
            packet.track_event.categories.append("toplevel")
    path.write_bytes(trace.SerializeToString())
    return path
