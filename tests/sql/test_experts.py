"""Experts in tables and ready queries, against numbers worked out apart from SQL."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from profinfer.records.dtypes import EXPERTS_UNREAD, Kind
from tests.captures import BASE, MAIN, Capture, Shape, T
from tests.sql.harness import ask, opened, ready, rows

MS = 1_000_000
EXPERTS, USED, LAYERS = 6, 2, 2
EXPERT_BYTES = 4 * 8 * 8 * 2
"""Two f32 matrices of 8 by 8."""
BY_LAYER = "Distance, time and faults by layer, decode"

Ids = Sequence[Sequence[int]]


def routed(
    capture: Capture, at: int, tokens: int, last_tokens: int, *, backend: int = 0
) -> Shape:  # fmt: skip
    """A graph of two layers whose experts share their ids; fewer tokens come to the last one."""
    tensors: list[T] = []
    for layer, rows_ in ((0, tokens), (1, last_tokens)):
        ids = f"ffn_moe_topk-{layer}"
        tensors.append(T(ids, "VIEW", (), (USED, rows_, 1, 1)))
        for name in ("up", "down"):
            weight = f"blk.{layer}.ffn_{name}_exps.weight"
            tensors.append(T(weight, ne=(8, 8, EXPERTS, 1)))
            node = f"ffn_moe_{name}-{layer}"
            tensors.append(T(node, "MUL_MAT_ID", (weight, "x", ids), (8, USED, rows_, 1)))
        tensors.append(T(f"ffn_moe_weighted-{layer}", "MUL", (node, "w"), (8, USED, rows_, 1)))
    tensors += [T("x"), T("w")]
    return capture.structure(at, tensors, cgraph=0x9000 + 64 * tokens + backend, backend=backend)


class Recording:
    """A model of two layers, run by run."""

    def __init__(self) -> None:
        self.capture = Capture(level="operator", with_experts=True)
        self.shapes: dict[tuple[int, int], Shape] = {}
        self.at = 10 * MS

    def run(
        self, tokens: Sequence[tuple[int, int, int, int, int]], layers: Sequence[Ids | None],
        *, weights: Sequence[Sequence[Sequence[float]]] = (), durs: Sequence[int] = (1000, 1000),
        lost: Sequence[int] = (),
    ) -> None:  # fmt: skip
        """A ubatch; each layer's ids, None where none were sent, and ns of its two operators."""
        count = sum(run[2] for run in tokens)
        outputs = sum(run[3] for run in tokens)
        shape = self.shapes.get((count, outputs))
        if shape is None:
            shape = routed(self.capture, MS + 1000 * len(self.shapes), count, outputs)
            self.shapes[count, outputs] = shape
        at = self.at
        self.capture.ubatch(at, at + MS, tokens)
        operators: list[tuple[str, int]] = []
        for layer, ids in enumerate(layers):
            begin = at + 100 + 300_000 * layer
            dur = durs[layer]
            operators += [
                (f"ffn_moe_up-{layer}", begin),
                (f"ffn_moe_down-{layer}", begin + dur),
                (f"ffn_moe_weighted-{layer}", begin + 2 * dur),
            ]
            if ids is not None:
                self.capture.experts(shape, f"ffn_moe_up-{layer}", begin + 1, ids, lost=lost)
            if layer < len(weights):
                self.capture.experts(
                    shape, f"ffn_moe_weighted-{layer}", begin + 2 * dur + 1, weights[layer],
                    kind=Kind.EXPERT_WEIGHTS,
                )  # fmt: skip
        self.capture.graph(shape, at + 10, at + 900_000, {MAIN: operators})
        self.at += 2 * MS


def decode(position: int, sequence: int = 0) -> tuple[int, int, int, int, int]:
    return (sequence, position, 1, 1, 1)


