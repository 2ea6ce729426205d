"""Every expert that a real engine's routers choose is in the trace: for each token, layer, rank."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from profinfer.records.capture import FrameKind, read_capture
from profinfer.records.dtypes import EXPERT_VALUES, WIDE_HEADER, WIDE_SIZE, Kind
from tests.conftest import REPO, require
from tests.experts.truth import (
    Batches,
    Place,
    Truth,
    ask,
    command,
    library,
    number_tokens,
)
from tests.recorder.recording import attached, convert, make_plan
from tests.recording.helpers import BAD_STATS, PROFINFER, Rows, number, record, rows
from tests.support import (
    ENGINE_ONLY,
    family,
    first_line,
    is_running,
    pairs,
    require_recording,
    wait_for,
)

EXPERTS = "INCLUDE PERFETTO MODULE profinfer.experts.activations"
PRIME = 61
MEANS: tuple[list[str], ...] = (
    ["--probes", "recording"],
    ["--transport", "perf"],
    ["--loader", "bcc"],
    ["--loader", "bcc", "--transport", "perf"],
)

BATCHES = number_tokens(
    [
        [(p, 0) for p in range(PRIME)],
        # Several sequences, which do not come to the engine one after another.
        [*((p // 2, 1 + p % 2) for p in range(14)), (PRIME, 0)],
        *([(PRIME + 1 + i, 0), (7 + i, 1), (7 + i, 2)] for i in range(5)),
        *([(PRIME + 6 + i, 0)] for i in range(3)),
    ]
)


@pytest.fixture(scope="module", autouse=True)
def _recording() -> None:
    require_recording()


def recorded(
    trace: Path, name: str, batches: Batches, options: Sequence[object], *engine: object
) -> None:
    record(trace, ["--experts", *options], command(name, batches, *engine))


def activations(trace: Path) -> tuple[dict[Place, int], Rows]:
    """Those that the trace has whole; the others."""
    _, found, stats = rows(
        trace, EXPERTS,
        "SELECT sequence, position, layer, rank, expert, a.complete"
        " FROM profinfer_expert_activation AS a LEFT JOIN profinfer_expert_token USING (token_id)",
        BAD_STATS,
    )  # fmt: skip
    assert stats == []
    result: dict[Place, int] = {}
    rest: Rows = []
    for row in found:
        if row[5]:
            sequence, position, layer, rank, expert = map(number, row[:5])
            assert (sequence, position, layer, rank) not in result
            result[sequence, position, layer, rank] = expert
        else:
            rest.append(row)
    return result, rest


@pytest.fixture(scope="module")
def truths() -> dict[str, Truth]:
    return {}


def truth_of(truths: dict[str, Truth], name: str) -> Truth:
    if name not in truths:
        truths[name] = ask(name, BATCHES)
    return truths[name]


@pytest.mark.parametrize("options", MEANS, ids=" ".join)
def test_activations_are_those_the_engine_sees(
    tmp_path: Path, truths: dict[str, Truth], options: list[str]
) -> None:
    truth = truth_of(truths, "60x4")
    recorded(tmp_path / "t.pftrace", "60x4", BATCHES, options)
    assert activations(tmp_path / "t.pftrace") == (truth.ids, [])


@pytest.mark.parametrize("name", ["128x8", "shared"])
def test_other_mixtures(tmp_path: Path, truths: dict[str, Truth], name: str) -> None:
    truth = truth_of(truths, name)
    used = {"128x8": 8, "shared": 4}[name]
    assert {rank for _, _, _, rank in truth.ids} == set(range(used))
    assert len(set(truth.ids.values())) > used * 4  # routing varies
    recorded(tmp_path / "t.pftrace", name, BATCHES, [])
    assert activations(tmp_path / "t.pftrace") == (truth.ids, [])


def test_ubatches_of_a_batch_are_told_apart(tmp_path: Path) -> None:
    truth = ask("60x4", BATCHES, "--ubatch", 16)
    recorded(tmp_path / "t.pftrace", "60x4", BATCHES, [], "--ubatch", 16)
    assert activations(tmp_path / "t.pftrace") == (truth.ids, [])


@pytest.fixture(scope="module", name="weighted")
def weighted_fixture(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A recording with weights by the usual means: trace and raw capture."""
    folder = tmp_path_factory.mktemp("weighted")
    trace, raw = folder / "t.pftrace", folder / "t.raw"
    record(trace, ["--expert-weights", "--raw", raw], command("60x4", BATCHES))
    return trace, raw


