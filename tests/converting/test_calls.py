"""Calls of the engine's own interface: what is read from their records, and their slices."""

from __future__ import annotations

from pathlib import Path

import pytest

from profinfer.converting.converter import Converter
from profinfer.converting.slices import Call, Chunk, Ubatch
from profinfer.errors import TraceError
from profinfer.output import Output
from profinfer.records.dtypes import Kind
from profinfer.trace.writer import TraceWriter
from profinfer.trace_processor import open_trace
from tests.captures import BASE, CONTEXT, MAIN, WORKER, Capture, T, convert
from tests.converting.decode import decode

MEMORY = 0xFFFF_8000_0000_1234
DRAINS = [[], [1_500], [3_000, 6_100], [5_000, 7_000, 8_700]]


def capture() -> Capture:
    """A server's slot: what is known of the sequence goes, a prompt is decoded, a token sampled."""
    found = Capture(probed_calls=("clear",))
    shape = found.structure(0, [T("x"), T("a-0", "ADD", ("x",))])
    found.call("memory", 1_000, 1_100, {"context": CONTEXT}, result=MEMORY, kind="address")
    # Only the lower half of a register is the number's, only the lowest byte a flag's.
    rest = {"memory": MEMORY, "sequence": 0xABCD_0000_0002, "begin": 5, "end": -1}
    found.call("remove", 1_200, 1_300, rest, result=0xFFFF_FF01, kind="flag")
    found.call("decode", 2_000, 6_000, {"context": CONTEXT}, result=0xFFFF_FFFE)
    found.ubatch(2_100, 5_900, [(2, 5, 3, 1, 1)], graph_type=2)
    found.graph(shape, 2_200, 5_800, {MAIN: [("a-0", 2_300, 5_700)]})
    found.call("sample", 6_200, 6_900, {"sampler": 0x77, "context": CONTEXT, "output": -1},
               result=4711, tid=WORKER)  # fmt: skip
    found.call("warmup", 8_000, 8_600, {"context": CONTEXT, "on": 0xFF00}, kind="")
    return found


class Reading(Converter):
    """Keeps what it was told."""

    def _write(self, chunk: Chunk) -> None:
        self.read = [*getattr(self, "read", []), chunk]
        super()._write(chunk)

    @property
    def named(self) -> list[tuple[str, int]]:
        return [
            (call.name, self._lanes.threads.tids[call.thread])
            for chunk in self.read
            for call in chunk.calls
        ]


def read(frames: Capture, folder: Path, drains: list[int]) -> Reading:
    output = Output(folder / "read.pftrace", force=True)
    converter = Reading(TraceWriter(output))
    for frame in frames.frames([(BASE + at, BASE + at) for at in drains]):
        converter.feed(frame)
    output.close()
    return converter


@pytest.mark.parametrize("drains", DRAINS)
def test_calls_come_by_their_end_with_arguments_by_role(tmp_path: Path, drains: list[int]) -> None:
    found = read(capture(), tmp_path, drains)
    calls: list[Call] = [call for chunk in found.read for call in chunk.calls]
    assert found.named == [
        ("memory", MAIN), ("remove", MAIN), ("decode", MAIN), ("sample", WORKER), ("warmup", MAIN),
    ]  # fmt: skip
    assert [(call.begin - BASE, call.end - BASE) for call in calls] == [
        (1_000, 1_100), (1_200, 1_300), (2_000, 6_000), (6_200, 6_900), (8_000, 8_600),
    ]  # fmt: skip
    assert [(call.arguments, call.result) for call in calls] == [
        ({"context": CONTEXT}, MEMORY),
        ({"memory": MEMORY, "sequence": 2, "begin": 5, "end": -1}, 1),
        ({"context": CONTEXT}, -2),
        ({"sampler": 0x77, "context": CONTEXT, "output": -1}, 4711),
        ({"context": CONTEXT, "on": 0}, None),
    ]


@pytest.mark.parametrize("drains", DRAINS)
def test_a_ubatch_and_the_call_that_it_was_in_come_together_or_the_call_later(
    tmp_path: Path, drains: list[int]
) -> None:
    """Whoever looks at both by their ends, chunk by chunk, has them in order."""
    ends = [
        sorted(each.end for each in [*chunk.calls, *chunk.ubatches_ended])
        for chunk in read(capture(), tmp_path, drains).read
    ]
    everything = [end for chunk in ends for end in chunk]
    assert everything == sorted(everything)
    assert len(everything) == 6


def test_which_calls_would_have_been_seen_is_said(tmp_path: Path) -> None:
    seen = read(capture(), tmp_path, [])._calls.probed
    assert seen == {"memory", "remove", "decode", "sample", "warmup", "clear"}
    assert read(Capture(), tmp_path, [])._calls.probed == set()


