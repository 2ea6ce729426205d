"""What is recorded of a known schedule equals what the engine counted itself."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest

from tests.recording.helpers import (
    BAD_STATS,
    LAST_WAITS,
    Rows,
    Truth,
    assert_matches,
    ending,
    number,
    record,
    rows,
    truths,
)

LEVELS = ("token", "graph", "operator", "barrier")
LAYERS, THREADS = 5, 3
SCHEDULE = ("--threads", THREADS, "--layers", LAYERS, "--prompt", 17, "--decode", 7, "--ubatch", 5)


def layer(i: int) -> list[tuple[str, str]]:
    """Names and ops of a layer's nodes."""
    return [
        (f"norm-{i}", "RMS_NORM"),
        (f"attn_norm-{i}", "MUL"),
        (f"Qcur-{i}", "MUL_MAT"),
        (f"Qcur-{i} (reshaped)", "RESHAPE"),
        (f"cache_v_l{i} (view)", "VIEW"),
        (f"cache_v_l{i} (view) (reshaped)", "RESHAPE"),
        (f"cache_k_l{i} (view)", "VIEW"),
        (f"cache_k_l{i} (view) (reshaped)", "RESHAPE"),
        (f"kq-{i}", "MUL_MAT"),
        (f"kqv-{i}", "MUL_MAT"),
        (f"attn_out-{i}", "MUL_MAT"),
        (f"ffn_inp-{i}", "ADD"),
        (f"norm-{i}", "RMS_NORM"),
        (f"ffn_norm-{i}", "MUL"),
        (f"ffn_gate-{i}", "MUL_MAT"),
        (f"ffn_silu-{i}", "SILU"),
        (f"ffn_out-{i}", "MUL_MAT"),
        (f"l_out-{i}", "ADD"),
    ]


