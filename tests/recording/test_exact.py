"""Recordings of a program whose schedule is known exactly, at each level: every number exact.

The truth comes from the program itself, which counts next to each call and stamps each node, and
from its README (`schedule.py`). Times are checked without any tolerance: a probe lies between
two stamps of the target, and between them lies an amount of work that is known.
"""

# ruff: noqa: S608  SQL is put together here, from words of this file

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.recording.schedule import Case, Node, cpu_nodes, dispatched, fake_nodes, ubatches
from tests.support import Engine, Recording, as_int, double_fixture, pairs, record

__all__ = ["double_fixture"]

CASES = {
    "barrier, two backends, three sequences": Case(
        "known", "barrier", threads=3, layers=5, sequences=3, backend2=True
    ),
    "barrier, final barrier, dlopen, more sequences than an ubatch holds": Case(
        "known-dl", "barrier", prompt=7, decode=5, sequences=7, ubatch=3, rebuild=11,
        final_barrier=True, start_delay=131,
    ),
    "barrier, nothing fused, one thread": Case(
        "known", "barrier", threads=1, layers=2, decode=7, no_fused=True
    ),
    "barrier, nothing fused, final barrier, sleeping": Case(
        "known", "barrier", layers=2, decode=5, no_fused=True, final_barrier=True, sleep=True
    ),
    "barrier, recording stubs, two backends, dlopen": Case(
        "known-dl", "barrier", threads=3, layers=5, sequences=3, backend2=True, probes="recording"
    ),
    "operator, dlopen, two backends": Case(
        "known-dl", "operator", layers=7, decode=13, backend2=True, start_delay=67
    ),
    "graph, two backends": Case("known", "graph", backend2=True, rebuild=3),
    "token, five sequences": Case("known", "token", sequences=5, prompt=17, ubatch=4, decode=3),
}  # fmt: skip
BACKENDS = {"CPU": "CPU", "Fake0": "fake"}
"""By what the engine calls them: what can be known without calling it."""


