"""Objects of the libbpf loader: only what is ours, whole and fresh goes into the kernel."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from profinfer import bcc_loader, libbpf_loader, loader
from profinfer.errors import KernelError
from profinfer.launch import launch_source
from profinfer.libbpf_loader import load_libbpf
from tests.conftest import REPO, require
from tests.support import require_recording

OBJECTS = (
    "profinfer.bpf.o",
    "profinfer-perf.bpf.o",
    "scheduler.bpf.o",
    "scheduler-perf.bpf.o",
    "launch.bpf.o",
)
ADD = 0
"""The only atomic operation of kernels before 5.12: an addition that returns nothing."""


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the objects that the loader takes for its own."""
    require_recording()
    for name in OBJECTS:
        require(name, (libbpf_loader.BUILD / name).is_file())
        shutil.copy(libbpf_loader.BUILD / name, tmp_path)
    monkeypatch.setattr(libbpf_loader, "BUILD", tmp_path)
    return tmp_path


@pytest.mark.usefixtures("build")
def test_what_stops_a_launched_command_loads() -> None:
    loaded = load_libbpf(launch_source(2))
    assert set(loaded.programs) == {"on_exec", "on_fork", "on_objects_changed"}
    assert set(loaded.maps) == {"family", "stops"}
    assert all(os.readlink(f"/proc/self/fd/{fd}") for fd in loaded.programs.values())
    loaded.close()


def stale(data: bytes) -> bytes:
    at = data.index(b"profinfer-bpf ") + 20
    return data[:at] + b"Z" + data[at + 1 :]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (stale, "was not made of the sources"),
        (lambda _: b"\x7fELF", "was not made of the sources"),
        (lambda _: b"", "was not made of the sources"),
        (lambda data: data[: len(data) // 2], ""),
        (lambda data: data[:-64], "is not a whole BPF object"),
    ],
    ids=["stale", "foreign", "empty", "half", "cut"],
)
def test_an_object_that_is_not_ours_or_not_whole_is_refused(
    build: Path, damage: Callable[[bytes], bytes], reason: str
) -> None:
    path = build / "launch.bpf.o"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(KernelError, match=f"{path}.*{reason}") as error:
        load_libbpf(launch_source(2))
    assert error.value.hint


@pytest.mark.usefixtures("build")
def test_what_the_verifier_says_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    source = launch_source(2)
    beyond = replace(source, parameters={"CHILD_OFFSET": -(1 << 30)})
    with pytest.raises(KernelError, match="the kernel refuses the programs") as error:
        load_libbpf(beyond)
    assert "processed" in error.value.message
    assert len(error.value.message.splitlines()) <= 10
    # libbpf itself is silent.
    assert capfd.readouterr() == ("", "")
    load_libbpf(source).close()


@pytest.mark.parametrize("parameters", [{}, {"CHILD_OFFSET": 44, "OTHER": 1}, {"OTHER": 1}])
@pytest.mark.usefixtures("build")
def test_every_parameter_must_be_given_and_no_other(parameters: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"OTHER|CHILD_OFFSET"):
        load_libbpf(replace(launch_source(2), parameters=parameters))


def test_auto_takes_bcc_where_an_object_is_missing(build: Path) -> None:
    assert loader.choose("auto").load is load_libbpf
    (build / "profinfer-perf.bpf.o").unlink()
    chosen = loader.choose("auto")
    assert chosen.load is bcc_loader.load_bcc
    assert "profinfer-perf.bpf.o" in chosen.reason
    with pytest.raises(KernelError, match="profinfer-perf") as error:
        loader.choose("libbpf")
    assert "make setup" in error.value.hint


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("name", ["profinfer-perf.bpf.o", "launch.bpf.o"])
def test_without_the_ring_no_newer_atomic_instruction_is_used(machine: str, name: str) -> None:
    path = REPO / "build" / machine / name
    require(f"{machine}/{name}", path.is_file())
    assert atomics(path) <= {ADD}


def test_the_ring_needs_one_atomic_instruction_a_record() -> None:
    """The test above could see others."""
    path = REPO / "build" / platform.machine() / "profinfer.bpf.o"
    require(path.name, path.is_file())
    assert len(atomics(path)) > 1


def atomics(path: Path) -> set[int]:
    """The atomic operations in an object's programs, by their number in bpf(2)'s instructions."""
    found = set()
    with path.open("rb") as file:
        for section in ELFFile(file).iter_sections():
            if section.name in ("uprobe", "tracepoint"):
                code = section.data()
                for at in range(0, len(code), 8):
                    if code[at] in (0xC3, 0xDB):  # BPF_STX | BPF_ATOMIC, 4 or 8 bytes
                        found.add(int.from_bytes(code[at + 4 : at + 8], "little"))
    return found


def test_building_again_changes_nothing() -> None:
    for tool in ("clang", "llvm-strip"):
        require(tool, shutil.which(tool))
    path = REPO / "build" / platform.machine() / "launch.bpf.o"
    require(path.name, path.is_file())
    before = (path.stat().st_mtime_ns, path.read_bytes())
    subprocess.run([REPO / "tools/build_bpf.sh"], check=True, timeout=120)
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before
