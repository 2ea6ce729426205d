"""Packets made by the column are what protobuf reads, whatever the values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from profinfer.trace import packets
from profinfer.trace.packets import SMALL_LIMIT, Template

TIMES = st.lists(
    st.one_of(
        st.integers(0, (1 << 63) - 1),
        st.sampled_from((0, 127, 128, (1 << 56) - 1, 1 << 56, (1 << 63) - 1)),
    ),
    min_size=1,
    max_size=8,
)
SMALL = st.integers(0, SMALL_LIMIT - 1) | st.sampled_from((127, 128, 1 << 14, SMALL_LIMIT - 1))
QUICK = settings(max_examples=50, deadline=None, derandomize=True)


def parse(data: bytes) -> list[pb.TracePacket]:
    trace = pb.Trace()
    trace.ParseFromString(data)
    return list(trace.packet)


def column(data: st.DataObject, count: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return np.array(data.draw(st.lists(SMALL, min_size=count, max_size=count)), np.uint64)


@QUICK
@given(TIMES, st.data())
def test_operator_begin(times: list[int], data: st.DataObject) -> None:
    n = len(times)
    track, name, tensor = column(data, n), column(data, n), column(data, n)
    category = data.draw(st.integers(1, 127))
    encoded = packets.OPERATOR_BEGIN.encode(
        np.array(times, np.uint64), track=track, name=name, tensor=tensor, category=category
    )
    found = parse(encoded)
    assert [p.timestamp for p in found] == times
    events = [p.track_event for p in found]
    assert {e.type for e in events} == {pb.TrackEvent.TYPE_SLICE_BEGIN}
    assert [e.track_uuid for e in events] == track.tolist()
    assert [e.name_iid for e in events] == name.tolist()
    assert [list(e.category_iids) for e in events] == [[category]] * n
    assert [e.correlation_id_str_iid for e in events] == tensor.tolist()
    assert not any(e.debug_annotations for e in events)
    assert {p.trusted_packet_sequence_id for p in found} == {packets.SEQUENCE_ID}
    assert {p.sequence_flags for p in found} == {pb.TracePacket.SEQ_NEEDS_INCREMENTAL_STATE}


@QUICK
@given(TIMES, st.data())
def test_graph_begin(times: list[int], data: st.DataObject) -> None:
    n = len(times)
    columns = {key: column(data, n) for key in ("track", "name", "graph", "structure")}
    category = np.array(data.draw(st.lists(st.integers(1, 127), min_size=n, max_size=n)), np.uint8)
    encoded = packets.GRAPH_BEGIN.encode(
        np.array(times, np.uint64), category=category.astype(np.uint64), **columns
    )
    found = parse(encoded)
    assert [p.timestamp for p in found] == times
    for i, packet in enumerate(found):
        event = packet.track_event
        assert event.track_uuid == columns["track"][i]
        assert event.name_iid == columns["name"][i]
        assert list(event.category_iids) == [category[i]]
        assert [(a.name_iid, a.int_value or a.uint_value) for a in event.debug_annotations] == [
            (1 + packets.ANNOTATIONS.index("graph_id"), columns["graph"][i]),
            (1 + packets.ANNOTATIONS.index("structure_id"), columns["structure"][i]),
        ]


@pytest.mark.parametrize(
    ("template", "kind"),
    [
        (packets.NAMED_BEGIN, pb.TrackEvent.TYPE_SLICE_BEGIN),
        (packets.NAMED_INSTANT, pb.TrackEvent.TYPE_INSTANT),
    ],
)
@QUICK
@given(times=TIMES, track=SMALL, name=SMALL)
def test_named_events(
    template: Template, kind: int, times: list[int], track: int, name: int
) -> None:
    """One value stands for all rows."""
    encoded = template.encode(np.array(times, np.uint64), track=track, name=name, category=5)
    assert [
        (p.timestamp, p.track_event.type, p.track_event.track_uuid, p.track_event.name_iid)
        for p in parse(encoded)
    ] == [(time, kind, track, name) for time in times]


@QUICK
@given(TIMES, st.data())
def test_slice_end(times: list[int], data: st.DataObject) -> None:
    track = column(data, len(times))
    found = parse(packets.SLICE_END.encode(np.array(times, np.uint64), track=track))
    assert [p.timestamp for p in found] == times
    assert [p.track_event.track_uuid for p in found] == track.tolist()
    assert {p.track_event.type for p in found} == {pb.TrackEvent.TYPE_SLICE_END}


def test_no_rows_are_no_bytes() -> None:
    assert packets.SLICE_END.encode(np.empty(0, np.uint64), track=1) == b""


def test_ids_that_need_three_bytes_may_stand_beside_small_ones() -> None:
    track = np.array([1, 1 << 14, SMALL_LIMIT - 1], np.uint64)
    found = parse(packets.SLICE_END.encode(np.array([1, 2, 3], np.uint64), track=track))
    assert [p.track_event.track_uuid for p in found] == track.tolist()


def test_an_operator_slice_fits_into_60_bytes() -> None:
    begin = packets.OPERATOR_BEGIN.encode(
        np.array([10**15], np.uint64), track=300, name=2000, tensor=3000, category=1
    )
    end = packets.SLICE_END.encode(np.array([10**15], np.uint64), track=300)
    assert len(begin) + len(end) <= 60
