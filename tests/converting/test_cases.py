"""Cases that random schedules have found, or would rarely find."""

from __future__ import annotations

from pathlib import Path

import pytest
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from profinfer.records.dtypes import Kind
from tests.captures import BASE, CONTEXT, MAIN, WORKER, Capture, T, convert
from tests.converting.decode import Decoded, Slice, decode
from tests.converting.schedules import SECOND

NODES = [T("x"), T("a-0", "ADD", ("x",)), T("b-0", "ADD", ("a-0",)), T("c-0", "MUL", ("b-0",))]


def trace_of(capture: Capture, path: Path, drains: list[int] | None = None) -> Decoded:
    frames = capture.frames([(BASE + t, BASE + t) for t in drains or []])
    return decode(convert(frames, path / "case.pftrace"))


def of(trace: Decoded, *categories: str) -> list[tuple[str, int, int, str]]:
    """(track, begin, end, name) of the slices."""
    return [
        (s.track, s.begin - BASE, s.end - BASE, s.name)
        for s in trace.slices()
        if s.category in categories
    ]


def never_backwards(slices: list[Slice]) -> bool:
    return all(s.end >= s.begin or s.end == -1 for s in slices)


@pytest.mark.parametrize("drains", [[], [20_000], [26_000], [35_000]])
def test_a_barrier_of_a_lost_graph_is_no_wait_of_the_one_before(
    tmp_path: Path, drains: list[int]
) -> None:
    capture = Capture()
    shape = capture.structure(0, NODES)
    for begin in (10_000, 30_000):
        operators = [("a-0", begin + 100, begin + 200), ("b-0", begin + 300, begin + 400)]
        capture.graph(shape, begin, begin + 9_000, {MAIN: operators})
    # Graph 2 is there with its barriers only.
    capture.lose(lambda row: row.ts >= BASE + 30_000 and row.kind != Kind.BARRIER)
    trace = trace_of(capture, tmp_path, drains)
    assert never_backwards(trace.slices())
    waits = [(begin, end) for _, begin, end, _ in of(trace, "barrier")]
    assert waits == [(10_200, 10_300), (10_400, 19_000)]
    assert [s[1:3] for s in of(trace, "graph")] == [(10_000, 19_000)]


def test_tracks_are_named_alike_whichever_context_ends_first(tmp_path: Path) -> None:
    capture = Capture()
    capture.ubatch(1_000, 9_000, [(0, 0, 1, 1, 1)], tid=MAIN, context=CONTEXT)
    capture.ubatch(2_000, 3_000, [(0, 0, 1, 1, 1)], tid=SECOND, context=CONTEXT + 1)
    whole = trace_of(capture, tmp_path)
    assert ("Sequence 0", 1_000, 9_000) in [
        (track.rpartition("/")[2], begin, end) for track, begin, end, _ in of(whole, "sequence")
    ]
    assert trace_of(capture, tmp_path, [1_500]).content() == whole.content()


def test_backends_are_named_alike_whichever_ends_first(tmp_path: Path) -> None:
    capture = Capture(backends={0xA: "CPU", 0xB: "CPU"})
    # The name of a backend is known from the first structure that ran on it.
    capture.structure(0, NODES, backend=0xA)
    capture.structure(100, NODES, backend=0xB, cgraph=1)
    capture.graph(None, 1_000, 9_000, {}, tid=MAIN, backend=0xA)
    capture.graph(None, 2_000, 3_000, {}, tid=SECOND, backend=0xB)
    whole = trace_of(capture, tmp_path)
    assert trace_of(capture, tmp_path, [1_500]).content() == whole.content()


def test_after_lost_bounds_of_graphs_no_operator_is_complete(tmp_path: Path) -> None:
    """The same addresses are other nodes in the second graph, and nothing says so."""
    capture = Capture()
    first = capture.structure(0, NODES)
    named = {"a-0": "d-1", "b-0": "e-1", "c-0": "f-1", "x": "x"}
    others = [
        T(named[t.name], t.op, tuple(named[s] for s in t.src), address=first.tensors[t.name])
        for t in NODES
    ]
    capture.graph(first, 10_000, 19_000, {MAIN: [("a-0", 10_100), ("b-0", 10_200)]})
    second = capture.structure(19_500, others)
    operators = [("d-1", 21_000), ("e-1", 22_000), ("f-1", 23_000)]
    capture.graph(second, 20_000, 29_000, {MAIN: operators})
    capture.lose(lambda row: row.ts in (BASE + 19_000, BASE + 20_000))
    for drains in ([], [18_000, 20_500], [15_000, 21_500, 22_500]):
        trace = trace_of(capture, tmp_path, drains)
        wrong = [s for s in of(trace, "operator") if s[1] > 20_000 and s[3][0] not in "def"]
        assert wrong == []


@pytest.mark.parametrize("lost", [Kind.UBATCH_BEGIN, Kind.UBATCH_END])
def test_a_graph_of_a_ubatch_with_lost_bounds_is_still_there(tmp_path: Path, lost: Kind) -> None:
    capture = Capture()
    shape = capture.structure(0, NODES)
    for begin in (10_000, 20_000):
        capture.ubatch(begin, begin + 9_000, [(0, 0, 1, 1, 1)])
        operators = [("a-0", begin + 200), ("b-0", begin + 300)]
        capture.graph(shape, begin + 100, begin + 8_000, {MAIN: operators, WORKER: operators})
    capture.lose(lambda row: row.kind == lost and row.ts < BASE + 20_000)
    trace = trace_of(capture, tmp_path, [19_500])
    assert [s[1:3] for s in of(trace, "graph")] == [(10_100, 18_000), (20_100, 28_000)]
    assert len(of(trace, "operator", "operator.incomplete")) == 8
    assert (20_000, 29_000) in [s[1:3] for s in of(trace, "ubatch")]


