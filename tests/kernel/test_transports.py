"""Both transports by both loaders, filled by functions of our own: what is sent arrives in order or
is counted, and the horizon is never passed by anything that comes later."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from profinfer import kernel, uprobes
from profinfer.capture import FrameKind
from profinfer.drain import Drain
from profinfer.elf import Elf
from profinfer.layout import describe
from profinfer.layout_data import Layout
from profinfer.loaded import PERF, Loaded, load_handlers
from profinfer.means import choose_means
from profinfer.records import RECORD, RING_HEAD, Kind
from profinfer.uprobes import SITES
from tests.conftest import require
from tests.support import Engine, boottime, double_fixture

__all__ = ["double_fixture"]

RING = 4096
"""Bytes: 128 slots, or 85 samples."""
ROOM = 84
"""Records that fit into either, whatever the kernel adds."""
HIT = {"x86_64": "hit_push", "aarch64": "hit_nop"}[platform.machine()]
"""Where a probe is quick."""
THREADS = 6


@pytest.fixture(scope="module")
def layout(double: Engine) -> Layout:
    require(SITES.name, SITES.is_file())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", double.environment["XDG_CACHE_HOME"])
        return describe([double.library], uid=os.getuid(), gid=os.getgid())


@pytest.fixture(params=["libbpf-ring", "libbpf-perf", "bcc-ring", "bcc-perf"])
def load(request: pytest.FixtureRequest, layout: Layout) -> Callable[..., Loaded]:
    """Loads the handlers by one loader for one transport; on_barrier runs at every HIT."""
    loader, _, transport = request.param.partition("-")
    means = choose_means(loader, transport)

    def loaded(size: int = RING, *, boot_clock: bool = True) -> Loaded:
        return load_handlers(
            means.loader.load, layout, means.transport, size, RING, means.way.attach_type,
            boot_clock=boot_clock,
        )  # fmt: skip

    loaded.way = means.way  # type: ignore[attr-defined]
    return loaded


@contextmanager
def probed(load: Callable[..., Loaded], *args: int, **options: bool) -> Iterator[Loaded]:
    """Handlers that run at every call of HIT in this process."""
    loaded = load(*args, **options)
    elf = Elf(SITES)
    offset = elf.file_offset(elf.symbols[HIT].value)
    way: uprobes.Way = load.way  # type: ignore[attr-defined]
    attached: list[int] = []
    try:
        attached = way.attach(
            loaded.program("on_barrier"), SITES, [offset], os.getpid(), at_return=False
        )
        loaded.set_control(active=1)
        yield loaded
    finally:
        uprobes.close(attached)
        loaded.close()


@contextmanager
def on_cpu(cpu: int) -> Iterator[None]:
    usual = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, usual)


def test_records_come_in_order_and_what_does_not_fit_is_counted(
    load: Callable[..., Loaded],
) -> None:
    function = ctypes.CDLL(str(SITES))[HIT]
    function.argtypes = [ctypes.c_uint64]
    cpu = max(os.sched_getaffinity(0))
    with probed(load) as loaded, on_cpu(cpu):
        sent = lost = 0
        # Twice round all kinds of alignment, and every other time more than there is room for.
        for step in range(2 * ROOM):
            count = step * 5 % ROOM + 1 + 100 * (step % 2)
            first = sent
            for _ in range(count):
                function(sent)
                sent += 1
            rows = loaded.rings.drain(cpu).data.reshape(-1).view(RECORD)
            kept = len(rows)
            assert kept == count or kept >= ROOM
            assert rows["a"].tolist() == list(range(first, first + kept))
            assert set(rows["kind"].tolist()) == {Kind.BARRIER}
            assert set(rows["cpu"].tolist()) == {cpu}
            assert set(rows["tid"].tolist()) == {threading.get_native_id()}
            assert np.all(np.diff(rows["ts"].astype(np.int64)) >= 0)
            # The kernel tells of a loss with the next record that fits.
            if kept and loaded.transport == PERF:
                assert loaded.kernel_lost() == lost
            lost += count - kept
            losses = loaded.losses()
            assert losses["lost"][cpu, Kind.BARRIER] == losses["lost"].sum() == lost
        assert lost > 1000


def test_nothing_older_than_a_horizon_comes_after_it(load: Callable[..., Loaded]) -> None:
    """More threads than CPUs, so that some are preempted within a handler."""
    library = ctypes.CDLL(str(SITES))
    library.hit_loop.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
    function = ctypes.cast(library[HIT], ctypes.c_void_p)
    stop = threading.Event()
    calls = [0] * THREADS

    def storm(index: int) -> None:
        while not stop.is_set():
            library.hit_loop(function, 503)
            calls[index] += 503

    with probed(load, 1 << 18) as loaded:
        drain = Drain(loaded, os.getpid())
        threads = [threading.Thread(target=storm, args=[i]) for i in range(THREADS)]
        horizons = set()
        drained = 0

        def take() -> None:
            nonlocal drained
            before = drain.horizon
            for frame in drain.take([]):
                if frame.kind == FrameKind.RECORDS:
                    rows = np.frombuffer(frame.data, RECORD)
                    drained += len(rows)
                    assert not len(rows) or int(rows["ts"].min()) >= before
            horizons.add(drain.horizon)

        until = boottime() + 1_200_000_000
        for thread in threads:
            thread.start()
        try:
            while boottime() < until:
                take()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        take()
        assert len(horizons) > 20
        assert drained + drain.lost == sum(calls)
        assert drained > 10_000
        assert loaded.kernel_lost() <= drain.lost


def test_a_handler_that_has_not_finished_holds_the_horizon(load: Callable[..., Loaded]) -> None:
    function = ctypes.CDLL(str(SITES))[HIT]
    cpu = max(os.sched_getaffinity(0))
    with probed(load) as loaded, on_cpu(cpu):
        drain = Drain(loaded, os.getpid())

        def kinds() -> list[int]:
            data = [f.data for f in drain.take([]) if f.kind == FrameKind.RECORDS]
            kinds: list[int] = np.frombuffer(b"".join(data), RECORD)["kind"].tolist()
            return kinds

        function(1)
        assert kinds() == [Kind.BARRIER]
        horizon = drain.horizon
        assert horizon > 0
        # As a handler does that is preempted before its record is complete: it begins ...
        with mmap.mmap(loaded.programs.maps["ring_heads"], mmap.PAGESIZE) as heads:
            words = memoryview(heads).cast("Q")
            head = cpu * RING_HEAD.itemsize // 8
            words[head] += 1
            function(2)
            come = kinds()
            assert come == ([Kind.BARRIER] if loaded.transport == PERF else [])
            assert kinds() == []
            assert drain.horizon == horizon
            # ... and ends.
            if loaded.transport == PERF:
                words[head + 2] += 1
            else:
                finish(loaded, cpu, 1)
            words.release()
        assert kinds() == ([] if loaded.transport == PERF else [Kind.GRAPH_END, Kind.BARRIER])
        assert drain.horizon > horizon


def finish(loaded: Loaded, cpu: int, slot: int) -> None:
    """Completes the record in a slot of the first lap."""
    row = np.zeros(1, RECORD)
    row["ts"], row["cpu"], row["kind"], row["mark"] = boottime(), cpu, Kind.GRAPH_END, 1
    key = struct.pack("<I", cpu * RING // RECORD.itemsize + slot)
    kernel.map_update(loaded.programs.maps["ring_slots"], key, row.tobytes())


def test_without_the_boottime_clock_times_are_the_same(load: Callable[..., Loaded]) -> None:
    function = ctypes.CDLL(str(SITES))[HIT]
    with probed(load, boot_clock=False) as loaded:
        begin = boottime()
        function(1)
        end = boottime()
        rows = (
            np.concatenate([loaded.rings.drain(c).data for c in range(loaded.rings.cpus)])
            .reshape(-1)
            .view(RECORD)
        )
        [ts] = rows["ts"].tolist()
        # The difference of the clocks was read within microseconds.
        assert begin - 100_000 < ts < end + 100_000