def test_weights_are_those_the_engine_sees(
    weighted: tuple[Path, Path], truths: dict[str, Truth]
) -> None:
    truth = truth_of(truths, "60x4")
    trace, _ = weighted
    assert activations(trace) == (truth.ids, [])
    _, found = rows(
        trace, EXPERTS,
        "SELECT sequence, position, layer, rank, expert, weight FROM profinfer_expert_activation"
        " JOIN profinfer_expert_token USING (token_id)",
    )  # fmt: skip
    assert {tuple(row[:4]): row[4] for row in found} == truth.ids
    # JSON has more digits than a float: both are exactly its value.
    assert {tuple(row[:4]): row[5] for row in found} == truth.weights


def test_stubs_that_record_leave_these_operators_to_a_probe(
    weighted: tuple[Path, Path], tmp_path: Path, truths: dict[str, Truth]
) -> None:
    """And begin and end with the iterations asked for: the second batch, which takes two, and three
    more."""
    trace, first, last = tmp_path / "t.pftrace", 1, 5
    options = ["--expert-weights", "--iterations", f"{first}-{last}", "--probes", "recording"]
    record(trace, options, command("60x4", BATCHES))
    within = {(sequence, p) for batch in BATCHES[1:5] for _, p, sequence in batch}
    truth = truth_of(truths, "60x4")
    ids = {place: expert for place, expert in truth.ids.items() if place[:2] in within}
    weights = {place: weight for place, weight in truth.weights.items() if place[:2] in within}
    assert activations(trace) == (ids, [])
    operators = (
        "INCLUDE PERFETTO MODULE profinfer.operators.slices;"
        " SELECT k.name, k.op, count() FROM profinfer_operator_slice AS s JOIN _operator_kind AS k"
        " USING (arg_set_id) WHERE s.ts BETWEEN {} AND {} GROUP BY 1, 2 ORDER BY 1, 2"
    )
    found = []
    for each, skipped in ((trace, 0), (weighted[0], first)):
        [ubatches] = rows(
            each, "SELECT ts, ts + dur FROM slice WHERE category = 'ubatch' ORDER BY ts"
        )
        asked = ubatches[skipped : skipped + last - first + 1]
        found += rows(each, operators.format(asked[0][0], asked[-1][1]))
    assert found[0] == found[1]
    everything, _, values, hits = rows(
        trace, "SELECT count() FROM slice WHERE category = 'operator'", EXPERTS,
        "SELECT sequence, position, layer, rank, weight FROM profinfer_expert_activation"
        " JOIN profinfer_expert_token USING (token_id)",
        "INCLUDE PERFETTO MODULE profinfer.recording.handlers;"
        " SELECT via, hits FROM profinfer_handler WHERE handler = 'on_operator' ORDER BY via",
    )  # fmt: skip
    assert everything == [(sum(number(count) for _, _, count in found[0]),)]
    assert {tuple(row[:4]): row[4] for row in values} == weights
    probed = sum(number(count) for _, op, count in found[0] if op in ("MUL_MAT_ID", "MUL"))
    assert pairs(hits)["stub"] == probed > 0


def test_each_layer_is_read_once_per_graph(
    weighted: tuple[Path, Path], truths: dict[str, Truth]
) -> None:
    truth = truth_of(truths, "60x4")
    trace, raw = weighted
    assert kinds(raw)[Kind.EXPERTS] == truth.records(EXPERT_VALUES)
    _, found = rows(
        trace, EXPERTS, "SELECT layer, tokens, used FROM profinfer_expert_reading ORDER BY ts"
    )
    assert found == truth.readings


