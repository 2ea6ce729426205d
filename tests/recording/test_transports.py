"""Both transports by both loaders, filled by a process that does nothing else: what is sent arrives
in order or is counted, and the horizon is never passed by anything that comes later."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from profinfer.binaries.elf import Elf
from profinfer.probes.plan_file import dump
from profinfer.recording.recorder import Link, Server, pair
from profinfer.records.capture import LOSS_ENTRY, FrameKind, read_capture
from profinfer.records.dtypes import RECORD, Kind, Records, join
from tests.recorder.recording import frame_json, make_plan
from tests.recording.own_probes import build_sites, lacking_helper
from tests.support import Engine, boottime, double_fixture, record

__all__ = ["double_fixture"]

RING = 4096
"""Bytes: 128 slots, or 85 samples."""
ROOM = 84
"""Records that fit into either, whatever the kernel adds."""
HIT = {"x86_64": "hit_push", "aarch64": "hit_nop"}[platform.machine()]
"""Where a probe is quick."""
THREADS, LOOP = 6, 503
BOOT_CLOCK = 125
"""bpf_ktime_get_boot_ns"""

HITTER = """
import ctypes, os, sys, threading
library = ctypes.CDLL(sys.argv[1])
function = library[sys.argv[2]]
function.argtypes = [ctypes.c_uint64]
address = ctypes.cast(function, ctypes.c_void_p)
library.hit_loop.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
def hit(first, count):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    for number in range(first, first + count):
        function(number)
def storm(threads, loop, seconds):
    stop = threading.Event()
    calls = [0] * threads
    def run(index):
        while not stop.is_set():
            library.hit_loop(address, loop)
            calls[index] += loop
    started = [threading.Thread(target=run, args=[index]) for index in range(threads)]
    for thread in started: thread.start()
    stop.wait(seconds)
    stop.set()
    for thread in started: thread.join()
    return sum(calls)
print("ready", flush=True)
for line in sys.stdin:
    print(eval(line), flush=True)
