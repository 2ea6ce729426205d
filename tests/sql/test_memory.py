"""Faults and file reads meet tensors, experts and operators: rows worked out by hand."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from profinfer.records.capture import Frame, FrameKind, json_frame
from profinfer.records.dtypes import Kind
from profinfer.trace_processor import Session, open_trace
from tests.captures import BASE, MAIN, WORKER, Capture, T, convert
from tests.sql.harness import ask, opened, ready
from tests.sql.test_counters import counted, event

DEVICE, INODE, OTHER = 254 << 20 | 3, 77, 78
MAPPED = 0x7F00_0000_0000
TENSORS: list[dict[str, Any]] = [
    # name, offset, bytes, layer, experts
    {"name": "blk.0.ffn_up_exps.weight", "type": "Q8_0", "ne": [32, 64, 4], "offset": 0x1_0000,
     "bytes": 0x4_0000, "layer": 0, "experts": 4, "expert_bytes": 0x1_0000},
    {"name": "output.weight", "type": "F16", "ne": [64, 64], "offset": 0x6_0000,
     "bytes": 0x8000, "layer": None, "experts": None, "expert_bytes": None},
]  # fmt: skip
LOOK, LAST_LOOK = 45_000, 95_000


def mapping(start: int, inode: int, offset: int = 0, size: int = 0x10_0000) -> dict[str, Any]:
    return {"start": start, "end": start + size, "offset": offset, "device": DEVICE,
            "inode": inode, "path": f"/models/{inode}.gguf"}  # fmt: skip


def model(**facts: Any) -> dict[str, Any]:
    return {"device": DEVICE, "inode": INODE, "path": f"/models/{INODE}.gguf", "error": None,
            "architecture": "llama", "tensors": TENSORS} | facts  # fmt: skip


def fault(capture: Capture, at: int, tid: int, address: int, *, major: bool = False) -> None:
    capture.add(Kind.FAULT, at, tid, address, int(major))


def read(capture: Capture, at: int, offset: int, order: int, inode: int = INODE) -> None:
    capture.add(Kind.FILE_READ, at, MAIN, offset >> 12 | DEVICE << 32, inode | order << 58)


def small() -> Capture:
    capture = Capture()
    capture.at_start = {"config": {**capture.start()["config"], "faults": True, "block_io": True}}
    capture.at_end = {"memory": {"kernel": {"minor": 9, "major": 2, "read_bytes": 0x3_0000}}}
    shape = capture.structure(1_000, [T("a-0", "ADD", ("x",)), T("b-0", "MUL", ("a-0",)), T("x")])
    capture.graph(
        shape, 10_000, 80_000,
        {MAIN: [("a-0", 20_000, 38_000), ("b-0", 40_000, 70_000)],
         WORKER: [("a-0", 20_100, 30_000), ("b-0", 40_100, 60_000)]},
    )  # fmt: skip
    read(capture, 20_500, 0x1_0000, 5)  # 128 KiB: experts 0 and 1
    fault(capture, 21_000, MAIN, MAPPED + 0x1_2345, major=True)  # expert 0
    fault(capture, 31_000, WORKER, MAPPED + 0x4_FFFF)  # waiting after a-0; expert 3
    fault(capture, 42_000, WORKER, MAPPED + 0x6_8000)  # behind the last tensor
    fault(capture, 43_000, MAIN, 0x5000)  # no file
    read(capture, 41_000, 0x6_0000, 3)  # 32 KiB: the output, never touched
    fault(capture, 90_000, MAIN, MAPPED + 0x6_0000, major=False)  # outside; a later look
    read(capture, 5_000, 0x2000, 0, OTHER)  # of a file that is never mapped
    return capture


def look(at: int, new: list[dict[str, Any]], gone: list[dict[str, Any]]) -> Frame:
    return json_frame(FrameKind.MAPPINGS, BASE + at, {"new": new, "gone": gone})


def frames(
    capture: Capture, models: list[dict[str, Any]] | None = None, last: Frame | None = None
) -> list[Frame]:
    """Two looks at the mappings, the first half way."""
    capture.extra = [look(LOOK, [mapping(MAPPED, INODE)], []), last or look(LAST_LOOK, [], [])]
    if models:
        capture.extra.append(json_frame(FrameKind.MODELS, BASE + 99_000, models))
    return capture.frames([(BASE + LOOK + 1, BASE + LOOK + 1)])


@contextmanager
def trace(these: list[Frame]) -> Iterator[Session]:
    with tempfile.TemporaryDirectory() as folder:
        path = convert(these, Path(folder) / "memory.pftrace")
        with open_trace(path, trace_processor="wasm") as session:
            yield session


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with trace(frames(small(), [model()])) as found:
        yield found


def test_a_fault_knows_its_operator_its_tensor_and_its_expert(session: Session) -> None:
    assert ask(
        session,
        """SELECT f.ts - BASE, tid, f.kind, f.offset, t.name, f.expert, s.name
           FROM profinfer_fault f JOIN thread USING (utid)
           LEFT JOIN profinfer_model_tensor t USING (model_tensor_id)
           LEFT JOIN profinfer_operator_slice s ON s.id = f.operator_slice_id ORDER BY f.ts""",
    ) == [
        (21_000, MAIN, "major", 0x1_2345, "blk.0.ffn_up_exps.weight", 0, "a-0"),
        (31_000, WORKER, "minor", 0x4_FFFF, "blk.0.ffn_up_exps.weight", 3, "a-0"),
        (42_000, WORKER, "minor", 0x6_8000, None, None, "b-0"),
        (43_000, MAIN, "minor", None, None, None, "b-0"),
        (90_000, MAIN, "minor", 0x6_0000, "output.weight", None, None),
    ]


def test_a_read_is_split_at_the_bounds_of_tensors_and_experts(session: Session) -> None:
    assert ask(
        session,
        """SELECT r.ts - BASE, t.name, r.expert, r.bytes, r.graph_id FROM profinfer_model_read r
           JOIN profinfer_model_tensor t USING (model_tensor_id) ORDER BY 1, 3""",
    ) == [
        (20_500, "blk.0.ffn_up_exps.weight", 0, 0x1_0000, 1),
        (20_500, "blk.0.ffn_up_exps.weight", 1, 0x1_0000, 1),
        (41_000, "output.weight", None, 0x8000, 1),
    ]
    assert ask(session, "SELECT path, inode FROM profinfer_file ORDER BY inode") == [
        ("/models/77.gguf", INODE),
        (None, OTHER),
    ]


def test_what_no_fault_followed_was_read_for_nothing(session: Session) -> None:
    # Expert 1, and nothing of the output: its page was touched later, outside the graph.
    assert ask(session, "SELECT offset, bytes FROM _untouched_part") == [(0x2_0000, 0x1_0000)]
    assert ask(
        session, "SELECT expert, untouched_bytes FROM profinfer_model_read ORDER BY ts, expert"
    ) == [(0, 0), (1, 0x1_0000), (None, 0)]


def test_faults_counts_by_kind_operator_and_tensor(session: Session) -> None:
    found = list(ready(session, "faults").values())
    assert [tuple(row.values()) for row in found[0]] == [
        ("major", 1, 1, 1, 0, 0.0, 2, 0),
        ("minor", 4, 3, 2, 0, None, 9, 0),
    ]
    assert [tuple(row.values()) for row in found[1]] == [
        ("a-0", "ADD", 0, 1, 1, 2, 0),
        ("b-0", "MUL", 0, 0, 2, 0, 0),
        ("outside operators", None, None, 0, 1, 1, 0),
    ]
    assert [tuple(row.values()) for row in found[2]] == [
        ("blk.0.ffn_up_exps.weight", 0, "Q8_0", 0x4_0000, "file", 1, 1, 0, 2, 2, 0),
        ("output.weight", None, "F16", 0x8000, "file", 0, 1, 0, 0, 0, 0),
    ]
    assert found[3] == []


def test_model_io_counts_bytes_by_tensor_and_expert(session: Session) -> None:
    total, tensors, experts, files, past, untold = ready(session, "model_io").values()
    assert (past, untold) == ([], [])
    assert [tuple(row.values()) for row in total] == [
        (0x2_9000, 0x2_8000, 0x2_8000, 0x1_0000, 0x3_0000, 0x7000, 0)
    ]
    assert [tuple(row.values()) for row in tensors] == [
        ("blk.0.ffn_up_exps.weight", 0, "Q8_0", 0x4_0000, 0x2_0000, 0.5, 0x2_0000, 0x1_0000, 0),
        ("output.weight", None, "F16", 0x8000, 0x8000, 1.0, 0x8000, 0, 0),
    ]
    assert [tuple(row.values()) for row in experts] == [
        (0, 0, 0x1_0000, 1.0, 1, 0, 0),
        (0, 1, 0x1_0000, 1.0, 1, 0x1_0000, 0),
    ]
    assert [tuple(row.values()) for row in files] == [
        ("/models/77.gguf", 0x2_8000, 0x2_8000, 0),
        (f"inode {OTHER} of device 254:3, never seen mapped or open", 0x1000, 0, 0),
    ]


def test_memory_compares_expected_bytes_with_measured_ones() -> None:
    with opened(counted()) as session:
        table, _ = ready(session, "memory").values()
    names = ("op", "runs", "measured_runs", "measured_read_mb", "measured_written_mb",
             "measured_percent")  # fmt: skip
    assert sorted(tuple(row[name] for name in names) for row in table) == [
        # 3,840 bytes where 16 were expected, by both threads together; writes were not counted.
        ("ADD", 1, 1, 0.0, None, 24_000.0),
        # Bytes were not counted while the main thread ran it.
        ("MUL_MAT", 1, None, None, None, None),
    ]


def test_memory_sums_what_was_measured_over_the_same_runs() -> None:
    """400 KB expected per run, one of three runs not read by the worker."""
    both = event("in", "in", "memory_read", "bytes"), event("out", "in", "memory_write", "bytes")
    capture = Capture()
    shape = capture.structure(
        0, [T("x", ne=(50_000, 2, 1, 1)), T("a-0", "ADD", ("x",), (10, 1, 1, 1))]
    )
    main: dict[int, list[int | None]] = {}
    worker: dict[int, list[int | None]] = {}
    for i, unread in enumerate((False, True, False)):
        at = 10_000 + 100_000 * i
        capture.graph(
            shape, at, at + 90_000, {t: [("a-0", at + 1_000, at + 50_000)] for t in (MAIN, WORKER)}
        )  # fmt: skip
        main |= {at + 1_000: [at, 0, 0, 0], at + 50_000: [at + 49_000, 300_000, 7_000, 0]}
        worker |= {
            at + 1_000: [at, 0, 0, 0],
            at + 50_000: [at + 49_000, None if unread else 60_000, 3_000, 0],
        }
    capture.count(MAIN, main, both)
    capture.count(WORKER, worker)
    with opened(capture) as session:
        [row], _ = ready(session, "memory").values()
    assert (row["runs"], row["measured_runs"], row["incomplete"]) == (3, 2, 0)
    assert (row["measured_read_mb"], row["measured_written_mb"]) == (0.72, 0.02)
    assert row["measured_percent"] == 90.0


def test_without_such_records_there_are_no_numbers() -> None:
    capture = Capture()
    capture.ubatch(0, 1_000)
    with trace(capture.frames()) as found:
        kinds, *rest = ready(found, "faults").values()
        assert [(row["kind"], row["recorded"], row["kernel_count"]) for row in kinds] == [
            ("major", None, None), ("minor", None, None),
        ]  # fmt: skip
        assert rest == [[], [], []]
        [total] = next(iter(ready(found, "model_io").values()))
        assert [total[name] for name in ("read_bytes", "of_models_bytes", "untouched_bytes")] == [
            None
        ] * 3


def test_lost_records_stand_in_every_row() -> None:
    capture = small()
    capture.lose(lambda row: row.kind == Kind.FAULT and row.ts == BASE + 42_000)
    with trace(frames(capture)) as found:
        tables = ready(found, "faults")
        assert {row["incomplete"] for table in tables.values() for row in table} == {1}
        # An operator is not damaged by a fault that is missing.
        assert ask(found, "SELECT DISTINCT complete FROM profinfer_operator_slice") == [(1,)]


def test_a_model_whose_reads_bear_another_number_is_named() -> None:
    with trace(frames(small(), [model(overlaid=True)])) as found:
        *_, untold = ready(found, "model_io").values()
    assert [row["path"] for row in untold] == ["/models/77.gguf"]
    assert "overlay" in str(untold[0]["reason"])


def test_a_model_that_cannot_be_read_is_named() -> None:
    bad = model(error="ValueError: GGUF magic invalid", tensors=[])
    with trace(frames(small(), [bad])) as found:
        *_, unknown = ready(found, "faults").values()
        assert [tuple(row.values()) for row in unknown] == [
            ("/models/77.gguf", "ValueError: GGUF magic invalid")
        ]
        assert ask(found, "SELECT count(model_tensor_id) FROM profinfer_fault") == [(0,)]


def test_an_address_that_changed_its_file_between_two_looks_is_of_neither() -> None:
    swap = look(LAST_LOOK, [mapping(MAPPED, OTHER)], [mapping(MAPPED, INODE)])
    with trace(frames(small(), last=swap)) as session:
        places = ask(
            session,
            "SELECT ts - BASE, file IS NULL FROM profinfer_fault WHERE ts != BASE + 43000",
        )
    assert places == [(21_000, 0), (31_000, 0), (42_000, 0), (90_000, 1)]


def test_a_look_may_stand_in_several_frames() -> None:
    parts = [
        look(LOOK, [mapping(MAPPED, INODE)], []), look(LAST_LOOK, [], [{"start": MAPPED}]),
        look(LAST_LOOK, [mapping(MAPPED, OTHER)], []),
    ]  # fmt: skip
    assert places(parts, [(LOOK + 1, LOOK + 1)])[-1] == (90_000, None, None)  # it was one of two


def test_the_header_of_a_model_becomes_its_tensors(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(str(tmp_path / "m.gguf"), "llama")
    writer.add_tensor("blk.3.ffn_up_exps.weight", np.ones((4, 8, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    data = (tmp_path / "m.gguf").read_bytes()
    said = {"path": "/m.gguf", "device": DEVICE, "inode": INODE, "size": len(data),
            "overlaid": False, "problem": None}  # fmt: skip
    text = json.dumps(said).encode()
    header = data[: len(data) - 4 * 8 * 32 * 4]
    capture = small()
    capture.extra = [
        look(LOOK, [mapping(MAPPED, INODE)], []),
        Frame(FrameKind.MODEL, BASE + 99_000, struct.pack("<I", len(text)) + text + header),
    ]
    with trace(capture.frames([(BASE + LOOK + 1, BASE + LOOK + 1)])) as session:
        assert ask(
            session,
            "SELECT inode, t.name, t.layer, t.offset, t.bytes, t.experts"
            " FROM profinfer_model_tensor t JOIN profinfer_file USING (file)",
        ) == [(INODE, "blk.3.ffn_up_exps.weight", 3, len(header), 4096, 4)]


def places(looks: list[Frame], drains: list[tuple[int, int]]) -> list[tuple[Any, ...]]:
    """Where each fault in the model's memory lies."""
    capture = small()
    capture.extra = looks
    with trace(capture.frames([(BASE + a, BASE + b) for a, b in drains])) as session:
        return ask(
            session,
            "SELECT ts - BASE, inode, f.offset FROM profinfer_fault AS f"
            " LEFT JOIN profinfer_file USING (file) WHERE ts != BASE + 43000",
        )