def nodes(layers: int) -> list[tuple[str, str]]:
    """Names and ops of a CPU graph's nodes."""
    last = [(f"norm-{layers}", "RMS_NORM"), ("result_norm", "MUL"), ("result_output", "MUL_MAT")]
    return [node for i in range(layers) for node in layer(i)] + last


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("program", ["known", "known-dl"])
def test_every_level_shows_each_call_on_its_thread_and_nothing_else(
    program: str, level: str, built: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "t.pftrace"
    done = record(trace, ["--level", level], [built / program, *SCHEDULE])
    [truth] = truths(done.stdout)
    assert_matches(trace, truth, level)
    end = ending(trace)
    assert end["reason"] == "the target ended"
    assert (end["unattributed"], end["command_status"]) == ("0", "0")


@pytest.mark.parametrize("options", [(), ("--final-barrier",)])
def test_the_last_node_has_a_wait_only_with_a_final_barrier(
    options: tuple[str, ...], built: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "t.pftrace"
    done = record(
        trace, ["--level", "barrier"], [built / "known", *SCHEDULE, "--no-fused", *options]
    )
    [truth] = truths(done.stdout)
    assert truth["calls"]["ggml_compute_forward_rms_norm_mul_fused"] == 0
    assert_matches(trace, truth, "barrier")
    [[(waits,)]] = rows(trace, LAST_WAITS)
    assert waits == (truth["calls"]["ggml_graph_compute"] * THREADS if options else 0)


def test_a_second_backend_has_its_own_lane_and_graphs(built: Path, tmp_path: Path) -> None:
    trace = tmp_path / "t.pftrace"
    done = record(trace, ["--level", "barrier"], [built / "known", *SCHEDULE, "--backend2"])
    [truth] = truths(done.stdout)
    assert_matches(trace, truth, "barrier")
    _, lanes, graphs, fake = rows(
        trace,
        "INCLUDE PERFETTO MODULE profinfer.graphs.runs; "
        "INCLUDE PERFETTO MODULE profinfer.graphs.tensors;",
        "SELECT track.name, slice.name, count() FROM slice JOIN track ON track_id = track.id"
        " WHERE category = 'backend' GROUP BY 1, 2 ORDER BY 1",
        "SELECT backend, s.node_count, thread_count FROM profinfer_graph AS g"
        " LEFT JOIN profinfer_structure AS s USING (structure_id) ORDER BY graph_id",
        "SELECT DISTINCT node, t.name, t.op FROM profinfer_graph"
        " JOIN profinfer_node USING (structure_id) JOIN profinfer_tensor AS t USING (tensor_id)"
        " WHERE backend != 'CPU' ORDER BY node",
    )
    # A backend is named after its get_name function, which is not called: no device number.
    names = {"CPU": "CPU", "Fake0": "fake"}
    count = truth["calls"]["ggml_graph_compute"]
    assert lanes == [("CPU", "graph CPU", count), ("fake", "graph fake", count)]
    assert graphs == [(names[g[1]], g[2], THREADS if g[1] == "CPU" else 1) for g in truth["graphs"]]
    assert fake == [(0, "fake_add", "ADD"), (1, "fake_out", "SILU")]


def test_tokens_of_several_sequences_are_counted_by_sequence_and_phase(
    built: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "t.pftrace"
    prompt, decode, sequences = 13, 11, 3
    command = ["--prompt", prompt, "--decode", decode, "--sequences", sequences, "--ubatch", 2]
    done = record(trace, ["--level", "token"], [built / "known", *command, "--layers", 1])
    [truth] = truths(done.stdout)
    assert_matches(trace, truth, "token")
    _, phases, ubatches, requests = rows(
        trace,
        "INCLUDE PERFETTO MODULE profinfer.tokens.requests; "
        "INCLUDE PERFETTO MODULE profinfer.graphs.runs;",
        "SELECT sequence, phase, sum(tokens), min(position), max(position + tokens), sum(outputs)"
        " FROM profinfer_sequence GROUP BY 1, 2 ORDER BY 1, 2 DESC",
        "SELECT phase, tokens FROM profinfer_ubatch ORDER BY ubatch_id",
        "SELECT sequence, prompt_tokens, verified_tokens, complete FROM profinfer_request"
        " ORDER BY 1",
    )
    end = prompt + decode
    assert phases == [
        row
        for s in range(sequences)
        for row in (
            (s, "prefill", prompt, 0, prompt, 1),
            (s, "decode", decode, prompt, end, decode),
        )
    ]
    prefills = truth["ubatches"]["prefill"]
    assert ubatches == [("prefill" if g[0] < prefills else "decode", g[6]) for g in truth["graphs"]]
    assert requests == [(s, prompt, decode, 1) for s in range(sequences)]


def test_structures_have_the_nodes_that_ran_with_the_shapes_of_that_run(
    built: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "t.pftrace"
    done = record(trace, ["--level", "graph"], [built / "known", *SCHEDULE])
    [truth] = truths(done.stdout)
    _, graphs, found, shapes = rows(
        trace,
        "INCLUDE PERFETTO MODULE profinfer.graphs.runs; "
        "INCLUDE PERFETTO MODULE profinfer.graphs.tensors;",
        "SELECT structure_id FROM profinfer_graph ORDER BY graph_id",
        "SELECT structure_id, t.name, t.op FROM profinfer_node"
        " JOIN profinfer_tensor AS t USING (tensor_id) ORDER BY structure_id, node",
        "SELECT structure_id, ne0, ne1 FROM profinfer_node"
        " JOIN profinfer_tensor AS t USING (tensor_id) WHERE t.name = 'kq-2'",
    )
    by_structure: dict[int, list[tuple[object, object]]] = {}
    for structure, name, op in found:
        by_structure.setdefault(number(structure), []).append((name, op))
    assert len(by_structure) > 2
    assert all(listed == nodes(LAYERS) for listed in by_structure.values())
    shape = {structure: (tokens, kv) for structure, kv, tokens in shapes}
    assert [shape[s] for (s,) in graphs] == [(g[6], g[7]) for g in truth["graphs"]]


def check_sampled(truth: Truth, slices: Rows, work_ns: int) -> list[int]:
    """Compares the slices of the first graph with the engine's stamps; how late each begins."""
    late = []
    for k, thread in enumerate(truth["threads"]):
        samples = [s for s in truth["samples"] if s[0] == thread["tid"]]
        mine = [s for s in slices if s[0] == thread["tid"]]
        assert len(mine) == len(samples) == 11 * LAYERS + 2
        following = [*(s[2] for s in samples[1:]), None]
        work = work_ns * (k + 1)
        for row, sample, after in zip(mine, samples, following, strict=True):
            begin, dur = number(row[1]), number(row[2])
            _, _, start, entry, inner, *_ = sample
            assert start <= begin <= (inner - work // 2 if inner else entry - work)
            assert dur >= work
            if after is not None:  # there is a barrier after every node but the last
                assert entry <= number(row[3]) <= after <= begin + dur
            late.append(begin - start)
    return late


def test_slices_begin_and_last_as_the_engine_measured(built: Path, tmp_path: Path) -> None:
    trace, work_us = tmp_path / "t.pftrace", 97
    options = ("--work-us", work_us, "--samples", 1)
    done = record(trace, ["--level", "barrier"], [built / "known", *SCHEDULE, *options])
    [truth] = truths(done.stdout)
    assert_matches(trace, truth, "barrier")
    _, slices, inside = rows(
        trace,
        "INCLUDE PERFETTO MODULE profinfer.operators.runs;",
        "SELECT tid, o.ts, o.dur, w.ts FROM profinfer_operator_slice AS o"
        " JOIN thread USING (utid) LEFT JOIN slice AS w"
        " ON w.parent_id = o.id AND w.category = 'barrier' WHERE graph_id = 1 ORDER BY o.ts",
        "SELECT tid, i.ts FROM slice AS i JOIN profinfer_operator_slice AS o"
        " ON i.parent_id = o.id JOIN thread USING (utid)"
        " WHERE i.category = 'barrier.inside' AND graph_id = 1 ORDER BY i.ts",
    )
    # One thread may lose its CPU between the engine's stamp and the call; most of them do not.
    assert median(check_sampled(truth, slices, work_us * 1000)) < 5_000_000
    for thread in truth["threads"]:
        stamps = [ts for tid, ts in inside if tid == thread["tid"]]
        spans = [(s[4], s[5]) for s in truth["samples"] if s[0] == thread["tid"] and s[4]]
        assert len(stamps) == len(spans) == 6 * LAYERS + 1
        assert all(a <= number(t) <= b for t, (a, b) in zip(stamps, spans, strict=True))


@pytest.mark.parametrize("probes", ["recording", "stub"])
def test_iterations_records_these_micro_batches_and_ends(
    built: Path, tmp_path: Path, probes: str
) -> None:
    trace = tmp_path / "t.pftrace"
    options = ("--prompt", 13, "--decode", 101, "--hold", 20_000)
    record(
        trace,
        ["--level", "barrier", "--iterations", "5-11", "--probes", probes],
        [built / "known", "--threads", THREADS, "--layers", LAYERS, *options],
    )
    _, positions, counts, stats = rows(
        trace,
        "INCLUDE PERFETTO MODULE profinfer.tokens.requests;",
        "SELECT position, phase FROM profinfer_sequence ORDER BY ts",
        "SELECT category, count() FROM slice GROUP BY 1",
        BAD_STATS,
    )
    # Three micro-batches of prefill, so number 5 decodes the third token after the prompt.
    assert positions == [(13 + i - 3, "decode") for i in range(5, 12)]
    found = {category: count for category, count in counts}
    assert found["operator"] == 7 * THREADS * (11 * LAYERS + 2)
    assert found["barrier"] == 7 * THREADS * (11 * LAYERS + 1)
    assert found["barrier.inside"] == 7 * THREADS * (6 * LAYERS + 1)
    assert (found["ubatch"], found["graph"], found["graph.worker"]) == (7, 7, 14)
    assert "operator.incomplete" not in found
    assert stats == []
    assert ending(trace)["reason"] == "the iterations are complete"


def test_an_operator_filter_leaves_only_what_matches(built: Path, tmp_path: Path) -> None:
    trace = tmp_path / "t.pftrace"
    args = ["--level", "barrier", "--operator-ops", "MUL_MAT*"]
    done = record(trace, args, [built / "known", *SCHEDULE])
    [truth] = truths(done.stdout)
    _, counts, ops, stats = rows(
        trace,
        "INCLUDE PERFETTO MODULE profinfer.operators.runs;",
        "SELECT category, count() FROM slice GROUP BY 1",
        "SELECT DISTINCT op FROM profinfer_operator",
        BAD_STATS,
    )
    graphs = truth["calls"]["ggml_graph_compute"]
    found = {category: count for category, count in counts}
    assert found["operator"] == graphs * THREADS * (6 * LAYERS + 1)
    assert found["barrier"] == graphs * THREADS * 6 * LAYERS
    assert found["barrier.inside"] == graphs * THREADS * (6 * LAYERS + 1)
    assert ops == [("MUL_MAT",)]
    assert stats == []