@pytest.mark.parametrize("transport", ["ring", "perf"])
def test_the_recorder_in_c_passes_them_on(
    tmp_path: Path, truths: dict[str, Truth], transport: str
) -> None:
    """The engine has begun when it is attached."""
    recorder = REPO / f"build/{platform.machine()}/profinfer-recorder"
    require(f"the recorder {recorder.relative_to(REPO)}", recorder.exists())
    plan = make_plan(library(), tmp_path / "plan.json")
    raw = tmp_path / "t.raw"
    with subprocess.Popen(
        command("60x4", BATCHES, "--wait"), stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as engine:
        assert engine.stderr
        assert engine.stderr.readline() == "ready\n"
        options = ("--expert-weights", "--transport", transport)
        with attached(recorder, plan, engine.pid, raw, *options) as recording:
            engine.communicate("go\n", timeout=60)
            said = recording.finish()
    assert recording.code == 0, said
    truth = truth_of(truths, "60x4")
    assert activations(convert(raw)) == (truth.ids, [])


def test_what_was_lost_is_counted_and_marked(tmp_path: Path) -> None:
    """A ring that holds the structure and some of the records, and is not emptied."""
    batches = number_tokens([[(p, s) for p in range(83)] for s in range(4)])
    long = list(batches)
    for again in range(1, 20):
        long += [[[t, p + 83 * again, s] for t, p, s in batch] for batch in batches]
    wide = ("--context", 8192)
    raw = tmp_path / "t.raw"
    options = ["--experts", "--raw", raw, "--structure-ring-size", "256K", "--ring-size", "64M"]
    # It waits until the recorder stands, so that nothing is drained before.
    with subprocess.Popen(
        command("128x8", long, "--wait", *wide), stdin=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as engine:  # fmt: skip
        assert engine.stderr
        assert engine.stderr.readline() == "ready\n"
        recording = subprocess.Popen(
            [*PROFINFER, "record", *ENGINE_ONLY, "-o", str(tmp_path / "t.pftrace"),
             *map(str, options), "--pid", str(engine.pid)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        first_line(recording)
        recorder = family(recording.pid)["profinfer-rec"]
        os.kill(recorder, signal.SIGSTOP)
        wait_for("the recorder to stand", lambda: not is_running(recorder))
        engine.communicate("go\n", timeout=120)
        os.kill(recorder, signal.SIGCONT)
    _, said = recording.communicate(timeout=60)
    assert recording.returncode == 0, said
    truth = subprocess.run(
        command("128x8", long, "--dump", *wide),
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    readings = [r for r in map(json.loads, truth.stdout.splitlines()) if "ids" in r]
    _, [[lost]], found, values, graphs = rows(
        tmp_path / "t.pftrace", EXPERTS,
        "SELECT coalesce(sum(lost), 0) FROM profinfer_loss WHERE kind = 'experts'",
        "SELECT reading_id, layer, tokens, complete, reason, graph_id"
        " FROM profinfer_expert_reading",
        # As they stand in the trace: of some of them the token is not known.
        "SELECT reading_id, expert FROM profinfer_expert_activation",
        "SELECT graph_id, structure_id FROM profinfer_graph ORDER BY graph_id",
    )  # fmt: skip
    expected = sum(-(-len(r["ids"]) * len(r["ids"][0]) // EXPERT_VALUES) for r in readings)
    assert 0 < number(lost) < expected
    assert kinds(raw)[Kind.EXPERTS] + number(lost) == expected
    # No graph's bounds were lost, so that they are those of the engine in their order.
    layers = 3
    assert [graph for graph, _ in graphs] == list(range(1, len(readings) // layers + 1))
    known = {graph for graph, structure in graphs if structure is not None}
    listed = {(graph, layer) for _, layer, _, _, _, graph in found if graph in known}
    assert listed == {(graph, layer) for graph in known for layer in range(layers)}
    by_reading: dict[object, list[object]] = {}
    for reading, expert in values:
        by_reading.setdefault(reading, []).append(expert)
    whole = 0
    for reading, layer, tokens, complete, reason, graph in found:
        got = by_reading.get(reading, [])
        if graph not in known:
            assert complete == 0
            continue
        right = readings[layers * (number(graph) - 1) + number(layer)]
        wanted = [expert for row in right["ids"] for expert in row]
        assert (right["layer"], len(right["ids"])) == (layer, tokens)
        if reason is not None:
            assert (reason, got, complete) == ("lost", [], 0)
            continue
        assert len(got) == len(wanted)
        assert all(g in (None, w) for g, w in zip(got, wanted, strict=True))
        assert not complete or None not in got
        whole += got == wanted
    assert 0 < whole < len(readings)


def test_without_the_switch_nothing_is_read(tmp_path: Path) -> None:
    raw = tmp_path / "t.raw"
    record(tmp_path / "t.pftrace", ["--raw", raw], command("60x4", BATCHES[:1]))
    assert kinds(raw)[Kind.TENSOR] > 0
    assert kinds(raw)[Kind.EXPERTS] == 0
    _, found = rows(tmp_path / "t.pftrace", EXPERTS, "SELECT count() FROM profinfer_expert_reading")
    assert found == [(0,)]


def kinds(raw: Path) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Wide records of a capture by kind."""
    data = b"".join(f.data for f in read_capture(raw) if f.kind == FrameKind.WIDE)
    headers = np.frombuffer(data, np.uint8).reshape(-1, WIDE_SIZE)[:, : WIDE_HEADER.itemsize]
    return np.bincount(np.ascontiguousarray(headers).view(WIDE_HEADER)["kind"][:, 0], minlength=32)
