"""A trace as Chrome's system tracing writes it: clocks of the writers' own, in differences."""

# ruff: noqa: S608  SQL is put together here, from words of this file

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TracePacket, TrackEvent

from profinfer.trace_processor import open_trace
from tests.captures import BASE, MAIN
from tests.merging.android import ASLEEP, BOOTED, BOOTTIME, MONOTONIC, REALTIME
from tests.merging.inputs import OPERATORS, US, engine, merged, write_engine

BROWSER, PACKETS = 900, 50
OWN_CLOCK = 64
TASK_US = 70


def _chrome() -> Trace:
    """Tasks of a browser: its sequence counts microseconds of MONOTONIC, in differences."""
    trace = Trace()
    packet = trace.packet.add(trusted_packet_sequence_id=1)
    packet.clock_snapshot.primary_trace_clock = MONOTONIC
    for clock, value in ((BOOTTIME, BASE), (MONOTONIC, BASE - ASLEEP), (REALTIME, BASE + BOOTED)):
        packet.clock_snapshot.clocks.add(clock_id=clock, timestamp=value)
    # Our own recordings have a sequence of this number, too.
    packet = trace.packet.add(trusted_packet_sequence_id=2, sequence_flags=1)
    packet.first_packet_on_sequence = True
    packet.trace_packet_defaults.timestamp_clock_id = OWN_CLOCK
    packet.trace_packet_defaults.track_event_defaults.track_uuid = 11
    clocks = packet.clock_snapshot.clocks
    clocks.add(clock_id=MONOTONIC, timestamp=BASE - ASLEEP)
    own = clocks.add(clock_id=OWN_CLOCK, timestamp=0, is_incremental=True)
    own.unit_multiplier_ns = 1_000
    packet = trace.packet.add(trusted_packet_sequence_id=2, timestamp=0)
    packet.track_descriptor.uuid = 10
    packet.track_descriptor.process.pid = BROWSER
    packet.track_descriptor.process.process_name = "Browser"
    packet = trace.packet.add(trusted_packet_sequence_id=2, timestamp=0)
    packet.track_descriptor.uuid = 11
    packet.track_descriptor.parent_uuid = 10
    thread = packet.track_descriptor.thread
    thread.pid, thread.tid, thread.thread_name = BROWSER, BROWSER + 1, "CrBrowserMain"
    for i in range(PACKETS):
        for kind, delta in (
            (TrackEvent.TYPE_SLICE_BEGIN, 30),
            (TrackEvent.TYPE_SLICE_END, TASK_US),
        ):
            packet = TracePacket(trusted_packet_sequence_id=2, timestamp=delta, sequence_flags=2)
            packet.track_event.type = kind
            if kind == TrackEvent.TYPE_SLICE_BEGIN:
                packet.track_event.name_iid = 1
                packet.track_event.category_iids.append(1)
                if not i:
                    packet.interned_data.event_names.add(iid=1, name="RunTask")
                    packet.interned_data.event_categories.add(iid=1, name="toplevel")
            trace.packet.append(packet)
    metadata = trace.packet.add(trusted_packet_sequence_id=2, sequence_flags=2)
    metadata.chrome_metadata.chrome_version_code = 120
    return trace


@pytest.mark.parametrize("ours_first", [True, False])
def test_chrome_keeps_its_times_and_names(tmp_path: Path, ours_first: bool) -> None:
    path = tmp_path / "chrome.pftrace.gz"
    path.write_bytes(gzip.compress(_chrome().SerializeToString()))
    inputs = [write_engine(tmp_path / "engine.pftrace", engine()), path]
    merged(tmp_path / "both.pftrace", *(inputs if ours_first else inputs[::-1]))
    with open_trace(tmp_path / "both.pftrace", trace_processor="wasm") as session:
        assert session.import_errors() == []
        rows = session.query(
            "SELECT s.ts, s.dur, t.tid, t.name, p.name FROM slice AS s "
            "JOIN thread_track AS tt ON s.track_id = tt.id JOIN thread AS t USING (utid) "
            "JOIN process AS p USING (upid) "
            "WHERE s.name = 'RunTask' AND s.category = 'toplevel' ORDER BY s.ts"
        ).rows()
        ours = session.query(
            "SELECT count(), count(DISTINCT name) FROM slice WHERE category = 'operator'"
        ).rows()
        main = session.query(f"SELECT name FROM thread WHERE tid = {MAIN}").rows()
    assert rows == [
        (
            BASE + (30 + i * (30 + TASK_US)) * US,
            TASK_US * US,
            BROWSER + 1,
            "CrBrowserMain",
            "Browser",
        )
        for i in range(PACKETS)
    ]
    assert ours == [(OPERATORS, 3)]
    assert main == [("compute 0",)]
