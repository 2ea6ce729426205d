"""A cgroup of the second version with a quota: how long its kernel says that it throttled is the
truth. tests/recording/test_quota.py has the first version's, on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from profinfer.trace_processor import open_trace
from tests.emulated.board import Recording, captured
from tests.emulated.machine import Result, processor
from tests.emulated.machines import Machines, Task
from tests.matrix import Matrix
from tests.recorder.recording import convert
from tests.recording.helpers import BAD_STATS
from tests.recording.quota import within
from tests.support import as_int

QUOTA, PERIOD = 300_000, 500_000
"""Microseconds: 60 %, throttled for so long at a time that an emulated machine's slow switches are
little of it."""
GROUP = "/sys/fs/cgroup/quota"
MADE = f"""
grep -q cgroup2 /proc/mounts || mount -t cgroup2 none /sys/fs/cgroup
echo +cpu >/sys/fs/cgroup/cgroup.subtree_control && mkdir -p {GROUP} &&
    echo {QUOTA} {PERIOD} >{GROUP}/cpu.max && echo 10000 >{GROUP}/cpu.weight || exit 1
trap 'cp {GROUP}/cpu.stat stat.after' EXIT"""
ENTERED = f"""
echo $engine >{GROUP}/cgroup.procs || exit 1
cp {GROUP}/cpu.stat stat.before"""
# It works until a time has come, throttled or not.
SCHEDULE = "--layers 1 --prompt 5 --decode 8 --work-us 10000 --threads"
# One thread has the second CPU for itself, as far as the kernel's own threads let it.
ALONE = "taskset -p 1 $$ >/dev/null\n"
# Others have its CPU throughout.
BUSY = "\ntaskset 2 sh -c 'while :; do :; done' &"
PINNED = "\ntaskset -p 2 $engine >/dev/null"
# Three sleep until the last of them has done its part: they are woken on CPUs of which others have
# used up the group's share.
# While others have this machine, what is emulated on it stands still, its clocks apart: then it is
# measured again.
TASKS = [
    tuple(
        Task(
            kernel,
            name,
            Recording(
                "--level barrier --scheduler system",
                f"{SCHEDULE} {threads}",
                beside=(PINNED if threads == 1 else "") + ENTERED + BUSY * is_busy,
                before=(ALONE if threads == 1 else "") + MADE,
            ),
        )
        for name in ("quota", "quota-again", "quota-once-more")
    )
    for kernel, threads, is_busy in (
        ("arm64-6.1", 3, False), ("x86-6.12", 1, True), ("x86-current", 1, False),
    )
]  # fmt: skip
"""An older kernel keeps the whole group from a CPU at once, and counts for how long since 6.6; a
newer one each thread as it is about to go on in user space."""
WAKES_NS = 150_000_000
"""As long as an emulated machine's idle CPU may take to wake up, at most; in a period the group is
throttled for 200 ms and more."""
ALWAYS = (0, 1 << 62)


@pytest.mark.matrix
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("task", "again", "once_more"), TASKS, ids=[task.kernel for task, *_ in TASKS]
)
def test_threads_are_throttled_for_as_long_as_the_kernel_counts(
    task: Task, again: Task, once_more: Task, machines: Machines, matrix: Matrix, tmp_path: Path
) -> None:
    matrix("throttled by a cgroup's quota", kernel=task.kernel,
           machine=processor(task.kernel).machine, loader="libbpf")  # fmt: skip
    wrong = []
    for each in (task, again, once_more):
        folder = tmp_path / each.name
        folder.mkdir()
        if not (said := measured(machines.result(each), folder)):
            return
        wrong.append(said)
    pytest.fail("; ".join(wrong))


def measured(result: Result, folder: Path) -> str:
    """What is wrong about a recording, if anything is."""
    capture, _ = captured(result, folder)
    with open_trace(convert(capture)) as session:
        if bad := session.query(BAD_STATS).rows():
            return f"{bad}"
        found = within(session, "throttled", ALWAYS)
        [(longest,)] = session.query(
            "SELECT coalesce(max(end_ts - ts), 0) FROM _woken_to_idle"
            " WHERE NOT state_id IN (SELECT state_id FROM _throttled)"
        ).rows()
    truth = counted(result, "after") - counted(result, "before")
    wake = as_int(longest)
    if truth > 500_000_000 and abs(found - truth) <= truth // 50 and wake < WAKES_NS:
        return ""
    return f"{found} ns found, {truth} counted; woken for {wake} ns at most"


def counted(result: Result, when: str) -> int:
    """How long the group has been throttled: of each CPU of which it used up its share, from then
    until the next period; ns. Counted when that ends."""
    lines = result.files[f"stat.{when}"].decode().splitlines()
    return 1000 * next(int(line.split()[1]) for line in lines if line.startswith("throttled_usec "))
