"""Weights in files and outside of them, and what else passes the page cache by: rows by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from profinfer.records.capture import FrameKind, json_frame
from profinfer.trace_processor import Session
from tests.captures import BASE, MAIN, Capture, T
from tests.sql.harness import ask, opened, ready, rows
from tests.sql.test_memory import INODE, MAPPED, OTHER, fault, look, mapping, model, read

OUTSIDE, SWAPPED = 0x6000_0000, 0x8000_0000
EXPERTS = T("blk.0.ffn_up_exps.weight", ne=(64, 256, 4, 1), data=OUTSIDE)
IN_FILE = T("output.weight", ne=(64, 128, 1, 1), data=MAPPED + 0x6_0000)
LATER = T("blk.7.attn_q.weight", ne=(64, 256, 1, 1), data=OUTSIDE + 0x2_0000)
"""It lies where half of the experts have lain: another model was loaded."""


def weights() -> Capture:
    """A graph that uses the first two, and one after it that uses the last."""
    capture = Capture()
    capture.at_start = {"config": {**capture.start()["config"], "faults": True, "block_io": True}}
    capture.at_end = {
        "memory": {
            "kernel": None,
            "kernel_at_least": {"minor": 1, "major": 1, "read_bytes": 900_000},
        }
    }
    first = capture.structure(
        1_000,
        [T("up-0", "MUL_MAT_ID", ("blk.0.ffn_up_exps.weight", "x")),
         T("out", "MUL_MAT", ("output.weight", "up-0")), EXPERTS, IN_FILE, T("x")],
    )  # fmt: skip
    capture.graph(first, 10_000, 50_000, {MAIN: [("up-0", 11_000), ("out", 30_000)]})
    second = capture.structure(
        60_000, [T("q-7", "MUL_MAT", ("blk.7.attn_q.weight", "y")), LATER, T("y")], cgraph=0x9900
    )
    capture.graph(second, 70_000, 90_000, {MAIN: [("q-7", 71_000)]})
    nowhere = {"device": 0, "path": ""}
    capture.extra = [
        look(500, [mapping(MAPPED, INODE), mapping(OUTSIDE, 0) | nowhere,
                   mapping(SWAPPED, 0) | nowhere], []),
        look(95_000, [], []),
        json_frame(FrameKind.MODELS, BASE + 96_000, [
            model(direct=True), model(inode=OTHER, path="/unused.gguf", seen=False),
        ]),
    ]  # fmt: skip
    fault(capture, 600, MAIN, OUTSIDE + 0x1_2345)  # expert 1, as it is loaded
    fault(capture, 12_000, MAIN, OUTSIDE + 0x3_FFFF, major=True)  # expert 3, from swap
    fault(capture, 31_000, MAIN, MAPPED + 0x6_1000)  # in the file
    fault(capture, 32_000, MAIN, OUTSIDE + 0x4_0000)  # behind it
    fault(capture, 33_000, MAIN, SWAPPED, major=True)  # no weight, from swap
    fault(capture, 34_000, MAIN, 0x4000, major=True)  # nobody knows what is there
    fault(capture, 72_000, MAIN, OUTSIDE + 0x2_0000)  # the other model's
    fault(capture, 73_000, MAIN, OUTSIDE + 0x1_2345)  # what lay there before is not used any more
    fault(capture, 94_000, MAIN, OUTSIDE + 0x2_0000)  # nor is this
    read(capture, 5_000, 0x1_0000, 4)
    return capture


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with opened(weights()) as found:
        list(found.query("INCLUDE PERFETTO MODULE profinfer.memory.paging"))
        yield found


def test_weights_know_where_they_lie(session: Session) -> None:
    found = ask(
        session,
        "SELECT name, type, bytes, experts, offset, in_file, twice, since_ts - BASE,"
        " first_ts - BASE, last_ts - BASE FROM profinfer_weight ORDER BY first_ts, name",
    )
    assert found == [
        ("blk.0.ffn_up_exps.weight", "f32", 0x4_0000, 4, None, 0, 1, -BASE, 10_000, 50_000),
        ("output.weight", "f32", 0x8000, None, 0x6_0000, 1, 0, -BASE, 10_000, 50_000),
        ("blk.7.attn_q.weight", "f32", 0x1_0000, None, None, 0, None, 50_000, 70_000, 90_000),
    ]


def test_faults_outside_files_are_the_weights(session: Session) -> None:
    found = ask(
        session,
        "SELECT f.ts - BASE, w.name, f.expert, f.of_no_file, f.model_tensor_id IS NOT NULL"
        " FROM profinfer_fault AS f LEFT JOIN profinfer_weight AS w USING (weight_id)"
        " ORDER BY f.ts",
    )
    assert found == [
        (600, "blk.0.ffn_up_exps.weight", 1, 1, 0),
        (12_000, "blk.0.ffn_up_exps.weight", 3, 1, 0),
        (31_000, None, None, 0, 1),
        (32_000, None, None, 1, 0),
        (33_000, None, None, 1, 0),
        (34_000, None, None, 0, 0),
        (72_000, "blk.7.attn_q.weight", None, 1, 0),
        (73_000, None, None, 1, 0),
        (94_000, None, None, 1, 0),
    ]


def test_faults_say_what_came_from_swap_and_what_is_outside(session: Session) -> None:
    kinds, _, tensors, _ = ready(session, "faults").values()
    assert rows(kinds, "kind", "recorded", "in_models", "no_file", "swap_mb") == [
        ("major", 3, 1, 2, 0.01),  # two pages
        ("minor", 6, 3, 5, None),
    ]
    columns = ("tensor", "place", "major", "minor", "before_use", "in_operators", "experts")
    assert rows(tensors, *columns) == [
        ("blk.0.ffn_up_exps.weight", "outside the file", 1, 1, 1, 1, 2),
        ("blk.7.attn_q.weight", "outside the file", 0, 1, 0, 1, 0),
        ("output.weight", "file", 0, 1, 0, 1, 0),
    ]


def test_memory_says_what_lies_twice(session: Session) -> None:
    _, places = ready(session, "memory").values()
    assert [tuple(row.values()) for row in places] == [
        # Of the other model no file is known.
        ("outside files: read, repacked or on a device", 2, 0.33, None, 0),
        (f"/models/{INODE}.gguf", 1, 0.03, None, 0),
    ]


def test_model_io_says_what_passed_the_page_cache_by(session: Session) -> None:
    [total], _, _, files, past, _ = ready(session, "model_io").values()
    assert (total["read_bytes"], total["kernel_bytes"], total["past_cache_bytes"]) == (
        0x1_0000, None, 900_000 - 0x1_0000,
    )  # fmt: skip
    assert [tuple(row.values()) for row in past] == [
        ("from swap or direct I/O, by the kernel's count", 900_000 - 0x1_0000, None),
        ("from swap, by major faults in memory of no file", 2 * 4096, None),
        ("open for direct I/O", None, f"/models/{INODE}.gguf"),
    ]
    assert [row["file"] for row in files] == [f"/models/{INODE}.gguf"]


def test_a_model_that_was_named_and_not_used_is_not_there(session: Session) -> None:
    assert ask(session, "SELECT path FROM profinfer_model") == [(f"/models/{INODE}.gguf",)]


def test_without_mappings_nothing_is_said_of_files() -> None:
    capture = weights()
    capture.extra = []
    with opened(capture) as session:
        _, places = ready(session, "memory").values()
    assert [tuple(row.values()) for row in places] == [("not recorded", 3, None, None, 0)]


def test_what_was_unmapped_holds_no_copy() -> None:
    capture = weights()
    capture.extra.insert(1, look(2_000, [], [mapping(MAPPED, INODE)]))
    with opened(capture) as session:
        list(session.query("INCLUDE PERFETTO MODULE profinfer.memory.weights"))
        found = ask(session, "SELECT name, in_file, twice FROM profinfer_weight ORDER BY name")
    assert found == [
        ("blk.0.ffn_up_exps.weight", 0, 0), ("blk.7.attn_q.weight", 0, None),
        ("output.weight", 0, 0),
    ]  # fmt: skip
