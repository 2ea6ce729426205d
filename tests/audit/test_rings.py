"""What stubs write themselves, while they are switched on: read as the recorder reads it."""

from __future__ import annotations

import os
import platform
import shutil
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from profinfer.binaries.elf import Elf
from profinfer.engine.audit_library import COPIES, PAGE_SYMBOL, STUBS
from profinfer.engine.stubs import read_redirection
from tests.audit.conftest import Compile
from tests.audit.process import TIMEOUT, Driver, driver
from tests.conftest import REPO, require

ROOM, RINGS = 1 << 12, 8
NATIVE = platform.machine()
MACHINES = ("x86_64", "aarch64")
CPU_UNKNOWN = 0xFFF
_MASK_AT, _FILE_AT = 48 * 8, 48 * 8 + 16
_OPS_AT = _FILE_AT + 16
_HEAD, _RING_HEAD = 128, 128
_WORD = 0x1234567800000001
"""On, by a recorder that has PID 1."""


class Rings:
    """The page and the file of a driver."""

    def __init__(self, pid: int, library: Path) -> None:
        """Under an emulator its addresses are as in the process that it emulates."""
        self._folder = f"/proc/{pid}"
        maps = [line.split() for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
        [page] = Elf(library).dynamic_named(PAGE_SYMBOL).values()
        self.page = page.value + min(
            int(words[0].split("-")[0], 16) for words in maps if words[-1] == str(library)
        )
        self._memory = os.open(f"/proc/{pid}/mem", os.O_RDWR)
        os.pwrite(self._memory, struct.pack("<QQ", ROOM - 1, RINGS), self.page + _MASK_AT)
        start, state = struct.unpack("<QQ", os.pread(self._memory, 16, self.page + _FILE_AT))
        assert state == 1
        [span] = [words[0] for words in maps if int(words[0].split("-")[0], 16) == start]
        self._file = os.open(f"/proc/{pid}/map_files/{span}", os.O_RDWR)

    def switch(self, word: int = _WORD) -> None:
        """Every stub in use: the first of each function."""
        for stub in range(0, STUBS, COPIES):
            os.pwrite(self._memory, struct.pack("<Q", word), self.page + 8 * stub)

    def switches(self) -> set[int]:
        """The words of the stubs in use."""
        return set(struct.unpack("<48Q", os.pread(self._memory, 48 * 8, self.page))[::COPIES])

    def leave(self, op_at: int) -> None:
        """Operators of ops 7 and 8, which stand so many bytes behind where tensors begin."""
        os.pwrite(self._memory, struct.pack("<QII", op_at, 7, 8), self.page + _OPS_AT)

    def _at(self, ring: int) -> int:
        return _HEAD + ring * (_RING_HEAD + 32 * ROOM)

    def head(self, ring: int) -> tuple[int, ...]:
        """next, limit, owner, lost of nothing, of operators, of fused ones, of barriers."""
        return struct.unpack("<7Q", os.pread(self._file, 56, self._at(ring)))

    def lost(self) -> tuple[int, ...]:
        """Of threads without a ring."""
        return struct.unpack("<4Q", os.pread(self._file, 32, 0))

    def records(self, ring: int) -> Iterator[tuple[int, int, int, int, int, int]]:
        """Counter, a, b, thread, kind and CPU of the finished ones of a ring's first lap."""
        count = min(self.head(ring)[0], ROOM)
        raw = os.pread(self._file, 32 * count, self._at(ring) + _RING_HEAD)
        for number, (counter, a, b, word) in enumerate(struct.iter_unpack("<4Q", raw)):
            if word >> 36 == number + 1:
                yield counter, a, b, word & 0x3FFFFF, word >> 22 & 3, word >> 24 & 0xFFF

    def take(self, ring: int, taken: int, again: int | None = None) -> None:
        """Gives room back; `again`: not yet as a whole."""
        both = struct.pack("<QQ", taken, taken if again is None else again)
        os.pwrite(self._file, both, self._at(ring) + 64)

    def occupy(self, first: int, owner: int) -> None:
        """Gives a thread all rings from `first` on."""
        for ring in range(first, RINGS):
            os.pwrite(self._file, struct.pack("<Q", owner), self._at(ring) + 16)

    def wait_for_the_end_of(self, ring: int) -> None:
        """Of the thread that has it: it may still be there when it has been joined."""
        until = time.monotonic() + TIMEOUT
        while Path(self._folder, "task", str(self.head(ring)[2])).exists():
            assert time.monotonic() < until
            time.sleep(0.001)

    def close(self) -> None:
        os.close(self._memory)
        os.close(self._file)


@pytest.fixture
def opened(
    request: pytest.FixtureRequest, libraries: dict[str, Path], compiled: Compile
) -> Iterator[tuple[Driver, Rings]]:
    """A driver that has loaded the engine; for the other machine, under an emulator."""
    machine: str = getattr(request, "param", NATIVE)
    require("root, which writes to its memory", os.geteuid() == 0)
    require(f"an audit library for {machine}", machine in libraries)
    library = libraries[machine]
    compiler, emulator = "gcc", list[str]()
    if machine != NATIVE:
        compiler, root = f"{machine}-linux-gnu-gcc", f"/usr/{machine}-linux-gnu"
        require(f"qemu-{machine} (qemu-user)", shutil.which(f"qemu-{machine}"))
        require(compiler, shutil.which(compiler) and Path(root).is_dir())
        emulator = [f"qemu-{machine}", "-L", root, "-E", f"LD_AUDIT={library}"]
    engine = compiled(f"lib{machine}.so", "engine.c", "-Wl,-z,lazy", compiler=compiler)
    program = compiled(f"opener-{machine}", "driver.c", compiler=compiler)
    with driver(*emulator, program, audit=[] if emulator else [library]) as found:
        found.open(engine)
        rings = Rings(found.pid, library)
        try:
            yield found, rings
        finally:
            rings.close()


on_both = pytest.mark.parametrize("opened", MACHINES, indirect=True)


def _counts(rings: Rings) -> list[int]:
    kinds = [kind for ring in range(RINGS) for *_, kind, _ in rings.records(ring)]
    return [kinds.count(kind) for kind in (1, 2, 3)]


@on_both
def test_each_call_is_a_record_and_no_argument_changes(opened: tuple[Driver, Rings]) -> None:
    found, rings = opened
    found.run(0, (100, 10, 100))
    assert _counts(rings) == [0, 0, 0], "off"
    rings.switch()
    found.run(0, (201, 0, 303), threads=3)
    assert _counts(rings) == [603, 0, 909]
    # qemu-user has no rseq(2), which is where arm64's CPU comes from.
    is_emulated = "qemu" in os.readlink(f"/proc/{found.pid}/exe")
    cpus = {CPU_UNKNOWN} if is_emulated else set(range(os.cpu_count() or 1))
    threads = set()
    for ring in range(3):
        records = list(rings.records(ring))
        counters = [counter for counter, *_ in records]
        assert counters == sorted(counters)
        assert counters[0] > 0
        # Operators' second argument, and barriers' first: on x86_64 it is where the result goes.
        assert [a for _, a, _, _, kind, _ in records if kind == 1] == [1] * 201
        barriers = [a for _, a, _, _, kind, _ in records if kind == 3]
        assert all(barriers) or barriers == list(range(303))
        assert {b for _, _, b, _, _, _ in records} == {0}
        assert {cpu for *_, cpu in records} <= cpus
        threads |= {tid for _, _, _, tid, _, _ in records}
        assert threads >= {rings.head(ring)[2]}
    assert len(threads) == 3
    rings.switch(0)
    found.run(0, (100, 10, 100))
    assert _counts(rings) == [603, 0, 909]


@on_both
def test_operators_of_certain_ops_are_left_to_a_probe(opened: tuple[Driver, Rings]) -> None:
    found, rings = opened
    rings.switch()
    # The engine's tensor is at address 1: its op is what stands in the page itself.
    ops, tensor = rings.page + _OPS_AT + 8, 1
    for at, expected in ((ops, 0), (ops + 4, 0), (ops - 8, 20), (0, 40)):
        rings.leave(at and at - tensor)
        found.run(0, (20, 0, 10))
        assert _counts(rings)[0] == expected
    assert _counts(rings) == [40, 0, 40]


@on_both
def test_a_full_ring_counts_what_it_drops(opened: tuple[Driver, Rings]) -> None:
    found, rings = opened
    rings.occupy(1, found.pid)
    rings.switch()
    found.run(0, (ROOM, 0, 0))
    rings.wait_for_the_end_of(0)
    # Another thread has the ring of one that has ended, and what stands there stays.
    found.run(0, (70, 0, 30))
    assert rings.head(0)[:2] == (ROOM, ROOM)
    assert rings.head(0)[4:] == (70, 0, 30)
    rings.take(0, 100)
    rings.wait_for_the_end_of(0)
    found.run(0, (0, 0, 99))
    assert rings.head(0)[:2] == (ROOM + 99, ROOM + 100)
    rings.wait_for_the_end_of(0)
    found.run(0, (2, 0, 0))
    assert rings.head(0)[0] == ROOM + 100
    assert rings.head(0)[4:] == (71, 0, 30)


@on_both
def test_room_that_is_not_given_back_as_a_whole_is_none(opened: tuple[Driver, Rings]) -> None:
    found, rings = opened
    rings.occupy(1, found.pid)
    rings.switch()
    found.run(0, (ROOM, 0, 0))
    for taken, again in ((ROOM + 1, ROOM + 1), (1 << 63, 1 << 63), (7, 5)):
        rings.take(0, taken, again)
        rings.wait_for_the_end_of(0)
        found.run(0, (1, 0, 0))
    assert rings.head(0)[0] == ROOM
    assert rings.head(0)[4] == 3


@on_both
def test_a_thread_without_a_ring_is_counted(opened: tuple[Driver, Rings]) -> None:
    found, rings = opened
    rings.occupy(0, found.pid)
    rings.switch()
    found.run(0, (20, 0, 10), threads=2)
    assert rings.lost() == (0, 40, 0, 20)
    assert _counts(rings) == [0, 0, 0]


def test_a_child_has_no_ring(opened: tuple[Driver, Rings]) -> None:
    found, rings = opened
    rings.switch()
    found.run(0, (20, 0, 10))
    child = int(found.ask("fork"))
    redirection = read_redirection(child)
    assert redirection.cannot_record == "it has been forked from the process that loaded the engine"
    assert (redirection.page, len(redirection.stubs)) == (rings.page, 3)
    assert "profinfer-rings" not in Path(f"/proc/{child}/maps").read_text()
    found.run(0, (20, 0, 10))
    # Even where somebody switches it on.
    memory = os.open(f"/proc/{child}/mem", os.O_RDWR)
    os.pwrite(memory, struct.pack("<48Q", *[_WORD] * 48), rings.page)
    os.close(memory)
    found.run(0, (20, 0, 10))
    found.tell("exit")
    found.answer()
    assert _counts(rings) == [20, 0, 10]
    found.run(0, (1, 0, 0))
    assert _counts(rings) == [21, 0, 10]


FILTERED = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None)
allow = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7fff0000))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", 1, ctypes.addressof(allow)))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_under_a_filter_of_system_calls_nothing_is_made_ready(opener: Path, engine: Path) -> None:
    with driver(sys.executable, "-c", FILTERED, opener) as found:
        found.open(engine)
        redirection = read_redirection(found.pid)
        assert len(redirection.stubs) == 3
        assert "seccomp" in redirection.cannot_record
        found.run(0, (100, 10, 100))


