"""What the recorder finds a kernel to have, and what hits cost there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import REPO, require
from tests.emulated.guest import build
from tests.emulated.machine import processor
from tests.emulated.machines import Machines, Task, Work, Workshop
from tests.matrix import Matrix

KINDS = ["adr", "b", "b.cond", "br", "cbz", "hint", "nop", "stepped", "stp", "tbz"]


def is_old(kernel: str) -> bool:
    return kernel.endswith("-5.10")


def ask(workshop: Workshop, task: Task) -> Work:
    recorder = REPO / f"build/{processor(task.kernel).machine}/profinfer-recorder-static"
    require(f"{recorder.relative_to(REPO)}", recorder.exists())
    source = Path(__file__).with_name("ask.c")
    program = workshop.once("ask", lambda folder: build(task.kernel, source, folder / "ask"))
    wanted = {"verb": "means", "transport": "auto", "attach": "auto", "loader": "auto"}
    requests = [
        wanted,
        wanted | {"attach": "perf_event"},
        wanted | {"attach": "uprobe_multi"},
        {"verb": "hit_costs", "attach": "perf_event" if is_old(task.kernel) else "uprobe_multi"},
    ]
    words = " ".join(f"'{json.dumps(request)}'" for request in requests)
    return Work(f"ask /bin/recorder {words}", {"/bin/ask": program, "/bin/recorder": recorder})


ASKED = [Task(kernel, "means", ask) for kernel in ("arm64-5.10", "arm64-6.12")]


@pytest.mark.matrix
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("task", ASKED, ids=str)
def test_means_are_found_and_hits_measured(task: Task, machines: Machines, matrix: Matrix) -> None:
    old = is_old(task.kernel)
    transport, way = ("perf", "perf_event") if old else ("ring", "uprobe_multi")
    matrix("hit costs measured", kernel=task.kernel, machine="aarch64", loader="libbpf", attach=way)
    result = machines.result(task).check()
    best, by_event, by_link, costs = map(json.loads, result.output.splitlines())
    why = "this kernel has no uprobe_multi links" if old else ""
    assert best == {
        "answer": "means", "transport": transport, "attach": way, "attach_reason": why,
        "boot_clock": True, "task_registers": not old,
    }  # fmt: skip
    assert by_event == best | {"attach": "perf_event", "attach_reason": "a link is not asked for"}
    if old:
        assert (by_link["event"], by_link["code"]) == ("failed", 4)
        assert by_link["message"] == f"no probes by uprobe_multi link: {why}"
    else:
        assert by_link == best
    by_stub = costs["sites"].pop("recording")
    assert sorted(costs["sites"]) == KINDS
    assert all(ns > 100 for ns in costs["sites"].values())
    assert 0 < by_stub < min(costs["sites"].values())
    assert costs["empty_handler_ns"] > 10