def test_every_activation_has_its_token_and_phase() -> None:
    it = Recording()
    it.run([(0, 0, 3, 1, 1)], [[[5, 1], [0, 2], [3, 4]], [[2, 0]]])
    # The second sequence begins while the first is decoded.
    it.run([decode(3), (7, 0, 2, 1, 1)], [[[1, 2], [3, 4], [5, 0]], [[4, 1], [0, 3]]],
           weights=[[[0.75, 0.25], [0.5, 0.5], [1.0, 0.0]]])  # fmt: skip
    with opened(it.capture) as session:
        found = ask(
            session,
            "SELECT sequence, position, layer, rank, expert, weight, a.phase, complete"
            " FROM profinfer_expert_activation AS a JOIN profinfer_expert_token USING (token_id)"
            " ORDER BY token_id, layer, rank",
        )
        readings = ask(
            session,
            "SELECT ubatch_id, layer, run, phase, experts, used, tokens, complete, reason"
            " FROM profinfer_expert_reading",
        )
    pre, dec = "prefill", "decode"
    assert found == [
        (0, 0, 0, 0, 5, None, pre, 1), (0, 0, 0, 1, 1, None, pre, 1),
        (0, 1, 0, 0, 0, None, pre, 1), (0, 1, 0, 1, 2, None, pre, 1),
        (0, 2, 0, 0, 3, None, pre, 1), (0, 2, 0, 1, 4, None, pre, 1),
        (0, 2, 1, 0, 2, None, pre, 1), (0, 2, 1, 1, 0, None, pre, 1),
        (0, 3, 0, 0, 1, 0.75, dec, 1), (0, 3, 0, 1, 2, 0.25, dec, 1),
        (0, 3, 1, 0, 4, None, dec, 1), (0, 3, 1, 1, 1, None, dec, 1),
        (7, 0, 0, 0, 3, 0.5, pre, 1), (7, 0, 0, 1, 4, 0.5, pre, 1),
        (7, 1, 0, 0, 5, 1.0, pre, 1), (7, 1, 0, 1, 0, 0.0, pre, 1),
        (7, 1, 1, 0, 0, None, pre, 1), (7, 1, 1, 1, 3, None, pre, 1),
    ]  # fmt: skip
    assert readings == [
        (1, 0, 1, pre, 6, 2, 3, 1, None), (1, 1, 1, pre, 6, 2, 1, 1, None),
        (2, 0, 2, None, 6, 2, 3, 1, None), (2, 1, 2, None, 6, 2, 2, 1, None),
    ]  # fmt: skip


def test_tokens_that_cannot_be_told_are_left_open() -> None:
    """Two of a run's three tokens go on to the last layer, and it is not known which."""
    it = Recording()
    it.run([(0, 0, 3, 2, 1)], [[[5, 1], [0, 2], [3, 4]], [[2, 0], [1, 3]]])
    with opened(it.capture) as session:
        found = ask(
            session,
            "SELECT layer, token_id, expert FROM profinfer_expert_activation ORDER BY layer, rank",
        )
    assert [(token, expert) for layer, token, expert in found if layer == 1] == [
        (None, 2), (None, 1), (None, 0), (None, 3),
    ]  # fmt: skip
    assert [token for layer, token, _ in found if layer == 0] == [0, 1, 2, 0, 1, 2]


def test_long_readings_come_in_several_records_and_a_lost_one_is_a_gap() -> None:
    rng = np.random.default_rng(3)
    prompt = rng.integers(0, EXPERTS, (97, USED)).tolist()  # 194 ids: four records
    for lost in ((), (1,), (3,), (0, 1, 2, 3)):
        it = Recording()
        it.run([(0, 0, 97, 1, 1)], [prompt, [[1, 2]]], lost=lost)
        with opened(it.capture) as session:
            found = ask(
                session,
                "SELECT expert FROM profinfer_expert_activation WHERE layer = 0"
                " ORDER BY token_id, rank",
            )
            [(complete, reason)] = ask(
                session, "SELECT complete, reason FROM profinfer_expert_reading WHERE layer = 0"
            )
        wanted = [
            None if i // 64 in lost else expert
            for i, expert in enumerate(itertools.chain.from_iterable(prompt))
        ]
        whole_loss = len(lost) == 4
        assert [expert for (expert,) in found] == ([] if whole_loss else wanted)
        assert (complete, reason) == (int(not lost), "lost" if whole_loss else None)