FILTERS = """#include <linux/filter.h>
#include <sys/prctl.h>
__attribute__((constructor)) static void filter(void) {
  struct sock_filter allow = {BPF_RET | BPF_K, 0, 0, 0x7fff0000};
  struct sock_fprog program = {1, &allow};
  if (!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    prctl(PR_SET_SECCOMP, 2, &program, 0, 0);
}
"""


def test_under_a_filter_that_came_later_nothing_is_recorded(
    opened: tuple[Driver, Rings], compiled: Compile
) -> None:
    found, _ = opened
    found.open(compiled("libfilters.so", FILTERS))
    assert "seccomp" in read_redirection(found.pid).cannot_record


def test_stubs_of_nobody_switch_themselves_off(
    opener: Path, engine: Path, compiled: Compile
) -> None:
    sources = [str(REPO / "audit" / name) for name in ("audit.c", "rings.c")]
    impatient = compiled(
        "libprofinfer-audit.so", sources[0], sources[1], "-DGIVE_UP_NS=50000000", "-ffreestanding",
        "-nostdlib", "-fno-stack-protector", "-mgeneral-regs-only", "-fvisibility=hidden",
        "-Wl,-z,now",
    )  # fmt: skip
    with driver(opener, audit=[impatient]) as found:
        found.open(engine)
        rings = Rings(found.pid, impatient)
        rings.occupy(1, found.pid)
        rings.switch()
        found.run(0, (ROOM + 1, 0, 0))
        time.sleep(0.1)
        found.run(0, (512, 0, 0))
        assert rings.switches() == {_WORD}
        found.run(0, (1024, 0, 0))
        assert rings.switches() == {0}
        rings.close()


FORBIDS = """#include <sys/prctl.h>
__attribute__((constructor)) static void forbid(void) { prctl(PR_SET_TSC, PR_TSC_SIGSEGV); }
"""


def test_threads_that_may_not_read_the_counter_are_counted(
    opened: tuple[Driver, Rings], compiled: Compile
) -> None:
    found, rings = opened
    found.open(compiled("libforbids.so", FORBIDS))
    rings.switch()
    found.run(0, (20, 0, 10), threads=2)
    assert rings.lost() == (0, 40, 0, 20)
    assert struct.unpack("<Q", os.pread(rings._file, 8, 32)) == (2,)
    assert _counts(rings) == [0, 0, 0]
