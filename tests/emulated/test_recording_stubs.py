"""Recording stubs, probed stubs and direct probes, by the recorder in C on an arm64 machine."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from profinfer.binaries.elf import Elf
from profinfer.engine.audit_library import (
    COPIES,
    FUNCTIONS,
    PAGE_SYMBOL,
    STUB_SIZE,
    STUBS_SYMBOL,
)
from profinfer.records.capture import FrameKind
from profinfer.records.dtypes import Kind
from tests.audit.process import SITES
from tests.conftest import REPO, require
from tests.emulated.board import Recording, captured
from tests.emulated.initramfs import Content
from tests.emulated.machine import processor
from tests.emulated.machines import Machines, Task, Work, Workshop
from tests.emulated.test_recorder import records_of
from tests.matrix import Matrix
from tests.recorder.recording import convert, frame_json
from tests.recording.helpers import KERNELS_OWN, assert_matches, ending, rows

SCHEDULE = "--threads 3 --layers 3 --prompt 13 --decode 20 --work-us 50"
LIBRARY = "/engine/libprofinfer-audit.so"
OUTSIDE = """
SELECT count() FROM profinfer_operator_slice AS o JOIN profinfer_graph AS g USING (graph_id)
WHERE o.ts < g.ts OR o.ts + o.dur > g.ts + g.dur"""
TICK_NS = 16
"""Of these machines' counters."""
HOT = (Kind.OPERATOR, Kind.FUSED, Kind.BARRIER)

# The recorder is told where the page is, as `profinfer record` does for a process.
FIND_PAGE = """
base=$(grep -m 1 libprofinfer-audit.so /proc/$engine/maps | cut -d - -f 1)
sed "s/\\"PAGE\\"/$((0x$base + {page}))/" {plan} >/tmp/plan.json
recorder --pid"""

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(1200)]


@dataclass(frozen=True)
class RecordingBy(Recording):
    """Of an engine that was started with the audit library, its hot functions seen that way."""

    via: str = ""

    def __call__(self, workshop: Workshop, task: Task) -> Work:
        work = super().__call__(workshop, task)
        machine = processor(task.kernel).machine
        library = REPO / "build" / machine / Path(LIBRARY).name
        require(f"an audit library for {machine}", library.exists())
        source = work.files["/plan.json"]
        assert isinstance(source, Path)
        elf, plan = Elf(library), json.loads(source.read_bytes())
        [page] = elf.dynamic_named(PAGE_SYMBOL).values()
        self._move(plan, elf, SITES[machine]["nop"])
        name = f"/plan-{self.via}.json"
        find = FIND_PAGE.format(page=page.value, plan=name)
        command = work.command.replace("/plan.json", "/tmp/plan.json")
        command = command.replace("recorder --pid", find.lstrip("\n"), 1)
        command = command.replace("/engine/known", f"LD_AUDIT={LIBRARY} /engine/known", 1)
        made: dict[str, Content] = {LIBRARY: library, name: json.dumps(plan).encode()}
        return Work(command, {**work.files, **made}, work.disk)

    def _move(self, plan: dict[str, Any], elf: Elf, site: int) -> None:
        """The plan's hot probes into the library."""
        if self.via == "direct":
            return
        [stubs] = elf.dynamic_named(STUBS_SYMBOL).values()
        for probe in plan["probes"]:
            if probe["symbol"] in FUNCTIONS:
                index = FUNCTIONS.index(probe["symbol"]) * COPIES
                offset = elf.file_offset(stubs.value + STUB_SIZE * index)
                offset += site if self.via == "stub" else 0
                code = elf.bytes_at(offset, len(probe["code"]) // 2).hex()
                probe |= {"via": self.via, "object": len(plan["objects"]), "offset": offset,
                          "code": code}  # fmt: skip
        plan["objects"].append(
            {"name": elf.path.name, "build_id": elf.note_id, "size": elf.size, "backend": "",
             "stubs": True}
        )  # fmt: skip
        if self.via == "recording":
            plan |= {"stub_page": "PAGE", "stubs": [i * COPIES for i in range(len(FUNCTIONS))]}


TASKS = [
    Task(kernel, f"by-{via}", RecordingBy("--level barrier --scheduler off", SCHEDULE, via=via))
    for kernel, ways in (
        ("arm64-5.10", ("recording",)),
        ("arm64-6.12", ("recording", "stub", "direct")),
    )
    for via in ways
]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task.name}-{task.kernel}")
def test_counts_are_the_schedules_whoever_records(
    task: Task, machines: Machines, matrix: Matrix, tmp_path: Path
) -> None:
    assert isinstance(task.make, RecordingBy)
    via = task.make.via
    matrix(f"hot functions by {via}", kernel=task.kernel, machine="aarch64", loader="libbpf")
    capture, truth = captured(machines.result(task), tmp_path)
    trace = convert(capture)
    assert_matches(trace, truth, "barrier", beside=KERNELS_OWN)
    assert ending(trace)["lost"] == "0"
    calls = [truth["calls"][function] for function in FUNCTIONS]
    records = records_of(capture, FrameKind.RECORDS)
    hot = records[[kind in HOT for kind in records["kind"]]]
    assert [(hot["kind"] == kind).sum() for kind in HOT] == calls
    # glibc has told the kernel where each thread wants to read its CPU.
    assert set(hot["cpu"].tolist()) <= {0, 1}
    stubs = frame_json(capture, FrameKind.END)["stub_rings"]
    if via != "recording":
        assert stubs is None
        return
    assert (stubs["records"], stubs["refused"], stubs["unfinished"]) == (sum(calls), 0, 0)
    assert TICK_NS < stubs["bound_ns"] < 100_000
    assert rows(trace, "INCLUDE PERFETTO MODULE profinfer.operators.runs", OUTSIDE)[1] == [(0,)]