@pytest.fixture(scope="module", params=list(CASES.values()), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    value: Case = request.param
    return value


@pytest.fixture(scope="module")
def recording(
    case: Case, double: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Recording]:
    trace = tmp_path_factory.mktemp("known") / "known.pftrace"
    # Slow enough for a drain or two, quick enough for a test.
    with record(
        double, trace, "--level", case.level, "--poll", 0.03, "--probes", case.probes,
        target=case.command(),
    ) as made:  # fmt: skip
        yield made


def test_schedule_agrees_with_the_program(case: Case, recording: Recording) -> None:
    """The two sources of truth have to agree before anything is compared with them."""
    truth = recording.truth
    everything = ubatches(case)
    prefill = sum(spans[0].phase == "prefill" for spans in everything)
    assert truth["ubatches"] == {"prefill": prefill, "decode": len(everything) - prefill}
    operators = dispatched(case)
    count = len(everything)
    assert len(truth["threads"]) == case.threads
    for thread in truth["threads"]:
        assert thread["extra"] + thread["fused"] == count * len(operators)
        assert thread["barrier_inside"] == count * sum(o.inside for o in operators)
        outside = len(operators) - 1 + case.final_barrier
        assert thread["barrier_outside"] == count * outside
    cpu = [g for g in truth["graphs"] if g[1] == "CPU"]
    assert len(cpu) == count
    assert len(truth["graphs"]) == count * (1 + case.backend2)


def test_counts_are_exact(case: Case, recording: Recording) -> None:
    truth = recording.truth
    main = truth["pid"]
    graphs = Counter(g[1] for g in truth["graphs"])
    expected: Counter[tuple[int, str]] = Counter()
    expected[main, "call"] = truth["llama_decode"]
    expected[main, "ubatch"] = sum(truth["ubatches"].values())
    if case.has("graph"):
        expected[main, "graph"] = sum(graphs.values())
        expected[main, "part"] = len(truth["parts"])
    for thread in truth["threads"]:
        tid = thread["tid"]
        if case.has("operator"):
            expected[tid, "operator"] = thread["extra"] + thread["fused"]
            if tid != main:
                expected[tid, "graph.worker"] = graphs["CPU"]
        if case.has("barrier"):
            expected[tid, "barrier"] = thread["barrier_outside"]
            expected[tid, "barrier.inside"] = thread["barrier_inside"]
    seen = recording.rows(
        "SELECT tid, category, COUNT(*) FROM slice JOIN thread_track ON track_id = thread_track.id"
        " JOIN thread USING (utid) WHERE slice.name NOT IN ('create', 'free') GROUP BY 1, 2"
    )
    assert {(tid, category): number for tid, category, number in seen} == dict(expected)


def test_parts_of_steps_are_whole_and_within_each_other(case: Case, recording: Recording) -> None:
    """Each between two stamps of the target; what lies within another one is below it."""
    parts = sorted(recording.truth["parts"], key=lambda part: part[2]) if case.has("graph") else []
    seen = recording.rows(
        "SELECT s.name, tid, s.ts, s.ts + s.dur,"
        " (SELECT count() FROM ancestor_slice(s.id) AS a WHERE a.category = 'part'),"
        " extract_arg(s.arg_set_id, 'debug.bytes'), extract_arg(s.arg_set_id, 'debug.tensor'),"
        " extract_arg(s.arg_set_id, 'debug.from'), extract_arg(s.arg_set_id, 'debug.backend')"
        " FROM slice AS s JOIN thread_track AS t ON s.track_id = t.id JOIN thread USING (utid)"
        " WHERE s.category = 'part' ORDER BY s.ts"
    )
    for found, (name, tid, before, after, depth, *rest) in zip(seen, parts, strict=True):
        assert (found[0], found[1], found[4]) == (name, tid, depth)
        assert before <= as_int(found[2]) < as_int(found[3]) <= after
        assert [value or 0 for value in found[5:]] == rest


def test_decoding_steps_add_up(case: Case, recording: Recording) -> None:
    """To the nanosecond, each moment once; parts that the engine does not have are named."""
    include = "INCLUDE PERFETTO MODULE profinfer.tokens.work;"
    steps = recording.rows(
        f"{include} SELECT t.tpot, sum(w.dur), min(w.dur), sum(w.part = 'rest')"
        " FROM profinfer_token AS t JOIN profinfer_token_work AS w USING (request_id, step)"
        " GROUP BY t.request_id, t.step"
    )
    assert steps
    for tpot, total, least, rests in steps:
        assert (total, rests) == (tpot, 1)
        assert as_int(least) >= 0
    parts = recording.rows(f"{include} SELECT DISTINCT part FROM profinfer_token_work")
    of_graphs = {"graphs", "allocate", "split", "set", "wait", "get"} | (
        {"copy"} if case.backend2 else set()
    )
    common = {"ubatch", "calls", "rest"}
    assert {name for (name,) in parts} <= common | of_graphs
    assert {name for (name,) in parts} >= (
        of_graphs - {"allocate", "split"} if case.has("graph") else common
    )
    gaps = pairs(recording.rows(f"{include} SELECT part, reason FROM profinfer_part_gap"))
    if case.has("graph"):
        assert set(gaps) == {"event", "sample"}
        assert str(gaps["event"]).startswith("the engine has none of its functions")
    else:
        assert gaps.pop("sample")
        assert set(gaps.values()) == {"it was not recorded (record --level graph)"}


def test_graphs_stand_on_the_track_of_their_backend(case: Case, recording: Recording) -> None:
    counts = Counter(BACKENDS[g[1]] for g in recording.truth["graphs"] if case.has("graph"))
    for category in ("backend", "graph"):
        names = recording.rows(
            f"SELECT name, COUNT(*) FROM slice WHERE category = '{category}' GROUP BY 1"
        )
        assert pairs(names) == {f"graph {name}": number for name, number in counts.items()}
    tracks = recording.rows(
        "SELECT track.name, COUNT(*) FROM slice JOIN track ON track_id = track.id"
        " WHERE category = 'backend' GROUP BY 1"
    )
    assert pairs(tracks) == dict(counts)


def test_operators_come_in_the_order_in_which_the_engine_runs_them(
    case: Case, recording: Recording
) -> None:
    truth = recording.truth
    once = [(d.name, d.op) for d in dispatched(case)]
    graphs = sum(truth["ubatches"].values()) if case.has("operator") else 0
    rows = recording.rows(
        "SELECT tid, slice.name, EXTRACT_ARG(arg_set_id, 'correlation_id') FROM slice"
        " JOIN thread_track ON track_id = thread_track.id JOIN thread USING (utid)"
        " WHERE category = 'operator' ORDER BY tid, slice.ts"
    )
    for thread in truth["threads"]:
        mine = [(name, str(text).split()[0]) for tid, name, text in rows if tid == thread["tid"]]
        assert mine == once * graphs
    assert len(rows) == len(once) * graphs * case.threads


def test_ubatches_hold_the_tokens_that_were_decoded(case: Case, recording: Recording) -> None:
    expected = ubatches(case)
    rows = recording.rows(
        "SELECT name, EXTRACT_ARG(arg_set_id, 'debug.tokens'),"
        " EXTRACT_ARG(arg_set_id, 'debug.sequences') FROM slice"
        " WHERE category = 'ubatch' ORDER BY ts"
    )
    assert rows == [
        (spans[0].phase, sum(s.tokens for s in spans), len(spans)) for spans in expected
    ]
    args = ("ubatch_id", "sequence", "position", "tokens", "outputs")
    columns = ", ".join(f"EXTRACT_ARG(arg_set_id, 'debug.{name}')" for name in args)
    rows = recording.rows(
        f"SELECT track.name, slice.name, {columns} FROM slice JOIN track ON track_id = track.id"
        " WHERE category = 'sequence' ORDER BY 3, 4"
    )
    assert rows == [
        (f"Sequence {s.sequence}", s.phase, number, s.sequence, s.position, s.tokens, s.outputs)
        for number, spans in enumerate(expected, 1)
        for s in spans
    ]


def test_slices_nest(case: Case, recording: Recording) -> None:
    parents: dict[str, set[str | None]] = {"call": {None}, "ubatch": {"call"}}
    if case.has("graph"):
        parents |= {"graph": {"ubatch"}, "part": {"ubatch", "part", None}}
    if case.has("operator"):
        parents["operator"] = {"graph", "graph.worker"} if case.threads > 1 else {"graph"}
        if case.threads > 1:
            parents["graph.worker"] = {None}
    if case.has("barrier"):
        parents |= {"barrier": {"operator"}, "barrier.inside": {"operator"}}
    rows = recording.rows(
        "SELECT DISTINCT slice.category, parent.category FROM slice"
        " LEFT JOIN slice parent ON parent.id = slice.parent_id"
        " JOIN thread_track ON slice.track_id = thread_track.id"
    )
    seen: dict[Any, set[Any]] = {}
    for category, parent in rows:
        seen.setdefault(category, set()).add(parent)
    assert seen == parents


def test_ubatches_and_graphs_lie_around_and_between_the_stamps(
    case: Case, recording: Recording
) -> None:
    graphs = recording.truth["graphs"]
    slices = recording.rows("SELECT ts, ts + dur FROM slice WHERE category = 'ubatch' ORDER BY ts")
    for ubatch, *_, start, end in graphs:
        begin, until = slices[ubatch]
        assert as_int(begin) <= start < end <= as_int(until)
    if not case.has("graph"):
        return
    slices = recording.rows("SELECT ts, ts + dur FROM slice WHERE category = 'graph' ORDER BY ts")
    for (begin, until), (_, backend, *_, start, end) in zip(slices, graphs, strict=True):
        assert start <= as_int(begin) < as_int(until) <= end
        work = case.work_us * 1000 * (len(dispatched(case)) if backend == "CPU" else 1)
        assert as_int(until) - as_int(begin) >= work


def _samples(truth: dict[str, Any]) -> dict[int, list[dict[str, Any]]]:
    keys = ("tid", "name", "start", "end", "inner_entry", "inner_exit", "op", "graph", "node")
    by_thread: dict[int, list[dict[str, Any]]] = {t["tid"]: [] for t in truth["threads"]}
    for row in truth["samples"]:
        sample = dict(zip(keys, row, strict=True))
        by_thread[sample["tid"]].append(sample)
    return by_thread


def _on_threads(recording: Recording, category: str) -> dict[int, list[tuple[int, int]]]:
    """(begin, end) of the slices of a category on each thread, in order of time."""
    found: dict[int, list[tuple[int, int]]] = {}
    for tid, begin, end in recording.rows(
        "SELECT tid, slice.ts, slice.ts + slice.dur FROM slice"
        " JOIN thread_track ON track_id = thread_track.id JOIN thread USING (utid)"
        f" WHERE category = '{category}' ORDER BY tid, slice.ts"
    ):
        found.setdefault(as_int(tid), []).append((as_int(begin), as_int(end)))
    return found


def test_operators_begin_and_end_between_the_stamps_around_them(
    case: Case, recording: Recording
) -> None:
    truth = recording.truth
    operators = _on_threads(recording, "operator")
    if not case.has("operator"):
        assert not operators
        return
    graph_ends = [g[-1] for g in truth["graphs"] if g[1] == "CPU"]
    for index, (tid, samples) in enumerate(_samples(truth).items()):
        work = case.work_us * 1000 * (index + 1)  # thread k works k + 1 times as long
        assert len(samples) == len(operators[tid])
        late = []
        for i, (sample, (begin, end)) in enumerate(zip(samples, operators[tid], strict=True)):
            # The call comes after the first stamp and before the work that the second one ends.
            assert sample["start"] <= begin <= sample["end"] - work
            late.append(begin - sample["start"])
            following = samples[i + 1] if i + 1 < len(samples) else None
            if following and following["graph"] == sample["graph"]:
                assert following["start"] <= end <= following["end"] - work
            else:
                assert sample["end"] <= end <= graph_ends[sample["graph"]]
            assert end - begin >= work
        # A probe costs microseconds; only one that is interrupted lies further from its stamp.
        assert sorted(late)[len(late) // 2] < 1_000_000


def test_waits_begin_when_the_work_is_done_and_end_with_the_operator(
    case: Case, recording: Recording
) -> None:
    waits = _on_threads(recording, "barrier")
    if not case.has("barrier"):
        assert not waits
        return
    operators = _on_threads(recording, "operator")
    truth = recording.truth
    graph_ends = [g[-1] for g in truth["graphs"] if g[1] == "CPU"]
    for tid, samples in _samples(truth).items():
        at = iter(waits[tid])
        for i, (sample, (_, end)) in enumerate(zip(samples, operators[tid], strict=True)):
            following = samples[i + 1] if i + 1 < len(samples) else None
            is_last = following is None or following["graph"] != sample["graph"]
            if is_last and not case.final_barrier:
                continue
            begin, until = next(at)
            after = graph_ends[sample["graph"]] if is_last else samples[i + 1]["start"]
            assert sample["end"] <= begin <= after
            assert until == end
        assert next(at, None) is None


def test_barriers_inside_operators_lie_between_the_stamps_around_them(
    case: Case, recording: Recording
) -> None:
    inside = _on_threads(recording, "barrier.inside")
    if not case.has("barrier"):
        assert not inside
        return
    for tid, samples in _samples(recording.truth).items():
        stamps = [(s["inner_entry"], s["inner_exit"]) for s in samples if s["inner_entry"]]
        assert len(stamps) == len(inside[tid])
        for (begin, _), (entry, leave) in zip(inside[tid], stamps, strict=True):
            assert entry <= begin <= leave


# ---- Structure


def _arrays(recording: Recording, category: str, key: str) -> dict[int, list[int]]:
    """An argument that is a list, by slice id."""
    found: dict[int, list[int]] = {}
    for identity, value in recording.rows(
        f"SELECT slice.id, int_value FROM slice JOIN args USING (arg_set_id)"
        f" WHERE category = '{category}' AND args.key GLOB 'debug.{key}[[]*' ORDER BY args.id"
    ):
        found.setdefault(as_int(identity), []).append(as_int(value))
    return found


def _tensors(recording: Recording) -> dict[int, tuple[Node, tuple[int, ...], dict[str, Any]]]:
    """By tensor id: the node without its sources, their ids, and the other arguments."""
    ne, nb, src = (_arrays(recording, "structure.tensor", k) for k in ("ne", "nb", "src"))
    found = {}
    keys = ("tensor_id", "op", "type", "layer", "kind", "bytes", "view_src")
    columns = ", ".join(f"EXTRACT_ARG(arg_set_id, 'debug.{key}')" for key in keys)
    for identity, name, number, op, kind, layer, role, size, view in recording.rows(
        f"SELECT id, name, {columns} FROM slice WHERE category = 'structure.tensor'"
    ):
        shape = ne[as_int(identity)]
        assert shape[2:] == [1, 1]
        node = Node(str(name), str(op), str(kind), (shape[0], shape[1]), (),
                    None if layer is None else as_int(layer))  # fmt: skip
        rest = {"kind": role, "bytes": size, "view_src": view, "nb": nb[as_int(identity)]}
        found[as_int(number)] = (node, tuple(src.get(as_int(identity), ())), rest)
    return found


def _structures(recording: Recording) -> dict[int, list[int]]:
    """Tensor ids of the nodes, by structure id."""
    nodes = _arrays(recording, "structure.graph", "nodes")
    found = {}
    for identity, number, count, complete in recording.rows(
        "SELECT id, EXTRACT_ARG(arg_set_id, 'debug.structure_id'),"
        " EXTRACT_ARG(arg_set_id, 'debug.node_count'), EXTRACT_ARG(arg_set_id, 'debug.complete')"
        " FROM slice WHERE category = 'structure.graph'"
    ):
        assert complete
        assert count == len(nodes[as_int(identity)])
        found[as_int(number)] = nodes[as_int(identity)]
    return found


def test_structure_of_every_graph_is_the_engines(case: Case, recording: Recording) -> None:
    structures = _structures(recording)
    if not case.has("graph"):
        assert not structures
        return
    tensors = _tensors(recording)
    rows = recording.rows(
        "SELECT EXTRACT_ARG(arg_set_id, 'debug.structure_id') FROM slice"
        " WHERE category = 'graph' ORDER BY ts"
    )
    names: dict[int, str] = {number: node.name for number, (node, _, _) in tensors.items()}
    meant: dict[tuple[Any, ...], int] = {}
    for (structure,), row in zip(rows, recording.truth["graphs"], strict=True):
        _, backend, count, _, _, _, n, kv, *_ = row
        expected = cpu_nodes(case.layers, n, kv) if backend == "CPU" else fake_nodes(n)
        ids = structures[as_int(structure)]
        assert len(ids) == count
        described = [
            tensors[i][0]._replace(sources=tuple(names[s] for s in tensors[i][1])) for i in ids
        ]
        assert described == expected
        # One structure per distinct graph, and only one.
        key = (backend, n, kv if backend == "CPU" else 0)
        assert meant.setdefault(key, as_int(structure)) == structure
    assert sorted(meant.values()) == sorted(structures)


def test_sources_are_the_tensors_of_the_same_graph(case: Case, recording: Recording) -> None:
    tensors = _tensors(recording)
    structures = _structures(recording)
    assert bool(structures) == case.has("graph")
    for ids in structures.values():
        nodes = set(ids)
        by_name: dict[str, list[int]] = {}
        for i in ids:
            by_name.setdefault(tensors[i][0].name, []).append(i)
        for i in ids:
            for source in tensors[i][1]:
                # A name that this graph computes means the node here, not a stale one.
                if tensors[source][0].name in by_name:
                    assert source in nodes, (tensors[i][0].name, tensors[source][0].name)


def test_weights_caches_and_views_are_told_apart(case: Case, recording: Recording) -> None:
    if not case.has("graph"):
        assert recording.count("structure.tensor") == 0
        return
    seen = set()
    for node, _, rest in _tensors(recording).values():
        seen.add(rest["kind"])
        if node.name.endswith(".weight"):
            assert rest["kind"] == "weight"
            assert node.type == ("f32" if "norm" in node.name else "q4_K")
        elif node.op in ("VIEW", "RESHAPE"):
            assert rest["kind"] == "view"
            assert rest["view_src"]
        elif node.name.startswith("cache_"):
            assert rest["kind"] == "cache"
            assert node.type == "f16"
        elif node.op == "NONE":
            assert rest["kind"] in ("leaf", "input")
        else:
            assert rest["kind"] == "operator"
        block, size = {"f32": (1, 4), "f16": (1, 2), "q4_K": (256, 144)}[node.type]
        assert rest["bytes"] == node.ne[0] // block * size * node.ne[1]
        assert rest["nb"][:2] == [size, node.ne[0] // block * size]
    assert {"weight", "cache", "view", "operator"} <= seen


# ---- The recording itself


def test_trace_has_no_error_and_says_how_it_ended(recording: Recording) -> None:
    assert recording.session.import_errors() == []
    ((reason, lost, status, unattributed),) = recording.rows(
        "SELECT EXTRACT_ARG(arg_set_id, 'debug.reason'), EXTRACT_ARG(arg_set_id, 'debug.lost'),"
        " EXTRACT_ARG(arg_set_id, 'debug.command_status'),"
        " EXTRACT_ARG(arg_set_id, 'debug.unattributed')"
        " FROM slice WHERE name = 'recording ended'"
    )
    assert (reason, lost, status, unattributed) == ("the target ended", 0, 0, 0)
    assert recording.count("operator.incomplete") == 0
    assert recording.count("loss") == 0


def test_trace_names_the_process_its_command_and_what_was_asked(
    case: Case, recording: Recording
) -> None:
    rows = recording.rows(f"SELECT name FROM process WHERE pid = {recording.truth['pid']}")
    assert rows == [(case.program,)]
    metadata = pairs(
        recording.rows(
            "SELECT args.key, display_value FROM slice JOIN args USING (arg_set_id)"
            " WHERE slice.name = 'recording started'"
        )
    )
    words = [metadata[f"debug.target.command[{i}]"] for i in range(1, len(case.command()))]
    assert words == case.command()[1:]
    assert metadata["debug.target.pid"] == str(recording.truth["pid"])
    assert metadata["debug.config.level"] == case.level
    assert metadata["debug.layout.version"] == "0.0.7-known"
    assert metadata["debug.plan.level"] == case.level
    assert metadata["debug.loader"] == "libbpf"


def test_threads_bear_the_names_of_their_roles(case: Case, recording: Recording) -> None:
    tids = ", ".join(str(thread["tid"]) for thread in recording.truth["threads"])
    rows = recording.rows(f"SELECT DISTINCT name FROM thread WHERE tid IN ({tids}) ORDER BY 1")
    # At level graph only those that call are seen.
    seen = case.threads if case.has("operator") else 1
    roles = [f"compute {place}" for place in range(seen)]
    assert rows == [(name,) for name in (roles if case.has("graph") else [case.program])]


def test_summary_line_counts_no_loss(recording: Recording) -> None:
    assert f"{recording.trace}: " in recording.stderr
    assert ", 0 lost (the target ended)" in recording.stderr
    assert "warning" not in recording.stderr
