"""Hardware counters per operator, recorded in C on emulated arm64 and converted here.

Of its PMU's events qemu counts cycles of virtual time, and instructions where each takes a fixed
time; all others can be opened and stay 0.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from profinfer.capture import FrameKind
from profinfer.trace_processor import open_trace
from tests.emulated.board import make_board
from tests.matrix import Matrix
from tests.recorder.recording import convert, frame_json

Rows = list[tuple[object, ...]]

LOOP = 10_000
TOUCH = 2
SCHEDULE = "--threads 2 --decode 20 --work-us 0 --samples 0 --final-barrier"
ONE_GROUP = "{cycles,instructions,stall_backend},page-faults"
NINE = "instructions,cycles,r04:u,r03:u,r13:u,r23:u,r24:u,r2a:u,r67:u"
COUNTED = """
INCLUDE PERFETTO MODULE profinfer.counters;
INCLUDE PERFETTO MODULE profinfer.operators;
INCLUDE PERFETTO MODULE profinfer.tensors;
SELECT n.name, tid != pid, c.value, c.cpu_dur, c.counted_dur, k.op
FROM profinfer_operator_counter AS c JOIN profinfer_counter AS n USING (counter_id)
JOIN _operator_kind AS k USING (arg_set_id)
JOIN thread ON thread.utid = c.utid JOIN process USING (upid)
-- The others wait for each other within, or meet their code and stack for the first time.
WHERE k.op != 'MUL_MAT' AND c.graph_id > 1 AND c.complete
"""
# Of 2 threads: 5 operators of each of 3 layers and the last norm, in all graphs but one.
SLICES = 2 * (5 * 3 + 1) * 22
OPS = {"RMS_NORM+MUL", "ADD", "SILU"}


def record(
    kernel: str, counters: str, folder: Path, work: str, *, options: tuple[str, ...] = ()
) -> tuple[Path, str]:
    """The trace, and what the recorder said. `work`: what an operator does."""
    board = make_board("aarch64", folder, "--counters", counters, *options)
    result = board.run(
        kernel, "--level barrier", f"{SCHEDULE} {work}", count_instructions=True
    ).check()
    capture = folder / "t.raw"
    capture.write_bytes(result.files["t.raw"])
    return convert(capture), result.output


def query(trace: Path, sql: str) -> Rows:
    with open_trace(trace, trace_processor="wasm") as session:
        return [tuple(row) for row in session.query(sql)]


def values(found: Rows, name: str, place: int, op: str = "") -> set[float]:
    """Of a counter on a thread, main or worker."""
    rows = [row for row in found if row[:2] == (name, place) and row[5] in (op or OPS)]
    return {value for row in rows if isinstance(value := row[2], float)}


@pytest.mark.matrix
@pytest.mark.parametrize("kernel", ["arm64-5.10", "arm64-6.1", "arm64-6.12"])
def test_instructions_are_the_operators(kernel: str, tmp_path: Path, matrix: Matrix) -> None:
    matrix("PMU counters per operator", kernel=kernel, machine="aarch64", loader="C")
    trace, _ = record(kernel, ONE_GROUP, tmp_path, f"--loop {LOOP}")
    found = query(trace, COUNTED)
    names = ("cycles:u", "instructions:u", "stall_backend:u", "page-faults")
    assert {row[0] for row in found} == set(names)
    assert len(found) == SLICES * len(names)
    assert all(row[3] == row[4] for row in found)  # nothing had to wait for its turn
    for op in OPS:
        main, worker = (values(found, "instructions:u", place, op) for place in (0, 1))
        # The worker's loop runs twice as often; what else there is to an operator is little, and
        # some tens of it depend on the moment: libc reads a clock again that was just set.
        assert min(worker) - min(main) == 2 * LOOP
        assert 0 < min(main) - 2 * LOOP < 2_000
        assert max(max(each) - min(each) for each in (main, worker)) < 100
    assert min(values(found, "cycles:u", 0) | values(found, "cycles:u", 1)) > 0
    assert values(found, "stall_backend:u", 0) == {0}
    assert values(found, "page-faults", 0) == values(found, "page-faults", 1) == {0}


@pytest.mark.matrix
def test_nine_events_take_turns(tmp_path: Path, matrix: Matrix) -> None:
    matrix("PMU counters, multiplexed", kernel="arm64-6.12", machine="aarch64", loader="C")
    trace, _ = record("arm64-6.12", NINE, tmp_path, f"--loop {LOOP}")
    found = query(trace, COUNTED)
    assert len({row[0] for row in found}) == 9
    shares = {float(row[4]) / float(row[3]) for row in found}  # type: ignore[arg-type]
    assert min(shares) == 0
    assert max(shares) == 1
    instructions = [row for row in found if row[0] == "instructions:u"]
    # Whether it was counted or not: nothing in between is shown as if it were whole.
    whole = [row for row in instructions if row[3] == row[4]]
    for op in OPS:
        main, worker = (values(whole, "instructions:u", place, op) for place in (0, 1))
        assert min(worker) - min(main) == 2 * LOOP
    assert {row[2] for row in instructions if row[4] == 0} == {0}


@pytest.mark.matrix
def test_a_preset_of_the_board(tmp_path: Path, matrix: Matrix) -> None:
    """Planned elsewhere, by the CPU's name; what it is there is what perf would count."""
    matrix("counter presets", kernel="arm64-6.12", machine="aarch64", loader="C")
    options = ("--cpu", "cortex-a76")
    counters = "memory,stalls,faults,nothing:here"
    trace, said = record("arm64-6.12", counters, tmp_path, f"--touch {TOUCH}", options=options)
    assert "not counted: nothing:here: no PMU here counts it; here are: " in said
    assert "armv8" in said
    start = frame_json(tmp_path / "t.raw", FrameKind.START)["counters"]
    assert [(e["name"], e["unit"], e["scale"], e["leader"]) for e in start["events"]] == [
        ("l3d_cache_refill:u", "bytes", 64, "l3d_cache_refill:u"),
        ("mem_access_wr:u", "bytes", 16, "l3d_cache_refill:u"),
        ("cycles:u", "cycles", 1, "cycles:u"),
        ("instructions:u", "instructions", 1, "cycles:u"),
        ("stall_backend:u", "cycles", 1, "cycles:u"),
        ("stall_frontend:u", "cycles", 1, "cycles:u"),
        ("page-faults", "faults", 1, ""),
        ("major-faults", "faults", 1, ""),
    ]
    metrics = """
    INCLUDE PERFETTO MODULE profinfer.counters;
    SELECT DISTINCT read_bytes, written_bytes, bandwidth, backend_stall_ratio, ipc > 0, complete
    FROM profinfer_operator_metric WHERE graph_id > 1"""
    assert query(trace, metrics) == [(0, 0, 0, 0, 1, 1)]
    found = query(trace, COUNTED)
    assert values(found, "page-faults", 0) == {TOUCH}
    assert values(found, "page-faults", 1) == {2 * TOUCH}
    assert values(found, "major-faults", 0) == {0}