def test_a_ubatch_of_whose_end_nothing_is_known_ends_with_the_next(tmp_path: Path) -> None:
    capture = Capture()
    for begin in (10_000, 20_000, 30_000):
        capture.ubatch(begin, begin + 5_000, [(0, begin, 1, 1, 1)])
    capture.lose(lambda row: row.ts == BASE + 25_000)
    trace = trace_of(capture, tmp_path)
    assert [s[1:3] for s in of(trace, "ubatch")] == [
        (10_000, 15_000),
        (20_000, 30_000),
        (30_000, 35_000),
    ]
    assert len(of(trace, "sequence")) == 3


def test_all_records_at_once_at_the_end(tmp_path: Path) -> None:
    """The recorder drained only once, whatever the horizon said: END takes what is left."""
    capture = Capture()
    shape = capture.structure(0, NODES)
    capture.graph(shape, 1_000, 9_000, {MAIN: [("a-0", 2_000), ("b-0", 3_000)]})
    frames = [frame for frame in capture.frames([(BASE - 1, capture.end())])]
    assert [s[1:3] for s in of(decode(convert(frames, tmp_path / "t.pftrace")), "operator")] == [
        (2_000, 3_000),
        (3_000, 9_000),
    ]


def test_threads_that_appear_later_get_their_own_tracks(tmp_path: Path) -> None:
    capture = Capture(cpu=lambda _tid, _ts: 0)
    shape = capture.structure(0, NODES)
    for i, worker in enumerate((300, 50, 200, 75)):
        begin = 10_000 * (i + 1)
        operators = [("a-0", begin + 200), ("b-0", begin + 300)]
        capture.graph(shape, begin, begin + 8_000, {MAIN: operators, worker: operators})
    trace = trace_of(capture, tmp_path, [15_000, 25_000, 35_000])
    for i, worker in enumerate((300, 50, 200, 75)):
        begin = 10_000 * (i + 1)
        mine = [s[1:] for s in of(trace, "operator") if s[0] == f"thread {worker}"]
        assert mine == [
            (begin + 200, begin + 300, "a-0"),
            (begin + 300, begin + 8_000, "b-0"),
        ]


@pytest.mark.parametrize("drains", [[], [33_000]])
def test_a_thread_whose_graph_was_lost_is_no_worker_of_another(
    tmp_path: Path, drains: list[int]
) -> None:
    """Two contexts at work at the same time. The wrong slice would end within the next graph."""
    capture = Capture()
    first = capture.structure(0, NODES)
    other = capture.structure(
        100, [T("y"), T("d-0", "ADD", ("y",)), T("e-0", "MUL", ("d-0",))], tid=SECOND, cgraph=1
    )
    capture.graph(first, 10_000, 50_000, {MAIN: [("a-0", 11_000), ("b-0", 12_000)]})
    capture.graph(other, 20_000, 30_000, {SECOND: [("d-0", 22_000), ("e-0", 24_000)]}, tid=SECOND)
    capture.graph(other, 35_000, 60_000, {SECOND: [("d-0", 40_000), ("e-0", 41_000)]}, tid=SECOND)
    capture.lose(lambda row: row.ts == BASE + 20_000)
    trace = trace_of(capture, tmp_path, drains)
    assert [s[1:3] for s in of(trace, "graph")] == [(10_000, 50_000), (35_000, 60_000)]
    assert of(trace, "graph.worker") == []


@pytest.mark.parametrize("drains", [[], [12_000, 25_000], [35_000]])
def test_graphs_that_run_at_once_below_the_backend_interface_have_tracks_of_their_own(
    tmp_path: Path, drains: list[int]
) -> None:
    capture = Capture()
    capture.graph(None, 10_000, 30_000, {}, tid=MAIN)
    capture.graph(None, 20_000, 40_000, {}, tid=SECOND)
    capture.graph(None, 31_000, 50_000, {}, tid=MAIN)
    assert sorted(s[:3] for s in of(trace_of(capture, tmp_path, drains), "backend")) == [
        ("process 100/Inference/Backends/CPU", 10_000, 30_000),
        ("process 100/Inference/Backends/CPU", 31_000, 50_000),
        ("process 100/Inference/Backends/CPU (2)", 20_000, 40_000),
    ]


def test_each_loss_is_followed_by_every_string_so_far(tmp_path: Path) -> None:
    """What comes after it can be read without what came before it; decode.py sees to that."""
    capture = Capture()
    shape = capture.structure(0, NODES)
    for begin in (10_000, 30_000, 50_000):
        operators = [("a-0", begin + 100, begin + 200), ("b-0", begin + 300, begin + 400)]
        capture.graph(shape, begin, begin + 9_000, {MAIN: operators})
    capture.lose(lambda row: row.ts in (BASE + 10_200, BASE + 30_200))
    trace_of(capture, tmp_path, [15_000, 35_000])
    parsed = pb.Trace()
    parsed.ParseFromString((tmp_path / "case.pftrace").read_bytes())
    dropped = [p for p in parsed.packet if p.previous_packet_dropped]
    assert len(dropped) == 2
    assert {p.sequence_flags for p in dropped} == {pb.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED}
    assert {"a-0", "b-0", "barrier"} <= {n.name for n in dropped[1].interned_data.event_names}
