"""Hardware counters per operator, recorded in C on emulated arm64 and converted here.

Of its PMU's events qemu counts cycles of virtual time, and instructions where each takes a fixed
time; all others can be opened and stay 0.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from profinfer.records.capture import FrameKind
from profinfer.trace_processor import open_trace
from tests.emulated.board import Recording, captured
from tests.emulated.machines import COUNTING, Machines, Task
from tests.matrix import Matrix
from tests.recorder.recording import convert, frame_json

Rows = list[tuple[object, ...]]

LOOP = 10_000
TOUCH = 2
SCHEDULE = "--threads 2 --decode 20 --work-us 0 --samples 0 --final-barrier"
ONE_GROUP = "{cycles,instructions,stall_backend},page-faults"
NINE = "instructions,cycles,r04:u,r03:u,r13:u,r23:u,r24:u,r2a:u,r67:u"
COUNTED = """
INCLUDE PERFETTO MODULE profinfer.counters.readings;
INCLUDE PERFETTO MODULE profinfer.operators.runs;
INCLUDE PERFETTO MODULE profinfer.graphs.tensors;
SELECT n.name, tid != pid, c.value, c.cpu_dur, c.counted_dur, k.op
FROM profinfer_operator_counter AS c JOIN profinfer_counter AS n USING (counter_id)
JOIN _operator_kind AS k USING (arg_set_id)
JOIN thread ON thread.utid = c.utid JOIN process USING (upid)
-- The others wait for each other within, or meet their code and stack for the first time.
WHERE k.op != 'MUL_MAT' AND c.graph_id > 1 AND c.complete
"""
# Of 2 threads: 5 operators of each of 3 layers and the last norm, in all graphs but one.
SLICES = 2 * (5 * 3 + 1) * 22
pytestmark = [pytest.mark.matrix, pytest.mark.timeout(1200)]
OPS = {"RMS_NORM+MUL", "ADD", "SILU"}


def task(kernel: str, name: str, counters: str, work: str, *options: str) -> Task:
    """A recording with counters. `work`: what an operator does."""
    return Task(
        kernel,
        name,
        Recording(
            "--level barrier --scheduler off",
            f"{SCHEDULE} {work}",
            plan=("--counters", counters, *options),
        ),
        COUNTING,
    )


def query(trace: Path, sql: str) -> Rows:
    with open_trace(trace, trace_processor="wasm") as session:
        return [tuple(row) for row in session.query(sql)]


def values(found: Rows, name: str, place: int, op: str = "") -> set[float]:
    """Of a counter on a thread, main or worker."""
    rows = [row for row in found if row[:2] == (name, place) and row[5] in (op or OPS)]
    return {value for row in rows if isinstance(value := row[2], float)}


ONE = [
    task(kernel, "one-group", ONE_GROUP, f"--loop {LOOP}")
    for kernel in ("arm64-5.10", "arm64-6.1", "arm64-6.12")
]


@pytest.mark.parametrize("task", ONE, ids=str)
def test_instructions_are_the_operators(
    task: Task, machines: Machines, tmp_path: Path, matrix: Matrix
) -> None:
    matrix("PMU counters per operator", kernel=task.kernel, machine="aarch64", loader="libbpf")
    capture, _ = captured(machines.result(task), tmp_path)
    trace = convert(capture)
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


@pytest.mark.parametrize(
    "task", [task("arm64-6.12", "nine-events", NINE, f"--loop {LOOP}")], ids=str
)
def test_nine_events_take_turns(
    task: Task, machines: Machines, tmp_path: Path, matrix: Matrix
) -> None:
    matrix("PMU counters, multiplexed", kernel=task.kernel, machine="aarch64", loader="libbpf")
    capture, _ = captured(machines.result(task), tmp_path)
    found = query(convert(capture), COUNTED)
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


PRESET = task(
    "arm64-6.12", "preset", "memory,stalls,faults,nothing:here", f"--touch {TOUCH}",
    "--cpu", "cortex-a76",
)  # fmt: skip


@pytest.mark.parametrize("task", [PRESET], ids=str)
def test_a_preset_of_the_board(
    task: Task, machines: Machines, tmp_path: Path, matrix: Matrix
) -> None:
    """Planned elsewhere, by the CPU's name; what it is there is what perf would count."""
    matrix("counter presets", kernel=task.kernel, machine="aarch64", loader="libbpf")
    result = machines.result(task)
    capture, _ = captured(result, tmp_path)
    trace, said = convert(capture), result.output
    assert "not counted: nothing:here: no PMU here counts it; here are: " in said
    assert "armv8" in said
    start = frame_json(capture, FrameKind.START)["counters"]
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
    INCLUDE PERFETTO MODULE profinfer.counters.metrics;
    SELECT DISTINCT read_bytes, written_bytes, bandwidth, backend_stall_ratio, ipc > 0, complete
    FROM profinfer_operator_metric WHERE graph_id > 1"""
    assert query(trace, metrics) == [(0, 0, 0, 0, 1, 1)]
    found = query(trace, COUNTED)
    assert values(found, "page-faults", 0) == {TOUCH}
    assert values(found, "page-faults", 1) == {2 * TOUCH}
    assert values(found, "major-faults", 0) == {0}
