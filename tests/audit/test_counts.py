"""Every call of a hot function passes its stub once, and reaches the function unharmed."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import pytest

from profinfer.binaries.elf import Elf
from profinfer.binaries.relocations import linkage_words
from profinfer.engine.audit_library import FUNCTIONS
from profinfer.engine.stubs import Stub, bypasses, read_redirection
from tests.audit.conftest import Compile
from tests.audit.process import SITES, Driver, base_of, driver, probes
from tests.recording.own_probes import Refused

TIMES = (101, 13, 509)
STEPS = (7, 3, 11)


def _stubs_of(process: Driver, library: Path) -> list[Stub]:
    """The stubs of a library, one per function; no call bypasses them."""
    base, elf = base_of(process.pid, library), Elf(library)
    found = process.stubs()
    result = [found[base, function] for function in FUNCTIONS]
    for stub in result:
        assert stub.real == base + elf.symbols[stub.function].value
        assert bypasses(process.pid, base, linkage_words(elf, stub.function), stub) is None
    return result


def _check(process: Driver, index: int, library: Path, site: int, threads: int = 1) -> None:
    """Hits are calls, before the bindings are made and after."""
    redirection = read_redirection(process.pid)
    assert list(redirection.stubs.values()) == _stubs_of(process, library)
    before = process.counts(index)
    with probes(process.pid, redirection, site) as counted:
        process.run(index, STEPS, threads)
        assert counted.hits() == [threads * step for step in STEPS]
        process.run(index, TIMES, threads)
        hits = counted.hits()
    after = process.counts(index)
    assert hits == [b - a for a, b in zip(before, after, strict=True)]
    assert hits == [threads * (a + b) for a, b in zip(STEPS, TIMES, strict=True)]
    _stubs_of(process, library)


SITE_ITEMS = SITES[platform.machine()].items()


def test_some_site_is_accepted_and_each_that_is_counts_right(linked: Path, engine: Path) -> None:
    accepted = []
    for name, site in SITE_ITEMS:
        with driver(linked) as process:
            try:
                _check(process, 0, engine, site)
            except Refused:
                continue  # kernels refuse a probe on an instruction that they do not know
            accepted.append(name)
            assert process.end() == 0
    assert set(accepted) >= ({"nop1", "nop5"} if platform.machine() == "x86_64" else {"nop"})


@pytest.mark.parametrize("flag", ["lazy", "now"])
@pytest.mark.parametrize("hash_style", ["gnu", "sysv"])
@pytest.mark.parametrize("site", [4, 5] if platform.machine() == "x86_64" else [4, 8])
def test_opened(opener: Path, compiled: Compile, flag: str, hash_style: str, site: int) -> None:
    flags = (f"-Wl,-z,{flag}", f"-Wl,--hash-style={hash_style}")
    library = compiled(f"lib{flag}-{hash_style}.so", "engine.c", *flags)
    with driver(opener) as process:
        assert process.stubs() == {}
        _check(process, process.open(library), library, site)


def test_immediate_by_environment(linked: Path, engine: Path) -> None:
    with driver(linked, LD_BIND_NOW="1") as process:
        _check(process, 0, engine, 4)


def test_first_calls_by_several_threads_at_once(linked: Path, engine: Path) -> None:
    for _ in range(5):
        with driver(linked) as process:
            _check(process, 0, engine, 4, threads=8)


def test_calls_from_an_object_that_only_imports(linked: Path, engine: Path) -> None:
    with driver(linked) as process:
        [*_, barrier] = _stubs_of(process, engine)
        with probes(process.pid, read_redirection(process.pid)) as counted:
            assert process.ask("direct 211") == "211"
            assert counted.hits() == [0, 0, 211]
        executable = Elf(linked)
        base = base_of(process.pid, linked)
        assert (
            bypasses(process.pid, base, linkage_words(executable, barrier.function), barrier)
            is None
        )


def test_calls_by_a_pointer_from_dlsym(opener: Path, engine: Path) -> None:
    with driver(opener) as process:
        index = process.open(engine)
        [*_, barrier] = _stubs_of(process, engine)
        with probes(process.pid, read_redirection(process.pid)) as counted:
            assert int(process.ask(f"pointer {index} 17"), 16) == barrier.address
            assert counted.hits() == [0, 0, 17]
        assert process.counts(index) == [0, 0, 17]


def test_a_forked_child_and_its_parent(linked: Path) -> None:
    with driver(linked) as process:
        process.run(0, STEPS)
        parent = read_redirection(process.pid)
        with probes(process.pid, parent) as in_parent:
            child = int(process.ask("fork"))
            redirection = read_redirection(child)
            assert redirection.stubs == parent.stubs
            with probes(child, redirection) as in_child:
                process.run(0, TIMES)
                assert in_child.hits() == list(TIMES)
            assert process.ask("exit") == "0"
            assert in_parent.hits() == [0, 0, 0]
            process.run(0, TIMES)
            assert in_parent.hits() == list(TIMES)
        assert process.counts(0) == [a + b for a, b in zip(STEPS, TIMES, strict=True)]


def test_exec(linked: Path, engine: Path) -> None:
    with driver(linked) as process:
        process.run(0, STEPS)
        assert process.ask("exec") == "ready"
        _check(process, 0, engine, 4)


def test_slots_are_given_back_and_used_again(opener: Path, engine: Path) -> None:
    offsets = set()
    with driver(opener) as process:
        for _ in range(40):
            index = process.open(engine)
            offsets.add(tuple(stub.offset for stub in _stubs_of(process, engine)))
            process.run(index, STEPS)
            assert process.ask(f"close {index}") == "0"
            assert process.stubs() == {}
        assert len(offsets) == 1
        _check(process, process.open(engine), engine, 4)


def test_objects_that_fail_to_load_take_no_slots(
    opener: Path, engine: Path, compiled: Compile
) -> None:
    missing = compiled("libmissing.so", "int missing;")
    broken = compiled("libbroken.so", "engine.c", "-Wl,--no-as-needed", f"{missing}")
    missing.unlink()
    with driver(opener) as process:
        for _ in range(40):
            assert "libmissing.so" in process.ask(f"open {broken}")
        assert read_redirection(process.pid).stubs == {}
        assert not read_redirection(process.pid).changing
        _check(process, process.open(engine), engine, 4)


def test_copies_have_their_own_stubs(opener: Path, engine: Path, tmp_path: Path) -> None:
    copies = [tmp_path / f"copy{index}.so" for index in range(2)]
    with driver(opener) as process:
        for copy in copies:
            shutil.copy(engine, copy)
            process.open(copy)
        found = [stub for copy in copies for stub in _stubs_of(process, copy)]
        assert len({stub.address for stub in found}) == 6
        redirection = read_redirection(process.pid)
        order = [found.index(stub) for stub in redirection.stubs.values()]
        with probes(process.pid, redirection) as counted:
            process.run(0, STEPS)
            process.run(1, TIMES)
            hits = dict(zip(order, counted.hits(), strict=True))
        assert [hits[index] for index in range(6)] == [*STEPS, *TIMES]
        assert [process.counts(index) for index in range(2)] == [list(STEPS), list(TIMES)]


def test_more_copies_than_slots(opener: Path, engine: Path, tmp_path: Path) -> None:
    copies = [tmp_path / f"copy{index}.so" for index in range(17)]
    with driver(opener) as process:
        for copy in copies:
            shutil.copy(engine, copy)
            process.open(copy)
        for index, copy in enumerate(copies):
            process.run(index, STEPS)
            assert process.counts(index) == list(STEPS)
            if index < 16:
                _stubs_of(process, copy)
        last = base_of(process.pid, copies[16])
        assert [base for base, _ in process.stubs() if base == last] == []
        assert len(process.stubs()) == 16 * 3
        # One that goes makes room for the next.
        assert process.ask("close 5") == "0"
        copy = tmp_path / "copy17.so"
        shutil.copy(engine, copy)
        process.run(process.open(copy), STEPS)
        _stubs_of(process, copy)


def test_another_namespace(opener: Path, engine: Path) -> None:
    with driver(opener) as process:
        first = process.open(engine)
        second = process.open(engine, "namespace")
        assert len(process.stubs()) == 6
        redirection = read_redirection(process.pid)
        with probes(process.pid, redirection) as counted:
            process.run(first, STEPS)
            process.run(second, TIMES)
            # By function, first copies first: the order of the slots.
            assert counted.hits() == [
                hits for pair in zip(STEPS, TIMES, strict=True) for hits in pair
            ]
        assert process.counts(second) == list(TIMES)


def test_exit_while_threads_compute(opener: Path, compiled: Compile) -> None:
    """The loader closes the engine, then runs the destructors of what it depends on."""
    source = (
        "#include <unistd.h>\n__attribute__((destructor)) void linger(void) { usleep(200000); }"
    )
    slow = compiled("libslow.so", source)
    engine = compiled("libslowengine.so", "engine.c", "-Wl,--no-as-needed", f"{slow}")
    with driver(opener) as process:
        process.open(engine)
        assert len(process.stubs()) == 3
        assert process.ask("spin 4") == "spinning"
        assert process.end() == 0
