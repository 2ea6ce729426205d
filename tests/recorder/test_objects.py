"""BPF objects in the place of those inside (--object): only what fits goes into the kernel, and
what the kernel says of it is told."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import require
from tests.recorder.recording import SHORT, TIMEOUT, record
from tests.recording.helpers import Target, target

REFUSED = """
#define on_barrier on_other_barrier
#include "profinfer.bpf.c"
#undef on_barrier
SEC("uprobe") int on_barrier(void *ctx) { return *(volatile int *)0; }
"""


@pytest.fixture(scope="module")
def known(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """An engine that waits; nobody records it."""
    with target(built, tmp_path_factory.mktemp("known"), *SHORT) as found:
        yield found


@pytest.fixture(scope="module")
def objects(repo: Path) -> Path:
    """The folder of this machine's objects."""
    folder = repo / "build" / platform.machine()
    require("BPF objects", (folder / "profinfer.bpf.o").exists())
    return folder


def refuse(recorder: Path, plan: Path, known: Target, folder: Path, path: Path) -> str:
    """What a recorder says of an object that it cannot take: in the end, an error and a hint."""
    output = folder / "t.raw"
    done = subprocess.run(
        [recorder, "--pid", str(known.pid), "--plan", plan, "-o", output, "--duration", "1",
         "--transport", "ring", "--scheduler", "off", "--object", path],
        capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (4, "")
    assert not output.exists()
    assert not known.is_probed()
    return done.stderr


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"\x7fELF",
        lambda _: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data[:-64],
    ],
    ids=["foreign", "empty", "half", "cut"],
)
def test_an_object_that_is_not_whole_is_refused(
    damage: Callable[[bytes], bytes], recorder: Path, plan: Path, known: Target, objects: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    path = tmp_path / "damaged.bpf.o"
    path.write_bytes(damage((objects / "profinfer.bpf.o").read_bytes()))
    said = refuse(recorder, plan, known, tmp_path, path)
    assert f"profinfer-recorder: cannot read {path}: " in said


@pytest.mark.parametrize("name", ["scheduler.bpf.o", "launch.bpf.o"])
def test_an_object_with_other_parameters_is_refused(
    name: str, recorder: Path, plan: Path, known: Target, objects: Path, tmp_path: Path
) -> None:
    said = refuse(recorder, plan, known, tmp_path, objects / name)
    assert "profinfer-recorder: nothing sets parameter " in said or "parameters, not" in said
    assert "hint: use an object of the same version" in said


def test_what_the_verifier_says_is_told(
    recorder: Path, plan: Path, known: Target, repo: Path, tmp_path: Path
) -> None:
    path = tmp_path / "refused.bpf.o"
    compile_object(repo, REFUSED, path)
    said = refuse(recorder, plan, known, tmp_path, path)
    assert "invalid mem access" in said
    assert "profinfer-recorder: this kernel does not load the BPF programs: Permission" in said
    assert len(said) < 4096


def test_an_object_of_ones_own_records(
    recorder: Path, plan: Path, built: Path, repo: Path, tmp_path: Path
) -> None:
    """Compiled from the same sources it records the same."""
    path = tmp_path / "same.bpf.o"
    compile_object(repo, '#include "profinfer.bpf.c"\n', path)
    capture = tmp_path / "t.raw"
    _, said = record(recorder, plan, built, capture, SHORT, "--transport", "ring", "--object", path)
    assert ", 0 lost (the target ended)" in said


def compile_object(repo: Path, source: str, path: Path) -> None:
    """As tools/build_bpf.sh does, for the ring transport."""
    require("clang", shutil.which("clang"))
    arch = {"x86_64": "x86", "aarch64": "arm64"}[platform.machine()]
    text = path.with_suffix(".c")
    text.write_text(source)
    subprocess.run(
        ["clang", "-target", "bpf", "-mcpu=v3", "-O2", "-g", "-std=gnu11", "-w",
         f"-D__TARGET_ARCH_{arch}", f"-I/usr/include/{os.uname().machine}-linux-gnu",
         f"-I{repo}/bpf", "-DTRANSPORT=TRANSPORT_RING", "-c", text, "-o", path],
        check=True, timeout=TIMEOUT,
    )  # fmt: skip