def test_what_was_not_read_has_a_reason() -> None:
    capture = Capture(level="operator", with_experts=True, backends={0x77: "Vulkan0"})
    shapes = [routed(capture, MS + i, 3, 1, backend=b) for i, b in enumerate((0, 0x77, 0))]
    for i, shape in enumerate(shapes):
        begin = 10 * MS * (i + 1)
        capture.graph(shape, begin, begin + MS, {}, backend=0x77 if i == 1 else 0)
    up = "ffn_moe_up-0"
    capture.experts(shapes[2], up, 30 * MS + 500, [[1, 2]], flags=EXPERTS_UNREAD)
    with opened(capture) as session:
        found = ask(
            session,
            "SELECT graph_id, layer, experts, used, tokens, complete, reason"
            " FROM profinfer_expert_reading ORDER BY graph_id, layer",
        )
        [table] = [t for title, t in ready(session, "experts").items() if "without" in title]
        warnings = ask(session, "SELECT message FROM profinfer_recording_warning")
    device = "on a device: Vulkan0"
    unread = "not in memory that can be read"
    assert found == [
        (1, 0, 6, 2, 3, 0, "lost"), (1, 1, 6, 2, 1, 0, "lost"),
        (2, 0, 6, 2, 3, 0, device), (2, 1, 6, 2, 1, 0, device),
        (3, 0, 6, 2, 3, 0, unread), (3, 1, 6, 2, 1, 0, "lost"),
    ]  # fmt: skip
    assert sorted(rows(table, "reason", "readings", "layers", "tokens"), key=str) == [
        ("lost", 3, 2, 5), (unread, 1, 1, 3), (device, 2, 2, 4),
    ]  # fmt: skip
    assert any(device in str(message) for (message,) in warnings)


def test_records_of_a_graph_whose_beginning_was_lost_are_incomplete() -> None:
    it = Recording()
    it.run([decode(4)], [[[5, 1]], [[2, 0]]])
    it.run([decode(5)], [[[1, 3]], [[4, 0]]])
    first = min(row.ts for row in it.capture.records if row.kind == Kind.GRAPH_BEGIN)
    it.capture.lose(lambda row: row.ts == first)
    with opened(it.capture) as session:
        found = ask(
            session,
            "SELECT r.graph_id, a.layer, a.expert, a.complete FROM profinfer_expert_activation AS a"
            " JOIN profinfer_expert_reading AS r USING (reading_id) ORDER BY reading_id, rank",
        )
    assert found == [
        (None, None, 5, 0), (None, None, 1, 0), (None, None, 2, 0), (None, None, 0, 0),
        (1, 0, 1, 1), (1, 0, 3, 1), (1, 1, 4, 1), (1, 1, 0, 1),
    ]  # fmt: skip


# ---- Ready queries


@pytest.fixture(scope="module", name="random_runs")
def random_runs_fixture() -> list[tuple[int, list[Ids]]]:
    """Tokens and each layer's ids of a hundred runs."""
    rng = np.random.default_rng(11)
    chances = [rng.dirichlet(np.full(EXPERTS, 0.7)) for _ in range(LAYERS)]

    def ids(layer: int, tokens: int) -> list[list[int]]:
        return [
            rng.choice(EXPERTS, USED, replace=False, p=chances[layer]).tolist()
            for _ in range(tokens)
        ]

    return [(n, [ids(0, n), ids(1, 1)]) for n in (5, 4, *([1] * 98))]


@pytest.fixture(scope="module", name="durs")
def durs_fixture() -> list[tuple[int, int]]:
    rng = np.random.default_rng(12)
    return [(int(a), int(b)) for a, b in rng.integers(1_000, 100_000, (100, 2))]


@pytest.fixture(scope="module", name="tables")
def tables_fixture(
    random_runs: list[tuple[int, list[Ids]]], durs: list[tuple[int, int]]
) -> Iterator[dict[str, dict[str, list[dict[str, object]]]]]:
    it = Recording()
    position = 0
    for (tokens, layers), dur in zip(random_runs, durs, strict=True):
        if tokens > 1:  # a sequence of its own, and then that of the tokens after it
            position = tokens
            it.run([(0, 0, tokens, 1, 1)], layers, durs=dur)
        else:
            it.run([decode(position)], layers, durs=dur)
            position += 1
    with opened(it.capture) as session:
        yield {name: ready(session, name) for name in ("experts", "expert_reuse", "expert_cache")}


def phases(runs: list[tuple[int, list[Ids]]], layer: int, phase: str) -> list[int]:
    """All ids of a layer in a phase."""
    return [
        expert
        for tokens, layers in runs
        if (tokens == 1) == (phase == "decode")
        for row in layers[layer]
        for expert in row
    ]