@pytest.mark.parametrize("drains", DRAINS)
def test_each_is_a_slice_on_its_thread_around_what_it_did(
    tmp_path: Path, drains: list[int]
) -> None:
    frames = capture().frames([(BASE + at, BASE + at) for at in drains])
    slices = decode(convert(frames, tmp_path / "calls.pftrace")).slices()
    assert [(s.track, s.name, s.begin - BASE, s.end - BASE, s.depth)
            for s in slices if s.category == "call"] == [
        (f"thread {MAIN}", "memory", 1_000, 1_100, 0),
        (f"thread {MAIN}", "remove", 1_200, 1_300, 0),
        (f"thread {MAIN}", "decode", 2_000, 6_000, 0),
        (f"thread {MAIN}", "warmup", 8_000, 8_600, 0),
        (f"thread {WORKER}", "sample", 6_200, 6_900, 0),
    ]  # fmt: skip
    inside = {s.category: s.depth for s in slices if s.track == f"thread {MAIN}"}
    assert (inside["ubatch"], inside["graph"], inside["operator"]) == (1, 2, 3)


def test_arguments_are_on_the_slice(tmp_path: Path) -> None:
    path = convert(capture().frames(), tmp_path / "calls.pftrace")
    with open_trace(path) as session:
        rows = session.query(
            "SELECT key, int_value FROM slice JOIN args USING (arg_set_id)"
            " WHERE category = 'call' AND slice.name = 'remove' ORDER BY key"
        )
        found = {str(key): value for key, value in rows}
    assert found == {
        "debug.begin": 5, "debug.end": -1, "debug.memory": MEMORY - (1 << 64), "debug.result": 1,
        "debug.sequence": 2,
    }  # fmt: skip


def test_what_a_ubatch_says_of_its_graph(tmp_path: Path) -> None:
    made = Capture()
    made.ubatch(1_000, 2_000, [(0, 0, 1, 1, 1)])
    for number in range(3):
        made.ubatch(3_000 + 2_000 * number, 4_000 + 2_000 * number, [(0, 1, 1, 1, 1)],
                    graph_type=number)  # fmt: skip
    chunks = read(made, tmp_path, []).read
    ubatches: list[Ubatch] = [ubatch for chunk in chunks for ubatch in chunk.ubatches_ended]
    assert [ubatch.graph_type for ubatch in ubatches] == [None, 0, 1, 2]
    assert {ubatch.step for ubatch in ubatches} == {0}


@pytest.mark.parametrize(("begin", "end"), [(2_000, 2_000), (3_000, 2_000)])
def test_a_call_that_ends_before_it_began_is_damage(tmp_path: Path, begin: int, end: int) -> None:
    made = Capture()
    made.call("decode", begin, end, {"context": CONTEXT})
    with pytest.raises(TraceError, match="is damaged"):
        convert(made.frames(), tmp_path / "damaged.pftrace")


def test_a_number_that_the_plan_does_not_have_is_damage(tmp_path: Path) -> None:
    made = capture()
    made.at_start["plan"] = made.start()["plan"] | {"calls": []}
    with pytest.raises(TraceError, match="is damaged"):
        convert(made.frames(), tmp_path / "damaged.pftrace")


def test_a_lost_call_spoils_no_operator(tmp_path: Path) -> None:
    made = capture()
    made.call("decode", 2_001, 5_000, {"context": CONTEXT}, is_lost=True)
    slices = decode(convert(made.frames(), tmp_path / "lost.pftrace")).slices()
    assert [s.category for s in slices if s.name == "a-0"] == ["operator"]


@pytest.mark.parametrize("drains", DRAINS)
def test_what_is_open_within_ends_with_it(tmp_path: Path, drains: list[int]) -> None:
    """Ends of graph and micro-batch were lost: they are not later than the call's."""
    made = capture()
    made.lose(lambda row: row.kind in (Kind.GRAPH_END, Kind.UBATCH_END))
    frames = made.frames([(BASE + at, BASE + at) for at in drains])
    slices = decode(convert(frames, tmp_path / "lost.pftrace")).slices()
    found = {s.category: (s.begin - BASE, s.end - BASE) for s in slices if s.name != "memory"}
    assert {c: found[c] for c in ("ubatch", "graph", "operator.incomplete")} == {
        "ubatch": (2_100, 6_000), "graph": (2_200, 6_000), "operator.incomplete": (2_300, 6_000),
    }  # fmt: skip
    assert [s.depth for s in slices if s.name == "warmup"] == [0]


# ---- Calls that are told when they begin


def entries() -> Capture:
    """Two are decoded, the second of which computes nothing; then the context is warmed up."""
    made = Capture()
    shape = made.structure(0, [T("x"), T("a-0", "ADD", ("x",))])
    made.call("decode", 2_000, 2_000, {"context": CONTEXT}, kind="")
    for begin in (2_100, 4_000):
        made.ubatch(begin, begin + 1_800, [(2, begin, 3, 1, 1)])
        made.graph(shape, begin + 100, begin + 1_700, {MAIN: [("a-0", begin + 200, begin + 1_600)]})
    made.call("decode", 6_200, 6_200, {"context": CONTEXT}, kind="")
    made.call("warmup", 8_000, 8_600, {"context": CONTEXT, "on": 1}, kind="void")
    made.ubatch(8_700, 8_800, [(2, 9, 1, 1, 1)])
    return made


