"""Calls that do not pass a stub are found, and so is why a process has none."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from profinfer import built
from profinfer.binaries.elf import Elf
from profinfer.binaries.relocations import linkage_words
from profinfer.engine import audit_library, stubs
from profinfer.engine.audit_library import FUNCTIONS
from profinfer.engine.stubs import Redirection, bypasses, read_redirection
from profinfer.errors import TargetError
from tests.audit.conftest import Compile
from tests.audit.process import Driver, base_of, driver, probes
from tests.conftest import require

BARRIER = "ggml_barrier"
STEPS = (7, 3, 11)


def _reason(process: Driver, library: Path, function: str = BARRIER) -> str | None:
    base = base_of(process.pid, library)
    words = linkage_words(Elf(library), function)
    return bypasses(process.pid, base, words, process.stubs()[base, function])


@contextmanager
def _sleeping(*command: str | Path, **environ: str) -> Generator[int]:
    """The pid of a process that has said something and waits for its stdin to end."""
    process = subprocess.Popen(
        command, env={**os.environ, **environ}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdin
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stdout
        process.stdout.readline()
        yield process.pid
    finally:
        process.kill()
        process.communicate(timeout=30)


def _under_audit(*command: str | Path, audit: Path | None = None) -> Redirection:
    with _sleeping(*command, LD_AUDIT=str(audit or built.AUDIT)) as pid:
        return read_redirection(pid)


def test_calls_without_a_linkage_table(opener: Path, compiled: Compile) -> None:
    library = compiled("libnoplt.so", "engine.c", "-fno-plt")
    with driver(opener) as process:
        process.run(process.open(library), STEPS)
        for function in FUNCTIONS:
            reason = _reason(process, library, function)
            assert reason is not None
            assert "GLOB_DAT" in reason
        with probes(process.pid, read_redirection(process.pid)) as counted:
            process.run(0, STEPS)
            assert counted.hits() == [0, 0, 0]


def test_an_address_in_data(opener: Path, compiled: Compile) -> None:
    source = f'#include "{Path(__file__).parent}/engine.c"\nvoid *table[] = {{ggml_barrier}};'
    library = compiled("libtable.so", source)
    with driver(opener) as process:
        process.open(library)
        reason = _reason(process, library)
        assert reason is not None
        assert "64 at" in reason
        assert _reason(process, library, FUNCTIONS[0]) is None


def test_calls_bound_by_the_linker(opener: Path, compiled: Compile) -> None:
    library = compiled("libsymbolic.so", "engine.c", "-Wl,-Bsymbolic")
    assert [linkage_words(Elf(library), function) for function in FUNCTIONS] == [[], [], []]
    with driver(opener) as process:
        index = process.open(library)
        with probes(process.pid, read_redirection(process.pid)) as counted:
            process.run(index, STEPS)
            assert counted.hits() == [0, 0, 0]
        assert process.counts(index) == list(STEPS)


def test_a_local_address_in_data(compiled: Compile) -> None:
    source = f'#include "{Path(__file__).parent}/engine.c"\nvoid *table[] = {{ggml_barrier}};'
    library = compiled(
        "libsymbolictable.so", source, "-Wl,-Bsymbolic", "-Wl,-z,nopack-relative-relocs"
    )
    [word] = linkage_words(Elf(library), BARRIER)
    assert (word.where.split(" at ")[0].rpartition("_")[2], word.jump_slot) == ("RELATIVE", False)


def test_indirect_functions_are_left_alone(opener: Path, compiled: Compile) -> None:
    library = compiled("libifunc.so", "engine.c", "-DIFUNC")
    with driver(opener) as process:
        index = process.open(library)
        assert sorted(function for _, function in process.stubs()) == sorted(FUNCTIONS[:2])
        process.run(index, STEPS)
        assert process.counts(index) == list(STEPS)


def test_an_auditor_before_ours(opener: Path, engine: Path, compiled: Compile) -> None:
    other = compiled("libother.so", "other.c")
    with driver(opener, audit=[other, built.AUDIT]) as process:
        index = process.open(engine)
        with probes(process.pid, read_redirection(process.pid)) as counted:
            assert process.run(index, STEPS) == STEPS[2]
            assert counted.hits() == list(STEPS)
        assert process.counts(index) == list(STEPS)
        assert [_reason(process, engine, function) for function in FUNCTIONS] == [None] * 3


def test_an_auditor_after_ours(opener: Path, engine: Path, compiled: Compile) -> None:
    other = compiled("libother.so", "other.c")
    with driver(opener, audit=[built.AUDIT, other]) as process:
        index = process.open(engine)
        with probes(process.pid, read_redirection(process.pid)) as counted:
            assert process.run(index, STEPS) == STEPS[2]
            assert counted.hits() == list(STEPS)
        assert process.counts(index) == list(STEPS)
        # True of the words; that the wrapper calls the stub is nothing that we can know.
        reason = _reason(process, engine)
        assert reason is not None
        assert "not to the stub" in reason
        assert _reason(process, engine, FUNCTIONS[0]) is None


@contextmanager
def _stopped_in_open(opener: Path, engine: Path, audit: list[Path]) -> Generator[Driver]:
    """A process that stops while it loads the engine, where an auditor is told of it."""
    with driver(opener, audit=audit, STOP=engine.name) as process:
        process.tell(f"open {engine}")
        until = time.monotonic() + 10
        while " T " not in Path(f"/proc/{process.pid}/stat").read_text():
            assert time.monotonic() < until
            time.sleep(0.001)
        yield process
        os.kill(process.pid, signal.SIGCONT)
        assert process.answer() == "0"
        assert not read_redirection(process.pid).changing
        assert process.run(0, STEPS) == STEPS[2]


def test_an_object_that_is_mapped_but_not_open(
    opener: Path, engine: Path, compiled: Compile
) -> None:
    other = compiled("libother.so", "other.c")
    with _stopped_in_open(opener, engine, [other, built.AUDIT]) as process:
        assert base_of(process.pid, engine)
        found = read_redirection(process.pid)
        assert (found.stubs, found.changing) == ({}, True)


def test_an_object_that_is_open_but_not_relocated(
    opener: Path, engine: Path, compiled: Compile
) -> None:
    other = compiled("libother.so", "other.c")
    with _stopped_in_open(opener, engine, [built.AUDIT, other]) as process:
        assert [_reason(process, engine, function) for function in FUNCTIONS] == [None] * 3
        assert read_redirection(process.pid).changing


@pytest.mark.parametrize("same_name", [True, False])
def test_the_library_twice(opener: Path, engine: Path, tmp_path: Path, same_name: bool) -> None:
    copy = tmp_path / "again.so"
    shutil.copy(built.AUDIT, copy)
    with driver(opener, audit=[built.AUDIT, built.AUDIT if same_name else copy]) as process:
        process.run(process.open(engine), STEPS)
        found = read_redirection(process.pid)
        assert not found.stubs
        assert "more than once" in found.reason


@pytest.mark.parametrize("command", [["true"], [sys.executable, "-c", "pass"]])
def test_programs_without_an_engine_run(command: list[str], opener: Path) -> None:
    del opener
    environ = {**os.environ, "LD_AUDIT": str(built.AUDIT)}
    done = subprocess.run(command, env=environ, capture_output=True, check=True, timeout=30)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_a_program_without_an_engine(opener: Path) -> None:
    del opener
    found = _under_audit("cat")
    assert found.library is not None
    assert found.path == str(built.AUDIT)
    assert found.stubs == {}
    assert "no loaded object" in found.reason


def test_started_without(opener: Path) -> None:
    del opener
    with _sleeping("cat") as pid:
        assert read_redirection(pid) == Redirection(None, reason="started without LD_AUDIT")
    with _sleeping("cat", LD_AUDIT="/tmp/other.so") as pid:
        reason = read_redirection(pid).reason
        assert reason == "started without LD_AUDIT naming the audit library"


def test_a_static_executable(opener: Path, compiled: Compile) -> None:
    del opener
    program = compiled("static", '#include <stdio.h>\nint main() { puts("x"); fflush(stdout); '
                       "return getchar() + getchar(); }", "-static")  # fmt: skip
    assert _under_audit(program) == Redirection(None, reason="static executable")


def test_a_file_that_is_not_there(opener: Path) -> None:
    del opener
    found = _under_audit("cat", audit=Path("/nowhere/libprofinfer-audit.so"))
    assert found.reason == (
        "LD_AUDIT names /nowhere/libprofinfer-audit.so, which is not in its file system"
    )


def test_a_library_that_only_bears_the_name(
    opener: Path, compiled: Compile, tmp_path: Path
) -> None:
    del opener
    fake = compiled(
        "libprofinfer-audit.so",
        "long profinfer_slots[48 * 4];\n__attribute__((aligned(64))) void profinfer_stubs(void)"
        ' { __asm__(".fill 3071, 1, 0x90"); }\nunsigned la_version(unsigned v) { return v; }',
    )
    found = _under_audit("cat", audit=fake)
    assert found.library is None
    assert "ignores" in found.reason
    changed = tmp_path / "libprofinfer-audit.so"
    data = bytearray(built.AUDIT.read_bytes())
    elf = Elf(built.AUDIT)
    [code] = elf.dynamic_named(audit_library.STUBS_SYMBOL).values()
    data[elf.file_offset(code.value) + 40 * 64 + 4] ^= 1
    changed.write_bytes(data)
    assert _under_audit("cat", audit=changed).library is None


def test_a_table_full_of_nonsense(opener: Path, engine: Path) -> None:
    with driver(opener) as process:
        process.open(engine)
        [*_, table] = Elf(built.AUDIT).dynamic_named("profinfer_slots").values()
        at = base_of(process.pid, built.AUDIT) + table.value
        with Path(f"/proc/{process.pid}/mem").open("r+b", buffering=0) as memory:
            memory.seek(at)
            memory.write(os.urandom(1536))
        found = process.stubs()
        assert len(found) == 48
        elf = Elf(engine)
        for (base, function), stub in found.items():
            assert bypasses(process.pid, base, linkage_words(elf, function), stub) is not None


def test_a_process_that_has_ended(engine: Path) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    with pytest.raises(TargetError):
        read_redirection(process.pid)
    stub = stubs.Stub(BARRIER, 0, 0, 0, 0)
    assert "cannot be read" in str(
        bypasses(process.pid, 0, linkage_words(Elf(engine), BARRIER), stub)
    )


def test_damaged_relocations(engine: Path, tmp_path: Path) -> None:
    elf = Elf(engine)
    data = engine.read_bytes()
    for tag in (2, 7, 8, 9, 23):
        entry = data.index(struct.pack("<QQ", tag, elf.dynamic[tag]))
        damaged = tmp_path / "damaged.so"
        damaged.write_bytes(
            data[: entry + 8] + struct.pack("<Q", (1 << 62) + 24) + data[entry + 16 :]
        )
        with pytest.raises(TargetError, match=r"damaged\.so"):
            linkage_words(Elf(damaged), BARRIER)


def test_a_real_engine(opener: Path) -> None:
    del opener
    spec = importlib.util.find_spec("xllamacpp")
    require("the xllamacpp wheel", spec and spec.origin)
    assert spec
    assert spec.origin
    [library] = Path(spec.origin).parent.glob("xllamacpp*.so")
    code = "import sys, xllamacpp; print(flush=True); sys.stdin.readline(); sys.stdin.read()"
    with _sleeping(sys.executable, "-c", code, LD_AUDIT=str(built.AUDIT)) as pid:
        found = read_redirection(pid)
        elf, base = Elf(library), base_of(pid, library)
        assert set(found.stubs) == {(base, function) for function in FUNCTIONS}
        for (_, function), stub in found.stubs.items():
            assert stub.real == base + elf.symbols[function].value
            assert bypasses(pid, base, linkage_words(elf, function), stub) is None