def test_shares_skew_and_entropy(
    random_runs: list[tuple[int, list[Ids]]],
    tables: dict[str, dict[str, list[dict[str, object]]]],
) -> None:
    table = tables["experts"]["Experts by layer and phase"]
    expected = []
    for layer, phase in itertools.product(range(LAYERS), ("decode", "prefill")):
        counts = Counter(phases(random_runs, layer, phase))
        total = sum(counts.values())
        shares = [n / total for n in counts.values()]
        entropy = -sum(s * math.log2(s) for s in shares)
        expected.append(
            (layer, phase, EXPERTS, USED, total // USED, len(counts),
             round(100 * max(shares), 1), round(max(shares) * EXPERTS, 2), round(entropy, 3),
             round(100 * entropy / math.log2(EXPERTS), 1), None, 0)
        )  # fmt: skip
    assert [tuple(row.values()) for row in table] == [pytest.approx(row) for row in expected]


def uses(runs: list[tuple[int, list[Ids]]], layer: int) -> list[tuple[str, set[int], list[int]]]:
    """Phase, experts and ids of each run of a layer."""
    found = []
    for tokens, layers in runs:
        ids = [e for row in layers[layer] for e in row]
        found.append(("decode" if tokens == 1 else "prefill", set(ids), ids))
    return found


def test_reuse_distance_and_its_correlation_with_time(
    random_runs: list[tuple[int, list[Ids]]], durs: list[tuple[int, int]],
    tables: dict[str, dict[str, list[dict[str, object]]]],
) -> None:  # fmt: skip
    points: list[tuple[float, float]] = []
    by_distance: Counter[int | None] = Counter()
    for layer in range(LAYERS):
        last: dict[int, int] = {}
        for run, (phase, experts, _) in enumerate(uses(random_runs, layer)):
            distances = [run - last[e] for e in experts if e in last]
            if phase == "decode":
                by_distance.update(run - last[e] if e in last else None for e in experts)
                # From up to down one duration; down ends where the next operator begins.
                points.append((float(np.mean(distances)), 2 * durs[run][layer] / 1e3))
            last |= dict.fromkeys(experts, run)
    x, y = np.array(points).T
    first, *_ = tables["expert_reuse"][BY_LAYER]
    assert first["layer"] == "all"
    assert first["runs"] == len(points)
    assert first["mean_distance"] == pytest.approx(x.mean(), abs=0.006)
    assert first["mean_us"] == pytest.approx(y.mean(), abs=0.06)
    assert first["correlation"] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=0.0006)
    unasked = ("major_faults", "minor_faults", "faults_correlation")
    for table in tables["expert_reuse"].values():
        assert all(row.get(column) is None for row in table for column in unasked)
    found = {
        row["up_to"]: row["uses"] for row in tables["expert_reuse"]["Uses by distance, decode"]
    }
    expected: Counter[int | None] = Counter()
    for distance, n in by_distance.items():
        small = distance is None or distance <= 8
        expected[distance if small else 1 << math.ceil(math.log2(distance or 1))] += n
    assert found == expected


def faulty() -> Recording:
    """Four runs and the faults of their operators; the second to the fourth are decoded.

    Distances are 1, 2, 3 in layer 0, and 1, 1, never in layer 1.
    """
    it = Recording()
    it.capture.at_start = {"config": {**it.capture.start()["config"], "faults": True}}
    starts = [it.at + 2 * MS * run + 100 for run in range(4)]
    it.run([(0, 0, 3, 1, 1)], [[[5, 1], [0, 2], [3, 4]], [[2, 0]]])
    it.run([decode(3)], [[[1, 2]], [[2, 0]]])
    it.run([decode(4)], [[[3, 4]], [[0, 2]]])
    it.run([decode(5)], [[[5, 0]], [[1, 3]]])
    up, down, weighted, layer = 500, 1_500, 2_500, 300_000
    for run, after, major in (
        (0, up, 1),
        (1, layer + up, 0), (1, weighted, 1),  # not of an operator that takes ids
        (2, up, 1), (2, up + 9, 0), (2, down, 1), (2, layer + down, 1),
        (3, down, 1), (3, down + 1, 1), (3, down + 2, 1), (3, down + 3, 1), (3, -95, 1),
    ):  # fmt: skip
        it.capture.add(Kind.FAULT, starts[run] + after, MAIN, 0x5000, major)
    return it