"""


class Hitter:
    """A process that runs into a probe as often as it is told."""

    def __init__(self, library: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", HITTER, str(library), HIT],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.pid = self._process.pid
        self._line()

    def _line(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline()

    def run(self, call: str) -> Any:
        """What comes of a call of `hit` or `storm`."""
        assert self._process.stdin
        self._process.stdin.write(call + "\n")
        self._process.stdin.flush()
        return json.loads(self._line().replace("None", "null"))

    def close(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=20)


@dataclass
class Taking:
    """A recording of a hitter."""

    hitter: Hitter
    link: Link
    capture: Path

    def rows(self) -> Records:
        """The records in it, in the order in which they came."""
        frames = [f for f in read_capture(self.capture) if f.kind == FrameKind.RECORDS]
        return join([np.frombuffer(f.data, RECORD) for f in frames])

    def end(self) -> None:
        """Ends it, and everything is in the capture."""
        self.link.tell("stop", reason="the test is over")
        self._until("over")
        self.link.tell("finish", command_status=None)
        self._until("ended")

    def _until(self, event: str) -> None:
        while (message := self.link.next() or {"event": "gone"})["event"] != event:
            assert message["event"] in ("attached", "progress"), message


@pytest.fixture(scope="module")
def sites(double: Engine) -> Path:
    return build_sites(double.folder)


@pytest.fixture(scope="module")
def plan(sites: Path, double: Engine) -> bytes:
    """on_barrier runs at every HIT."""
    content = json.loads(make_plan(double.library, double.folder / "plan.json").read_text())
    elf = Elf(sites)
    [item] = content["objects"]
    identity = {"build_id": elf.note_id, "size": elf.size, "sha256": elf.sha256()}
    content["objects"] = [{**item, "name": sites.name, **identity}]
    offset = elf.file_offset(elf.symbols[HIT].value)
    probe = {"symbol": HIT, "handler": "on_barrier", "level": "barrier", "object": 0}
    content["probes"] = [{**probe, "offset": offset, "at_return": False, "required": True}]
    content["backends"] = []
    return dump(content)


@pytest.fixture(params=["libbpf-ring", "libbpf-perf", "bcc-ring", "bcc-perf"])
def means(request: pytest.FixtureRequest) -> dict[str, str]:
    """What it is recorded with."""
    loader, _, transport = request.param.partition("-")
    return {"loader": loader, "transport": transport, "attach": "auto"}


@contextmanager
def taken(
    sites: Path, plan: bytes, means: dict[str, str], capture: Path, **options: object
) -> Iterator[Taking]:
    """A hitter that is being recorded."""
    file = os.memfd_create("plan")
    os.write(file, plan)
    os.lseek(file, 0, os.SEEK_SET)
    hitter = Hitter(sites)
    try:
        with Server() as server, capture.open("wb") as stream:
            link, theirs = pair()
            server.ask(
                "record", [theirs.fileno(), file, stream.fileno()], pid=hitter.pid,
                level="barrier", scheduler="off", output=str(capture),
                structure_ring_size=RING, **means, **options,
            )  # fmt: skip
            theirs.close()
            message = link.next()
            assert message
            assert message["event"] == "attached", message
            yield Taking(hitter, link, capture)
            link.close()
    finally:
        hitter.close()
        os.close(file)


def test_records_come_in_order_and_what_does_not_fit_is_counted(
    sites: Path, plan: bytes, means: dict[str, str], tmp_path: Path
) -> None:
    sent = 0
    kept_before = 0
    with taken(sites, plan, means, tmp_path / "raw", ring_size=RING, poll=0.02) as taking:

        def hit(count: int) -> None:
            nonlocal sent
            taking.hitter.run(f"hit({sent}, {count})")
            sent += count

        def is_drained() -> bool:
            rows = taking.rows()
            return bool(len(rows)) and int(rows["a"][-1]) == sent - 1

        # Twice round all kinds of alignment, and every other time more than there is room for.
        for step in range(0, 2 * ROOM, 3):
            count = step * 5 % ROOM + 1 + 1000 * (step % 2)
            hit(count)
            extra = 0
            # What follows a record has come after it or is lost; the last one itself may be lost.
            until = time.monotonic() + 20
            while not is_drained():
                assert time.monotonic() < until
                time.sleep(0.02)
                if count > ROOM and not is_drained():
                    hit(1)
                    extra += 1
            kept = len(taking.rows()) - kept_before
            kept_before += kept
            assert kept == count if count <= ROOM else ROOM <= kept <= count + extra
        taking.end()
        rows = taking.rows()
    numbers = rows["a"].astype(np.int64)
    assert np.all(np.diff(numbers) > 0)
    assert set(rows["kind"].tolist()) == {Kind.BARRIER}
    assert set(rows["cpu"].tolist()) == {max(os.sched_getaffinity(0))}
    assert set(rows["tid"].tolist()) == {taking.hitter.pid}
    assert np.all(np.diff(rows["ts"].astype(np.int64)) >= 0)
    losses = [
        np.frombuffer(frame.data, LOSS_ENTRY)[-1]
        for frame in read_capture(taking.capture)
        if frame.kind == FrameKind.LOSS
    ]
    lost = sent - len(rows)
    assert losses[-1]["lost"] == lost > 0
    assert losses[-1]["kind"] == Kind.BARRIER
    end = frame_json(taking.capture, FrameKind.END)
    assert (end["drained"], end["lost"]) == (len(rows), lost)


def test_nothing_older_than_a_horizon_comes_after_it(
    sites: Path, plan: bytes, means: dict[str, str], tmp_path: Path
) -> None:
    """More threads than CPUs, so that some are preempted within a handler."""
    options = {"ring_size": 1 << 18, "poll": 0.01}
    with taken(sites, plan, means, tmp_path / "raw", **options) as taking:
        calls = taking.hitter.run(f"storm({THREADS}, {LOOP}, 3)")
        taking.end()
    horizon = drained = 0
    horizons = set()
    for frame in read_capture(taking.capture):
        if frame.kind == FrameKind.RECORDS:
            rows = np.frombuffer(frame.data, RECORD)
            drained += len(rows)
            assert not len(rows) or int(rows["ts"].min()) >= horizon
            assert frame.ts >= horizon
            horizon = frame.ts
            horizons.add(horizon)
    end = frame_json(taking.capture, FrameKind.END)
    assert len(horizons) > 20
    assert drained + end["lost"] == calls
    assert drained > 10_000


def test_without_the_boottime_clock_times_are_the_same(double: Engine, tmp_path: Path) -> None:
    """On a kernel that does not lend BPF the clock."""
    raw, target = tmp_path / "raw", ("known", "--decode", 3)
    preloaded = Engine(double.folder, lacking_helper(tmp_path, BOOT_CLOCK, only_tries=True))
    begun = boottime()
    with record(preloaded, tmp_path / "t", "--raw", raw, target=target) as recording:
        graphs = recording.truth["graphs"]
        slices = recording.rows(
            "SELECT ts, ts + dur FROM slice WHERE category = 'graph' ORDER BY ts"
        )
    assert frame_json(raw, FrameKind.START)["boot_clock"] is False
    assert len(slices) == len(graphs) > 0
    for (*_, start, stop), (begin, end) in zip(graphs, slices, strict=True):
        # The difference of the clocks was read within microseconds.
        assert begun < start - 100_000 <= int(str(begin)) < int(str(end)) <= stop + 100_000
