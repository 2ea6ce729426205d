"""Random schedules, through the converter: the trace says exactly what happened."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from profinfer.records.capture import LOSS_ENTRY, Frame, FrameKind
from profinfer.records.dtypes import Kind
from profinfer.trace_processor import open_trace
from tests.captures import BASE, convert
from tests.converting.decode import Decoded, Slice, decode
from tests.converting.schedules import Schedule, Span, drains, lossy, schedules

EXAMPLES = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # shrinking takes minutes; the schedule is shown
)
FEW = settings(EXAMPLES, max_examples=15)
PARENT = {
    "graph": "ubatch", "operator": "graph", "operator.incomplete": "graph", "barrier": "operator",
}  # fmt: skip
UNKNOWN = "operator of an unknown graph"


def trace_of(frames: list[Frame]) -> Decoded:
    with tempfile.NamedTemporaryFile(suffix=".pftrace") as file:
        return decode(convert(frames, Path(file.name)))


def tid_of(s: Slice) -> int:
    return int(s.track.removeprefix("thread "))


def spans(slices: list[Slice], category: str, *, named: bool = True) -> list[Span]:
    return sorted(
        Span(tid_of(s), s.begin, s.end, s.name if named else "")
        for s in slices
        if s.category == category
    )


def chunked(data: st.DataObject, schedule: Schedule) -> list[Frame]:
    return schedule.capture.frames(data.draw(drains(schedule)))


@EXAMPLES
@given(schedules(), st.data())
def test_the_slices_are_the_schedule(schedule: Schedule, data: st.DataObject) -> None:
    slices = trace_of(chunked(data, schedule)).slices()
    assert spans(slices, "operator") == sorted(schedule.operators)
    assert spans(slices, "graph", named=False) == sorted(schedule.graphs)
    assert spans(slices, "ubatch", named=False) == sorted(schedule.ubatches)
    # Whether there is a barrier after the last operator of a graph is a guess.
    guessed = {s.end for s in schedule.operators if (s.tid, s.begin) in schedule.last_operators}
    waits = [w for w in spans(slices, "barrier") if w.end not in guessed]
    assert waits == sorted(w for w in schedule.waits if w.end not in guessed)


@EXAMPLES
@given(schedules(), st.data())
def test_every_slice_ends_within_its_parent(schedule: Schedule, data: st.DataObject) -> None:
    trace = trace_of(chunked(data, schedule))
    open_: dict[str, list[Slice]] = defaultdict(list)
    for s in sorted(trace.slices(), key=lambda s: (s.begin, s.depth)):
        assert s.end >= s.begin, f"never ended: {s}"
        stack = open_[s.track]
        del stack[s.depth :]
        assert len(stack) == s.depth
        if stack:
            assert stack[-1].begin <= s.begin
            assert s.end <= stack[-1].end
        if s.category in PARENT:
            assert stack
            assert stack[-1].category.startswith(PARENT[s.category])
        stack.append(s)


@EXAMPLES
@given(schedules(), st.data())
def test_operators_and_gaps_make_up_the_graph(schedule: Schedule, data: st.DataObject) -> None:
    slices = trace_of(chunked(data, schedule)).slices()
    for g in (s for s in slices if s.category in ("graph", "graph.worker")):
        mine = [s for s in slices if s.track == g.track and s.category == "operator"
                and g.begin <= s.begin < g.end]  # fmt: skip
        assert mine
        before = min(s.begin for s in mine) - g.begin
        assert before == 0 or g.category == "graph"
        assert before + sum(s.end - s.begin for s in mine) == g.end - g.begin


@EXAMPLES
@given(schedules(), st.data())
def test_chunking_does_not_change_the_trace(schedule: Schedule, data: st.DataObject) -> None:
    whole = trace_of(schedule.capture.frames())
    assert trace_of(chunked(data, schedule)).content() == whole.content()


@EXAMPLES
@given(schedules(), st.data())
def test_times_lie_within_the_recording(schedule: Schedule, data: st.DataObject) -> None:
    trace = trace_of(chunked(data, schedule))
    assert min(e.ts for e in trace.events) == BASE
    assert max(e.ts for e in trace.events) == schedule.capture.end()
    hot = [e.ts for e in trace.events if e.track.startswith("thread")]
    stamps = {row.ts for row in schedule.capture.records}
    assert set(hot) <= stamps


@FEW
@given(schedules(), st.data())
def test_trace_processor_agrees(schedule: Schedule, data: st.DataObject) -> None:
    with tempfile.NamedTemporaryFile(suffix=".pftrace") as file:
        path = convert(chunked(data, schedule), Path(file.name))
        with open_trace(path, trace_processor="wasm") as session:
            assert session.import_errors() == []
            rows = session.query("SELECT category, depth, min(dur) FROM slice JOIN thread_track t "
                                 "ON t.id = track_id GROUP BY 1, 2")  # fmt: skip
            depth = {"ubatch": 0, "graph": 1, "operator": 2, "barrier": 3, "barrier.inside": 3}
            workers = {"graph.worker": 0, "operator": 1, "barrier": 2, "barrier.inside": 2}
            for category, level, shortest in rows:
                assert level in (depth.get(str(category)), workers.get(str(category)))
                assert isinstance(shortest, int)
                assert shortest >= 0
            sql = "SELECT count() FROM slice WHERE category = 'operator'"
            assert [tuple(r) for r in session.query(sql)] == [(len(schedule.operators),)]


# ---- Losses


def windows(frames: list[Frame]) -> list[tuple[int, int]]:
    entries = [np.frombuffer(f.data, LOSS_ENTRY) for f in frames if f.kind == FrameKind.LOSS]
    return [(int(e["first_ts"]), int(e["last_ts"])) for part in entries for e in part]


@EXAMPLES
@given(lossy(), st.data())
def test_complete_operators_are_true_despite_losses(
    schedule: Schedule, data: st.DataObject
) -> None:
    slices = trace_of(chunked(data, schedule)).slices()
    true = {span[:3]: span.name for span in schedule.operators}
    for span in spans(slices, "operator"):
        assert span[:3] in true, f"not what happened: {span}"
        assert span.name in (true[span[:3]], UNKNOWN)


@EXAMPLES
@given(lossy(), st.data())
def test_graphs_outside_loss_windows_are_true(schedule: Schedule, data: st.DataObject) -> None:
    frames = chunked(data, schedule)
    slices = trace_of(frames).slices()
    gaps = windows(frames)
    true = {"graph": set(schedule.graphs), "ubatch": set(schedule.ubatches)}
    for category, spans_ in true.items():
        for span in spans(slices, category, named=False):
            overlaps = any(a <= span.end and b >= span.begin for a, b in gaps)
            assert span in spans_ or span.end < 0 or overlaps, f"{category} {span}"


@EXAMPLES
@given(lossy(), st.data())
def test_each_loss_is_counted_once(schedule: Schedule, data: st.DataObject) -> None:
    trace = trace_of(chunked(data, schedule))
    lost: dict[str, float] = defaultdict(float)
    lost["Lost records"] = len(schedule.capture.lost)
    for row in schedule.capture.lost:
        lost[f"Lost {Kind(row.kind).name.lower()} records, CPU {row.cpu}"] += 1
    shown = {track.rpartition("/")[2]: value for track, value in trace.counters.items()}
    assert {name: value for name, value in shown.items() if name.startswith("Lost ")} == lost
    assert any(e.category == "loss" for e in trace.events) == bool(schedule.capture.lost)