def test_faults_stand_next_to_distances() -> None:
    with opened(faulty().capture) as session:
        tables = ready(session, "expert_reuse")
        runs = ask(
            session,
            "SELECT graph_id, layer, mean_distance, major_faults, minor_faults"
            " FROM profinfer_expert_reuse ORDER BY graph_id, layer",
        )
    assert runs == [
        (1, 0, None, 1, 0), (1, 1, None, 0, 0),
        (2, 0, 1, 0, 0), (2, 1, 1, 0, 1),
        (3, 0, 2, 2, 1), (3, 1, 1, 1, 0),
        (4, 0, 3, 4, 0), (4, 1, None, 0, 0),
    ]  # fmt: skip
    # (1, 0), (2, 2), (3, 4) are on a line; with (1, 0), (1, 1) 1.16 / sqrt(0.64 * 2.24). Where all
    # distances are alike there is no correlation.
    assert rows(
        tables[BY_LAYER],
        "layer",
        "major_faults",
        "minor_faults",
        "faults_correlation",
        "incomplete",
    ) == [("all", 7, 2, 0.969, 0), ("0", 6, 1, 1.0, 0), ("1", 1, 1, None, 0)]
    found = rows(
        tables["Time and faults by operator and distance, decode"],
        "name", "runs", "mean_distance", "major_faults", "minor_faults",
    )  # fmt: skip
    assert sorted(found, key=str) == [
        ("ffn_moe_down-0", 3, 2.0, 5, 0), ("ffn_moe_down-1", 3, 1.0, 1, 0),
        ("ffn_moe_up-0", 3, 2.0, 1, 1), ("ffn_moe_up-1", 3, 1.0, 0, 1),
    ]  # fmt: skip
    [worst] = [
        row for row in tables["Longest runs (the first 20), decode"] if row["major_faults"] == 4
    ]
    assert (worst["layer"], worst["position"], worst["minor_faults"]) == (0, 5, 0)


def test_faults_are_not_claimed_where_records_of_them_may_be_lost() -> None:
    """The third graph's last fault is lost, of which is known that it was not later."""
    it = faulty()
    lost = max(r.ts for r in it.capture.records if r.kind == Kind.FAULT and r.ts < BASE + 15 * MS)
    it.capture.lose(lambda row: row.kind == Kind.FAULT and row.ts == lost)
    with opened(it.capture) as session:
        runs = ask(
            session,
            "SELECT graph_id, layer, complete, major_faults, minor_faults"
            " FROM profinfer_expert_reuse ORDER BY graph_id, layer",
        )
        first, *_ = ready(session, "expert_reuse")[BY_LAYER]
    assert runs == [
        *((graph, layer, 1, None, None) for graph in (1, 2, 3) for layer in (0, 1)),
        (4, 0, 1, 4, 0), (4, 1, 1, 0, 0),
    ]  # fmt: skip
    assert (first["runs"], first["major_faults"], first["incomplete"]) == (6, 4, 1)


def test_hit_curves_are_those_of_simulated_caches(
    random_runs: list[tuple[int, list[Ids]]],
    tables: dict[str, dict[str, list[dict[str, object]]]],
) -> None:
    table = tables["expert_cache"]["Hits by experts cached per layer"]
    expected = []
    for phase, size in itertools.product(("decode", "prefill"), range(1, EXPERTS + 1)):
        hits, total = Counter[str](), 0
        for layer in range(LAYERS):
            order: list[int] = []
            counts: Counter[int] = Counter()
            for run_phase, experts, ids in uses(random_runs, layer):
                if run_phase == phase:
                    total += len(experts)
                    for e in experts:
                        more = sum(n > counts[e] for n in counts.values())
                        same = sum(n == counts[e] for n in counts.values())
                        hits["lru"] += e in order[:size]
                        hits["least"] += counts[e] > 0 and more + same <= size
                        hits["most"] += counts[e] > 0 and more < size
                # A run of one token at the last layer is by rank, whatever its phase.
                latest = ids if len(ids) == USED else sorted(experts)
                order = [*latest, *(e for e in order if e not in experts)]
                counts.update(experts)
        expected.append(
            (phase, size, round(100 * size / EXPERTS, 1),
             round(size * LAYERS * EXPERT_BYTES / 2**20, 2), total,
             *(round(100 * hits[name] / total, 1) for name in ("lru", "least", "most")), 0)
        )  # fmt: skip
    assert [tuple(row.values()) for row in table] == [
        pytest.approx(row, abs=0.051) for row in expected
    ]
