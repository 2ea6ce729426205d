"""Experts of the engine double, whose routing is a formula: every id, every record, every loss."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from profinfer.records.capture import FrameKind, read_capture
from profinfer.records.dtypes import EXPERT_VALUES, WIDE_HEADER, WIDE_SIZE, Kind
from tests.support import Engine, Recording, as_int, double_fixture, record

__all__ = ["double_fixture"]

LAYERS, EXPERTS, USED = 3, 13, 5
CHAIN = 8192
"""Rows that one operator's handlers can read, where no row is split between two records."""
EXPERTS_SQL = "INCLUDE PERFETTO MODULE profinfer.experts.activations"
LOST = "SELECT coalesce(sum(lost), 0) FROM profinfer_loss WHERE kind = 'experts'"


def target(*options: object) -> list[object]:
    return ["known", "--layers", LAYERS, "--experts", EXPERTS, "--used", USED, "--work-us", 1,
            *options]  # fmt: skip


def routed(row: int, rank: int, layer: int, graph: int) -> int:
    """As the double's README has it."""
    return (7 * row + rank + 3 * layer + 5 * graph) % EXPERTS


def readings(recording: Recording) -> dict[tuple[int, int], list[int | None]]:
    """Ids by number of the CPU graph, from 0, and layer."""
    recording.rows(EXPERTS_SQL)
    order = recording.rows(
        "SELECT graph_id FROM profinfer_graph WHERE backend = 'CPU' ORDER BY graph_id"
    )
    number = {graph: i for i, (graph,) in enumerate(order)}
    found: dict[tuple[int, int], list[int | None]] = {}
    # As they stand in the trace: of rows that are not the tokens', there is no number.
    rows: list[Any] = recording.rows(
        "SELECT r.graph_id, r.layer, a.expert FROM profinfer_expert_activation AS a"
        " JOIN profinfer_expert_reading AS r USING (reading_id)"
    )
    for graph, layer, expert in rows:
        found.setdefault((number[graph], layer), []).append(expert)
    return found


def records_of(raw: Path) -> int:
    data = b"".join(f.data for f in read_capture(raw) if f.kind == FrameKind.WIDE)
    headers = np.frombuffer(data, np.uint8).reshape(-1, WIDE_SIZE)[:, : WIDE_HEADER.itemsize]
    kinds = np.ascontiguousarray(headers).view(WIDE_HEADER)["kind"][:, 0]
    return int(np.count_nonzero(kinds == Kind.EXPERTS))


@pytest.mark.parametrize("transport", ["ring", "perf"])
@pytest.mark.parametrize("loader", ["libbpf", "bcc"])
def test_every_id_of_every_layer_once_per_graph(
    double: Engine, tmp_path: Path, loader: str, transport: str
) -> None:
    options = ("--prompt", 17, "--ubatch", 7, "--sequences", 3, "--decode", 5)
    means = ("--loader", loader, "--transport", transport, "--raw", tmp_path / "t.raw")
    with record(
        double, tmp_path / "t.pftrace", "--experts", *means, target=target(*options)
    ) as made:
        truth: list[Any] = [g for g in made.truth["graphs"] if g[1] == "CPU"]
        expected = {
            (i, layer): [
                routed(row, rank, layer, i) for row in range(graph[6]) for rank in range(USED)
            ]
            for i, graph in enumerate(truth)
            for layer in range(LAYERS)
        }
        assert readings(made) == expected
        assert made.rows(LOST) == [(0,)]
        assert records_of(tmp_path / "t.raw") == sum(
            -(-len(ids) // EXPERT_VALUES) for ids in expected.values()
        )


@pytest.mark.parametrize(("rows", "used"), [(1021, USED), (CHAIN, 4), (CHAIN + 17, 4)])
def test_what_one_chain_of_calls_cannot_read_is_counted(
    double: Engine, tmp_path: Path, rows: int, used: int
) -> None:
    raw = tmp_path / "t.raw"
    room = ("--structure-ring-size", "64M", "--raw", raw)
    with record(
        double, tmp_path / "t.pftrace", "--experts", *room,
        target=target("--rows", rows, "--used", used, "--decode", 2, "--prompt", 3),
    ) as made:  # fmt: skip
        graphs = len([g for g in made.truth["graphs"] if g[1] == "CPU"])
        found = readings(made)
        [(lost,)] = made.rows(LOST)
    expected = graphs * LAYERS * -(-rows * used // EXPERT_VALUES)
    assert records_of(raw) + as_int(lost) == expected
    assert (as_int(lost) > 0) == (rows > CHAIN)
    assert set(found) == {(i, layer) for i in range(graphs) for layer in range(LAYERS)}
    for (graph, layer), ids in found.items():
        right = [routed(row, rank, layer, graph) for row in range(rows) for rank in range(used)]
        read = min(rows, CHAIN) * used
        assert ids[:read] == right[:read]
        assert ids[read:] == [None] * (len(right) - read)


def test_ids_on_a_device_could_not_be_read(double: Engine, tmp_path: Path) -> None:
    with record(
        double, tmp_path / "t.pftrace", "--experts", target=target("--backend2", "--decode", 7)
    ) as made:
        graphs = Counter(g[1] for g in made.truth["graphs"])
        made.rows(EXPERTS_SQL)
        assert made.rows(
            "SELECT layer, reason, complete, count() FROM profinfer_expert_reading"
            " WHERE reason IS NOT NULL GROUP BY 1, 2, 3"
        ) == [(LAYERS, "on a device: fake", 0, graphs["Fake0"])]
        assert made.rows(
            "SELECT count() FROM profinfer_expert_reading WHERE reason IS NULL AND complete"
        ) == [(LAYERS * graphs["CPU"],)]
