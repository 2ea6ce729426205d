"""Whatever is dropped from a capture: nothing gets longer, and what changes is flagged.

Every table of a lossy trace is compared with the same one of the complete trace. A row is either
one of those there, or it bears its flag: `complete` 0 or `incomplete` above 0. Numbers that only
tell rows of one recording apart stand for what they refer to.
"""

from __future__ import annotations

import functools
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from profinfer.records.capture import Frame, FrameKind
from profinfer.records.dtypes import WIDE_SIZE, Kind
from profinfer.trace_processor import Session, open_trace, query
from tests.captures import BASE, MAIN, WORKER, Capture, Operator, Shape, T, convert
from tests.converting.recordings import frames as recorded
from tests.sql.costs import measure
from tests.sql.dropping import Whole
from tests.sql.harness import MODULES, READY, Rows, ask

EXAMPLES = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
)
US = 1_000
THIRD = 102
HOT = (Kind.OPERATOR, Kind.FUSED, Kind.BARRIER)

# ---- Complete captures


def story() -> Capture:
    """Two sequences, the second of which begins a second request; prefill in two parts; a graph
    whose last node has a barrier inside it and none after it, beside one of a second structure;
    three threads that move between CPUs."""
    capture = Capture(cpu=lambda tid, ts: (tid + ts // (700 * US)) % 4)
    wide = (64, 1, 1, 1)
    nodes = [
        T("x", ne=wide), T("blk.0.w.weight", type="q4_K", ne=(256, 64, 1, 1)),
        T("norm-0", "RMS_NORM", ("x",), ne=wide), T("scaled-0", "MUL", ("norm-0", "x"), ne=wide),
        T("mm-0", "MUL_MAT", ("blk.0.w.weight", "scaled-0"), ne=wide),
        T("view-0", "VIEW", ("mm-0",), ne=wide, view="mm-0"),
        T("add-0", "ADD", ("view-0", "x"), ne=wide),
        T("out", "MUL_MAT", ("blk.0.w.weight", "add-0"), ne=wide),
    ]  # fmt: skip
    first = capture.structure(10 * US, nodes)
    second = None
    ubatches = [
        [(0, 0, 4, 0, 0)], [(0, 4, 2, 1, 1)], [(0, 6, 1, 1, 1)], [(0, 7, 1, 1, 1), (1, 0, 3, 1, 1)],
        [(0, 8, 1, 1, 1), (1, 3, 1, 1, 1)], [(1, 4, 1, 1, 1)], [(1, 0, 5, 1, 1)],
        [(1, 5, 1, 1, 1)], [(1, 6, 1, 1, 1)],
    ]  # fmt: skip
    for number, runs in enumerate(ubatches):
        t = (number + 1) * 2_000
        capture.ubatch(t * US, (t + 1_700 + 10 * number) * US, runs)
        _graph(capture, first, t + 50, number, ("norm-0+scaled-0", "mm-0", "add-0", "out"))
        if number % 2:
            if second is None:
                changed = [
                    T("add-1", "ADD", ("add-0", "x"), ne=wide), T("x", ne=wide),
                    T("add-0", "ADD", ("view-0", "x"), ne=wide), T("view-0", ne=wide),
                ]  # fmt: skip
                second = capture.structure((t + 900) * US, changed, cgraph=0x9100)
            _graph(capture, second, t + 1_000, number, ("add-1", "add-0"))
    return capture


def _graph(capture: Capture, shape: Shape, t: int, number: int, names: Iterable[str]) -> None:
    threads: dict[int, list[Operator]] = {tid: [] for tid in (MAIN, WORKER, THIRD)}
    end = t
    for i, name in enumerate(names):
        start = end = end + 20 + i
        for k, operators in enumerate(threads.values()):
            begin = (start + k + number % 3) * US
            inside = [begin + (11 + 3 * k) * US] if name in ("mm-0", "out") else []
            after = [] if name == "out" else [begin + (60 + 13 * (k + i) % 41) * US]
            operators.append((name, begin, *inside, *after))
            end = max(end, (begin // US) + 105)
    capture.graph(shape, t * US, (end + 5) * US, threads)


@functools.cache
def whole(name: str) -> Whole:
    if name == "story":
        return Whole(measure(story()).frames())
    with tempfile.TemporaryDirectory() as folder:
        return Whole(recorded(Path(folder)))


# ---- What a trace says

TABLES = {
    "ubatch": "SELECT tid, ts, dur, phase, tokens, sequences, context, complete "
              "FROM profinfer_ubatch JOIN thread USING (utid)",
    "graph": "SELECT tid, g.ts, g.dur, g.backend, g.thread_count, u.ts, "
             "iif(structure_id IS NULL, 'unknown', node_count || ' of ' || cgraph), g.complete "
             "FROM profinfer_graph g JOIN thread USING (utid) "
             "LEFT JOIN profinfer_ubatch u USING (ubatch_id) "
             "LEFT JOIN profinfer_structure s USING (structure_id)",
    "operator_slice": "SELECT tid, s.ts, s.dur, s.name, g.ts, description, s.wait_dur, s.busy_dur, "
                      "s.complete FROM profinfer_operator_slice s JOIN thread USING (utid) "
                      "JOIN profinfer_graph g USING (graph_id) JOIN _operator_arg_set USING "
                      "(arg_set_id)",
    "operator": "SELECT g.ts, o.ts, o.dur, o.name, op, layer, o.thread_count, busy_dur, wait_dur, "
                "imbalance_dur, slowest_dur, fastest_dur, description, o.complete "
                "FROM profinfer_operator o JOIN profinfer_graph g USING (graph_id) "
                "JOIN _operator_arg_set USING (arg_set_id)",
    "operator_total": "SELECT t.*, description FROM profinfer_operator_total t "
                      "JOIN _operator_arg_set USING (arg_set_id)",
    "inside_barrier": "SELECT g.ts, description, number, b.ts, b.thread_count, wait_dur, "
                      "b.complete FROM profinfer_inside_barrier b JOIN profinfer_graph g "
                      "USING (graph_id) "
                      "JOIN _operator_arg_set USING (arg_set_id)",
    "sequence": "SELECT context, sequence, s.ts, s.dur, s.phase, position, s.tokens, outputs, "
                "next_ts, s.complete FROM profinfer_sequence s JOIN profinfer_ubatch u "
                "USING (ubatch_id)",
    "request": "SELECT * FROM profinfer_request",
    "token": "SELECT t.*, sequence FROM profinfer_token t "
             "JOIN profinfer_request USING (request_id)",
    "request_part": "SELECT p.*, s.ts, sequence FROM profinfer_request_part p "
                    "JOIN profinfer_request_step s USING (request_id, step) "
                    "JOIN profinfer_request USING (request_id)",
    "tensor": "SELECT name, op, type, kind, layer, ne0, ne1, ne2, ne3, nb0, nb1, nb2, nb3, bytes, "
              "buffer, address, description FROM profinfer_tensor",
    "edge": "SELECT s.description, t.description, slot FROM profinfer_edge e JOIN profinfer_tensor "
            "t USING (tensor_id) JOIN profinfer_tensor s ON s.tensor_id = e.src_tensor_id",
    "node": "SELECT cgraph, node, t.description FROM profinfer_node JOIN profinfer_structure "
            "USING (structure_id) JOIN profinfer_tensor t USING (tensor_id)",
    "structure": "SELECT cgraph, node_count, complete FROM profinfer_structure",
}  # fmt: skip

IDS = {
    "request", "request_id", "of_request_id", "delayed_by", "whose", "step", "ubatch_id",
    "arg_set_id", "operator_id", "role_id", "slice_id",
}  # fmt: skip
"""Numbers that records lost before may change."""

Table = dict[str, object]


def tables(session: Session) -> dict[str, list[Table]]:
    """Every table and ready query: rows without the numbers that are only names."""
    include = "".join(f"INCLUDE PERFETTO MODULE {name};\n" for name in MODULES)
    found: dict[str, list[Table]] = {}
    for name, sql in TABLES.items():
        result = session.query(include + sql)
        found[name] = [_plain(result.columns, row) for row in result]
    for name in sorted(READY):
        sql = re.sub(r"\nWHERE (\w\.)?rank <= \d+", "", query.read(query.resolve(name)))
        for table in query.run(session, sql):
            found[f"{name}: {table.title}"] = [_plain(table.columns, row) for row in table.rows]
    return found


def _plain(columns: list[str], row: Iterable[object]) -> Table:
    values = [re.sub(r"  #\d+$", "", v) if isinstance(v, str) else v for v in row]
    return {
        f"{i} {column}": value
        for i, (column, value) in enumerate(zip(columns, values, strict=True))
        if column not in IDS
    }


def is_flagged(row: Table) -> bool:
    flags = {key.partition(" ")[2]: value for key, value in row.items()}
    return (
        flags.get("complete", 1) in (0, None)
        or flags.get("certain", 1) in (0, None)
        or bool(flags.get("incomplete"))
        or "lost" in flags
        or "unknown" in row.values()
    )


def without(row: Table, *columns: str) -> tuple[tuple[str, object], ...]:
    """Without these; and which of the threads one is, the first graph that is seen says."""
    return tuple(
        (key, "compute" if str(value).startswith("compute ") else value)
        for key, value in row.items() if key.partition(" ")[2] not in columns
    )  # fmt: skip


SLICES = """
SELECT s.id, coalesce(tid, u.context, '') AS track, category, s.ts, s.dur, s.name, s.parent_id,
  CASE WHEN category IN ('ubatch', 'sequence') THEN u.complete
       WHEN category IN ('graph', 'graph.worker', 'backend') THEN g.complete
       ELSE category != 'operator.incomplete' END AS complete
FROM slice s LEFT JOIN thread_track h ON h.id = s.track_id LEFT JOIN thread USING (utid)
LEFT JOIN profinfer_ubatch u ON u.ubatch_id = extract_arg(s.arg_set_id, 'debug.ubatch_id')
LEFT JOIN profinfer_graph g ON g.graph_id = extract_arg(s.arg_set_id, 'debug.graph_id')
WHERE category GLOB 'operator*' OR category IN
  ('barrier', 'graph', 'graph.worker', 'backend', 'ubatch', 'sequence')
"""


class Said:
    """What one trace says."""

    def __init__(self, session: Session) -> None:
        self.slices: Rows = ask(session, SLICES)
        self.tables = tables(session)
        self.errors = {name.partition("[")[0] for name, _ in session.import_errors()}


def said(frames: Iterable[Frame]) -> Said:
    with tempfile.TemporaryDirectory() as folder:
        path = convert(frames, Path(folder) / "t.pftrace")
        with open_trace(path, trace_processor="wasm") as session:
            return Said(session)


@functools.cache
def truth(name: str) -> Said:
    found = said(whole(name).without([]))
    assert not found.errors
    return found


# ---- The property


def check(name: str, places: Iterable[int], drains: Iterable[int] = ()) -> Said:
    """Drops these records; says what the lossy trace says."""
    lossy, true = said(whole(name).without(places, drains)), truth(name)
    assert lossy.errors <= {
        "traced_buf_trace_writer_packet_loss", "traced_buf_sequence_packet_loss"
    }  # fmt: skip
    problems = [*wrong_slices(lossy, true), *wrong_rows(lossy, true)]
    assert not problems, "\n".join(problems[:20])
    return lossy


def wrong_slices(lossy: Said, true: Said) -> list[str]:
    """Slices without a flag that are longer than what happened, or did not happen."""
    happened: dict[tuple[object, object], list[tuple[int, int, object]]] = {}
    for _, track, category, ts, dur, title, *_ in true.slices:
        happened.setdefault((track, category), []).append((_int(ts), _int(dur), title))
    complete = {row[0]: row[-1] for row in lossy.slices}
    wrong = []
    for number, track, category, ts, dur, title, parent, _ in lossy.slices:
        if not complete[parent if category == "barrier" else number] or _int(dur) < 0:
            continue
        begin, end = _int(ts), _int(ts) + _int(dur)
        spans = happened.get((track, category), [])
        if category in ("operator", "barrier"):
            fine = (begin, end - begin, title) in spans
        else:
            # A worker may be seen to begin later than it did.
            fine = any(t <= begin and end <= t + d for t, d, _ in spans)
        if not fine:
            wrong.append(f"slice {category} on {track}: {title} {begin - BASE} to {end - BASE}")
    return wrong


def wrong_rows(lossy: Said, true: Said) -> list[str]:
    """Rows without a flag that are not in the complete trace's table."""
    wrong = []
    for name, rows in lossy.tables.items():
        if name.startswith("requests: What cannot be told"):  # of what has a flag, the reason
            continue
        # A share is of the sum of all rows: where one is flagged, the sum is not certain.
        some = any(map(is_flagged, rows))
        ignored = ["percent"] if some and ":" in name else []
        known = Counter(without(row, *ignored) for row in true.tables[name])
        for row in rows:
            if not is_flagged(row):
                key = without(row, *ignored)
                known[key] -= 1
                if known[key] < 0:
                    wrong.append(f"{name}: {row}")
    return wrong


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value


SOURCES = ("story", "recorded")


@st.composite
def drops(draw: st.DrawFn, source: Whole) -> set[int]:
    """Single records, bursts on one CPU, some of one kind, wide ones."""
    count = len(source.records) + len(source.wide)
    gone: set[int] = set()
    for way in draw(st.sets(st.sampled_from(("single", "burst", "kind", "wide")), min_size=1)):
        if way == "single":
            gone |= draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=4))
        elif way == "burst":
            mine = source.on(draw(st.sampled_from(sorted(set(source.records["cpu"].tolist())))))
            first = draw(st.integers(0, len(mine) - 1))
            gone |= set(mine[first : first + draw(st.integers(1, 80))])
        else:
            kinds = [k for k in Kind if (k >= Kind.TENSOR) == (way == "wide") and source.at(k)]
            mine = source.at(draw(st.sampled_from(kinds))) if kinds else [0]
            gone |= draw(st.sets(st.sampled_from(mine), min_size=1, max_size=3))
    return gone


@pytest.mark.parametrize("name", SOURCES)
@EXAMPLES
@given(st.data())
def test_nothing_gets_longer_and_what_changes_is_flagged(name: str, data: st.DataObject) -> None:
    source = whole(name)
    stamps = source.records["ts"].tolist()
    drains = data.draw(st.lists(st.sampled_from(stamps), max_size=4))
    check(name, data.draw(drops(source)), drains)


@pytest.mark.parametrize("name", SOURCES)
# The others have tests of their own.
@pytest.mark.parametrize("kind", [k for k in Kind if k < Kind.COUNTERS])
def test_each_kind_of_record_may_be_lost(name: str, kind: Kind) -> None:
    """The first one and the last one, then all."""
    places = whole(name).at(kind)
    check(name, [places[0], places[-1]])
    check(name, places)


def hot(source: Whole, graph: int, *, tid: int | None = None, nth: int | None = None) -> list[int]:
    """Places of the operators and barriers of a graph: of one thread, or of its nth node."""
    records = source.records
    kind, stamps = records["kind"], records["ts"]
    begin = stamps[kind == Kind.GRAPH_BEGIN][graph]
    end = stamps[kind == Kind.GRAPH_END][graph]
    inside = np.flatnonzero((stamps >= begin) & (stamps < end) & np.isin(kind, HOT))
    found = []
    for thread in sorted(set(records["tid"][inside].tolist())):
        mine = inside[records["tid"][inside] == thread]
        node = np.cumsum(kind[mine] != Kind.BARRIER) - 1
        if tid in (None, thread):
            found += mine[(node == nth) | (nth is None)].tolist()
    return found


def ubatch(source: Whole, *numbers: int, kinds: tuple[Kind, ...]) -> list[int]:
    """Places of the bounds of micro-batches and of their tokens."""
    return [source.at(kind)[number] for number in numbers for kind in kinds]


BEGIN, END, TOKENS = Kind.UBATCH_BEGIN, Kind.UBATCH_END, Kind.TOKENS
CASES: dict[str, Callable[[Whole], list[int]]] = {
    "a worker's whole part in a graph": lambda w: hot(w, 2, tid=WORKER),
    "two threads' whole parts": lambda w: hot(w, 2, tid=WORKER) + hot(w, 2, tid=THIRD),
    "an operator of all threads": lambda w: hot(w, 3, nth=1),
    "the first operator of all threads": lambda w: hot(w, 3, nth=0),
    "the first operator of one thread": lambda w: hot(w, 3, nth=0, tid=WORKER),
    "the only operators that tell the last one's barriers": lambda w: hot(w, 0, nth=1),
    "an operator in every graph": lambda w: [p for g in range(13) for p in hot(w, g, nth=1)],
    "everything in a graph": lambda w: hot(w, 4),
    "a graph with its bounds": lambda w: [
        *hot(w, 4), w.at(Kind.GRAPH_BEGIN)[4], w.at(Kind.GRAPH_END)[4],
    ],
    "the bounds between two graphs": lambda w: [w.at(Kind.GRAPH_END)[0], w.at(Kind.GRAPH_BEGIN)[1]],
    "the last micro-batch of a request": lambda w: ubatch(w, 5, kinds=(BEGIN, END, TOKENS)),
    "the first of a request": lambda w: ubatch(w, 6, kinds=(BEGIN, END, TOKENS)),
    "one in the middle": lambda w: ubatch(w, 4, kinds=(BEGIN, END, TOKENS)),
    "all of a request": lambda w: ubatch(w, 6, 7, 8, kinds=(BEGIN, END, TOKENS)),
    "the tokens of a micro-batch": lambda w: ubatch(w, 4, kinds=(TOKENS,)),
    "the tokens of the last one": lambda w: ubatch(w, 8, kinds=(TOKENS,)),
    "the bounds between two micro-batches": lambda w: [w.at(END)[3], w.at(BEGIN)[4]],
    "the beginning of a prefill": lambda w: ubatch(w, 0, kinds=(BEGIN,)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_easily_overlooked(case: str) -> None:
    source = whole("story")
    places = CASES[case](source)
    check("story", places)
    check("story", places, source.records["ts"].tolist()[::40])


def test_what_is_left_over_of_a_division_is_the_same_ones() -> None:
    """Requests get other numbers: a micro-batch of two is divided as before, to the nanosecond."""
    check("recorded", [*range(134, 139), 1351, 1414, 1459], [8110719437668])


def test_one_lost_record_costs_little() -> None:
    """Flags are no excuse: what is certain stays unflagged."""
    source, true = whole("story"), truth("story")
    [place, *_] = hot(source, 3, nth=1, tid=WORKER)
    lossy = check("story", [place], [int(source.records["ts"][place])])
    flagged = {
        name: sum(map(is_flagged, rows)) for name, rows in lossy.tables.items() if ":" not in name
    }
    assert {name: n for name, n in flagged.items() if n} == {
        # Those of all threads that overlap the gap. The one before seems to have its barriers.
        "operator_slice": 3, "operator": 2, "operator_total": 2, "inside_barrier": 3,
        "graph": 1, "ubatch": 1, "sequence": 1, "request": 1, "token": 1,
        # Of that step: its own work, and what is outside.
        "request_part": 2,
    }  # fmt: skip
    # The verdict says what is not known of any trace.
    whole_ones = (rows for name, rows in true.tables.items() if not name.startswith("explain"))
    assert not any(map(is_flagged, (row for rows in whole_ones for row in rows)))


def test_a_lost_micro_batch_does_not_split_its_request() -> None:
    """Positions jump: what comes after the gap is no prompt of one token."""
    lossy = check("story", ubatch(whole("story"), 4, kinds=(BEGIN, END, TOKENS)))
    assert len(lossy.tables["request"]) == len(truth("story").tables["request"])


def test_an_operator_whose_tensor_is_unknown_is_incomplete(tmp_path: Path) -> None:
    """Another recorder may not end a walk where a tensor is lost: then the operator has no name."""
    frames = story().frames()
    at = next(i for i, frame in enumerate(frames) if frame.kind == FrameKind.WIDE)
    data = frames[at].data
    rows = [data[i : i + WIDE_SIZE] for i in range(0, len(data), WIDE_SIZE)]
    kept = [row for row in rows if not row.rstrip(b"\0").endswith(b"add-0")]
    assert len(kept) < len(rows)
    frames[at] = Frame(FrameKind.WIDE, frames[at].ts, b"".join(kept))
    with open_trace(convert(frames, tmp_path / "t.pftrace"), trace_processor="wasm") as session:
        sql = "SELECT DISTINCT complete FROM profinfer_operator WHERE name GLOB 'tensor 0x*'"
        assert ask(session, sql) == [(0,)]
        assert ask(session, sql.replace("GLOB 'tensor 0x*'", "= 'mm-0'")) == [(1,)]