@pytest.mark.parametrize("drains", DRAINS)
def test_one_that_is_told_when_it_begins_ends_with_what_it_did(
    tmp_path: Path, drains: list[int]
) -> None:
    chunks = read(entries(), tmp_path, drains).read
    calls = [call for chunk in chunks for call in chunk.calls]
    assert [(call.name, call.begin - BASE, call.end - BASE, call.result) for call in calls] == [
        ("decode", 2_000, 5_800, None), ("decode", 6_200, 6_201, None),
        ("warmup", 8_000, 8_600, None),
    ]  # fmt: skip
    assert [call.told - BASE for call in calls] == [6_200, 8_600, 8_600]
    frames = entries().frames([(BASE + at, BASE + at) for at in drains])
    slices = decode(convert(frames, tmp_path / "calls.pftrace")).slices()
    inside = [(s.category, s.begin - BASE, s.depth) for s in slices if s.track == f"thread {MAIN}"]
    assert [row for row in inside if row[0] in ("call", "ubatch")] == [
        ("call", 2_000, 0), ("ubatch", 2_100, 1), ("ubatch", 4_000, 1), ("call", 6_200, 0),
        ("call", 8_000, 0), ("ubatch", 8_700, 0),
    ]  # fmt: skip


@pytest.mark.parametrize("drains", DRAINS)
def test_it_ends_before_another_thread_calls_for_its_context(
    tmp_path: Path, drains: list[int]
) -> None:
    made = Capture()
    made.call("memory", 1_000, 1_100, {"context": CONTEXT}, result=MEMORY, kind="address")
    rest = {"memory": MEMORY, "sequence": 2, "begin": 5, "end": -1}
    made.call("decode", 2_000, 2_000, {"context": CONTEXT}, kind="")
    made.ubatch(2_100, 5_900, [(2, 5, 3, 1, 1)])
    made.call("sample", 6_200, 6_900, {"sampler": 7, "context": CONTEXT + 8}, tid=WORKER)
    made.call("remove", 7_200, 7_900, rest, tid=WORKER, kind="flag")
    calls = [call for chunk in read(made, tmp_path, drains).read for call in chunk.calls]
    assert [(call.name, call.end - BASE) for call in calls] == [
        ("memory", 1_100), ("sample", 6_900), ("decode", 5_900), ("remove", 7_900),
    ]  # fmt: skip


@pytest.mark.parametrize("drains", DRAINS)
def test_where_ends_were_lost_it_lasts_until_the_next(tmp_path: Path, drains: list[int]) -> None:
    made = entries()
    made.lose(lambda row: row.kind in (Kind.GRAPH_END, Kind.UBATCH_END))
    frames = made.frames([(BASE + at, BASE + at) for at in drains])
    slices = decode(convert(frames, tmp_path / "lost.pftrace")).slices()
    ends = [(s.category, s.end - BASE) for s in slices if s.begin - BASE in (2_000, 4_000)]
    assert {end for end in ends if end[0] in ("call", "ubatch")} == {
        ("call", 6_199), ("ubatch", 6_199),
    }  # fmt: skip
    assert [s.depth for s in slices if s.category == "call"] == [0, 0, 0]


# ---- What steps do beside computing


@pytest.mark.parametrize("drains", DRAINS)
def test_parts_end_no_call_and_are_nobodys_question(tmp_path: Path, drains: list[int]) -> None:
    """One within a call that is told when it begins, one within a graph, and one within that."""
    made = entries()
    for name, begin, end in (("set", 2_050, 2_060), ("wait", 2_240, 2_250), ("copy", 2_210, 2_290)):
        made.call(name, begin, end, {"tensor": 7}, kind="void", is_part=True)
    found = read(made, tmp_path, drains)
    calls = [call for chunk in found.read for call in chunk.calls]
    assert [(call.name, call.end - BASE) for call in calls] == [
        ("decode", 5_800), ("decode", 6_201), ("warmup", 8_600),
    ]  # fmt: skip
    assert not {"set", "wait", "copy"} & found._calls.probed
    frames = made.frames([(BASE + at, BASE + at) for at in drains])
    slices = decode(convert(frames, tmp_path / "parts.pftrace")).slices()
    assert [(s.name, s.begin - BASE, s.end - BASE, s.depth) for s in slices
            if s.category == "part"] == [
        ("set", 2_050, 2_060, 1), ("copy", 2_210, 2_290, 3), ("wait", 2_240, 2_250, 4),
    ]  # fmt: skip