@pytest.mark.parametrize("drains", [[], [(44_000, 44_000)], [(26_000, 26_000), (80_000, 90_000)]])
def test_a_fault_is_looked_up_in_the_looks_around_it(drains: list[tuple[int, int]]) -> None:
    # Looks are more frequent than drains; what came later at the address is none of its business.
    mine, other = mapping(MAPPED, INODE), mapping(MAPPED, OTHER, 0x3000)
    looks = [
        look(20_600, [mine], []), look(25_000, [], []), look(26_000, [], [mine]),
        look(32_000, [other], []), look(50_000, [], []), look(99_000, [mine], [other]),
    ]  # fmt: skip
    assert places(looks, drains) == [
        (21_000, INODE, 0x1_2345),
        (31_000, OTHER, 0x5_2FFF),  # came between two looks
        (42_000, OTHER, 0x6_B000),
        (90_000, None, None),  # it was one of two
    ]


def test_memory_of_no_file_where_a_file_was_is_not_the_file() -> None:
    mine, fresh = mapping(MAPPED, INODE), mapping(MAPPED, 0) | {"device": 0, "path": ""}
    looks = [
        look(15_000, [mine], []), look(25_000, [fresh], [mine]), look(35_000, [], []),
        look(80_000, [mine], [fresh]),
    ]  # fmt: skip
    assert places(looks, []) == [
        (21_000, None, None),  # a model's page, or a fresh one
        (31_000, None, None),
        (42_000, None, None),
        (90_000, INODE, 0x6_0000),
    ]


def test_a_mapping_that_is_gone_by_the_next_look_was_there_before_it() -> None:
    gone = look(LAST_LOOK, [], [mapping(MAPPED, INODE)])
    with trace(frames(small(), last=gone)) as session:
        assert ask(session, "SELECT offset FROM profinfer_fault WHERE ts = BASE + 90000") == [
            (0x6_0000,)
        ]
