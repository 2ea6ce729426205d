"""A cgroup of the second version with a quota: how long its kernel says that it throttled is the
truth. tests/recording/test_quota.py has the first version's, on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emulated.board import Recording, captured
from tests.emulated.machine import Result, processor
from tests.emulated.machines import Machines, Task
from tests.matrix import Matrix
from tests.recorder.recording import convert
from tests.recording.helpers import BAD_STATS, number, rows

QUOTA, PERIOD = 300_000, 500_000
"""Microseconds: 60 %, throttled for so long at a time that an emulated machine's slow switches are
little of it."""
GROUP = "/sys/fs/cgroup/quota"
# The engine has the second CPU for itself, as far as the kernel's own threads let it.
MADE = f"""
taskset -p 1 $$ >/dev/null
mount -t cgroup2 none /sys/fs/cgroup && echo +cpu >/sys/fs/cgroup/cgroup.subtree_control &&
    mkdir {GROUP} && echo {QUOTA} {PERIOD} >{GROUP}/cpu.max || exit 1
trap 'cp {GROUP}/cpu.stat stat.after' EXIT"""
ENTERED = f"""
taskset -p 2 $engine >/dev/null && echo $engine >{GROUP}/cgroup.procs || exit 1
cp {GROUP}/cpu.stat stat.before"""
# One thread: of one that sleeps and is woken it is not told that it is throttled. It works until a
# time has come, throttled or not.
SCHEDULE = "--threads 1 --layers 1 --prompt 5 --decode 8 --work-us 10000"
SPENT = "SELECT coalesce(sum(dur), 0) FROM profinfer_thread_state WHERE kind = "

TASKS = [
    Task(
        kernel,
        "quota",
        Recording("--level barrier --scheduler system", SCHEDULE, beside=ENTERED, before=MADE),
    )
    for kernel in ("arm64-6.1", "x86-current")
]
"""An older kernel keeps the whole group from a CPU at once, a newer one each thread as it is about
to go on in user space."""


@pytest.mark.matrix
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("task", TASKS, ids=str)
def test_threads_are_throttled_for_as_long_as_the_kernel_counts(
    task: Task, machines: Machines, matrix: Matrix, tmp_path: Path
) -> None:
    matrix("throttled by a cgroup's quota", kernel=task.kernel,
           machine=processor(task.kernel).machine, loader="libbpf")  # fmt: skip
    result = machines.result(task)
    capture, _ = captured(result, tmp_path)
    _, [[throttled]], [[preempted]], stats = rows(
        convert(capture),
        "INCLUDE PERFETTO MODULE profinfer.scheduling.thread_states",
        SPENT + "'throttled'",
        SPENT + "'preempted'",
        BAD_STATS,
    )
    assert stats == []
    found, taken = number(throttled), number(preempted)
    truth = counted(result, "after") - counted(result, "before")
    assert truth > 500_000_000
    # While somebody else has the CPU throughout, nobody can tell why a thread does not.
    assert truth - taken - truth // 50 <= found <= truth + truth // 50, (found, taken, truth)
    assert found > truth // 2


def counted(result: Result, when: str) -> int:
    """How long the group has been throttled: of each CPU of which it used up its share, from then
    until the next period; ns. Counted when that ends."""
    lines = result.files[f"stat.{when}"].decode().splitlines()
    return 1000 * next(int(line.split()[1]) for line in lines if line.startswith("throttled_usec "))
