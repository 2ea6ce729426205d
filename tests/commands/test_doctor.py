"""`doctor` of packages, and its exit status: 0 exactly when level operator can be recorded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from profinfer.commands import doctor
from profinfer.errors import GraphNeeded, ProbeError
from profinfer.probes.files import FileTarget
from profinfer.trace_processor import open_trace
from tests.commands.command import REPO, TIMEOUT, Ran, profinfer, running, written

pytestmark = pytest.mark.usefixtures("root")

_MACHINE_AT, _OF_ARM64, _OF_SPARC = 18, 183, 43
"""Where an ELF file's header names the machine; numbers of machines."""


def _for_machine(library: Path, copy: Path, machine: int) -> Path:
    data = bytearray(library.read_bytes())
    data[_MACHINE_AT : _MACHINE_AT + 2] = machine.to_bytes(2, "little")
    copy.write_bytes(data)
    return copy


@pytest.fixture(scope="session")
def without_operators(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an engine whose ggml_cpu_extra_compute_forward has another name."""
    folder = tmp_path_factory.mktemp("without-operators")
    names = ("ggml_cpu_extra_compute_forward", "ggml_compute_forward_rms_norm_mul_fused")
    flags = " ".join(f"-D{name}=hidden_{name[-5:]}" for name in names)
    subprocess.run(
        ["sh", REPO / "tests/double/build.sh", folder], check=True, timeout=TIMEOUT,
        env={**os.environ, "CFLAGS": flags},
    )  # fmt: skip
    return folder


@pytest.fixture
def package(engine: Path, engine_without_barrier: Path, tmp_path: Path) -> Path:
    """As packages come: builds in folders, copies for other machines, and much that is no code."""
    folder = tmp_path / "package"
    for name, source in (("fast", engine), ("slow", engine_without_barrier)):
        (folder / name).mkdir(parents=True)
        shutil.copy(source / "libknown.so", folder / name)
    _for_machine(engine / "libknown.so", folder / "libknown-arm64.so", _OF_ARM64)
    _for_machine(engine / "libknown.so", folder / "libknown-sparc.so", _OF_SPARC)
    written(folder / "README", "not code")
    (folder / "link").symlink_to("/proc/self/mem")
    written(folder / "cut.so", "\x7fELF")
    return folder


def _check(ran: Ran, name: str) -> list[str]:
    """The lines of one check."""
    lines = ran.out.splitlines()
    first = next(i for i, line in enumerate(lines) if line.split()[1:2] == [name])
    rest = next((i for i in range(first + 1, len(lines)) if lines[i][:1].strip()), len(lines))
    return lines[first:rest]


def test_builds_in_a_package_are_variants(package: Path) -> None:
    ran = profinfer("doctor", package, cwd=package)
    assert ran.code == 0, ran.out
    files = "\n".join(_check(ran, "files"))
    assert "build 1 of 2" in files
    assert "build 2 of 2" in files
    assert f"passed over: {package / 'libknown-arm64.so'} is for aarch64" in files
    assert str(package / "libknown-sparc.so") in files
    assert str(package / "cut.so") in files
    assert "README" not in files
    assert ran.out.count("probe points ") == 2
    assert ran.out.count("barrier   not available") == 1
    assert ran.out.count("layout        ggml 0.0.7-known") == 2


def test_files_that_are_no_code_are_passed_over_beside_such_that_are(
    engine: Path, tmp_path: Path
) -> None:
    text = written(tmp_path / "notes.txt", "not code")
    ran = profinfer("doctor", text, engine / "libknown.so", cwd=tmp_path)
    assert ran.code == 0, ran.out
    assert f"passed over: {text}" in "\n".join(_check(ran, "files"))
    ran = profinfer("doctor", text, cwd=tmp_path)
    assert ran.code == 5, ran.out
    assert str(text) in _check(ran, "files")[0]


def test_the_status_says_whether_operators_can_be_recorded(
    engine_without_llama: Path,
    engine_without_barrier: Path,
    without_operators: Path,
    tmp_path: Path,
) -> None:
    for folder, code in (
        (engine_without_llama, 0),
        (engine_without_barrier, 0),
        (without_operators, 6),
    ):
        ran = profinfer("doctor", folder / "libknown.so", cwd=tmp_path)
        assert ran.code == code, ran.out
        with running(folder / "known", "--wait", 0) as process:
            ran = profinfer("doctor", "--pid", process.pid, cwd=tmp_path)
        assert ran.code == code, ran.out
    assert "no operators" in ran.out
    looked = (
        "ggml_cpu_extra_compute_forward, ggml_compute_forward, ggml_compute_forward_rms_norm_mul"
    )
    assert f"operator  not available: no {looked}_fused;" in ran.out


def test_a_build_that_gives_no_layout_does_not_spoil_the_others(
    engine: Path, tmp_path: Path
) -> None:
    """A static program, beside a library."""
    shutil.copy(engine / "known-static", tmp_path)
    ran = profinfer("doctor", tmp_path, cwd=tmp_path)
    assert ran.code == 6, ran.out
    shutil.copy(engine / "libknown.so", tmp_path)
    ran = profinfer("doctor", tmp_path, cwd=tmp_path)
    assert ran.code == 0, ran.out
    assert "FAILS" in ran.out


@pytest.mark.usefixtures("root")
def test_without_tracefs_a_process_can_be_recorded(tmp_path: Path) -> None:
    """What needs it is named, and nothing else fails."""
    hidden = (
        "unshare",
        "-m",
        "sh",
        "-c",
        'mount -t tmpfs -o ro none /sys/kernel && exec "$@"',
        "-",
    )
    ran = profinfer("doctor", cwd=tmp_path, prefix=hidden)
    assert ran.code == 0, ran.out
    [failed] = [line for line in ran.out.splitlines() if line.startswith("FAILS")]
    assert failed.split()[1] == "tracefs"
    assert "record --pid works without, record -- COMMAND and --block-io do not" in failed
    loader = "\n".join(_check(ran, "loader"))
    assert "libbpf loads programs" in loader
    assert "bcc does not: tracefs is not mounted" in loader


def test_json_says_the_same(package: Path, without_operators: Path) -> None:
    ran = profinfer("doctor", "--json", package, cwd=package)
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    assert said["works"] is True
    assert said["code"] == 0
    plans = [check["plan"] for check in said["checks"] if check["name"] == "probe points"]
    for build in (check["engine"] for check in said["checks"] if check["name"] == "engine"):
        assert build["family"] == "llama.cpp"
        assert build["versions"] == {"ggml_version": "0.0.7-known"}
        [file] = build["files"]
        assert file["kind"] == "shared library"
        assert any("GCC: " in compiler for compiler in file["compilers"])
    slowdowns = [check["slowdown"] for check in said["checks"] if check["name"] == "slowdown"]
    assert [[x["level"] for x in of] for of in slowdowns] == [
        ["token", "graph", "operator", "barrier"], ["token", "graph", "operator"]
    ]  # fmt: skip
    assert [sorted(plan["missing"]) for plan in plans] == [[], ["barrier"]]
    assert {probe["level"] for probe in plans[1]["probes"]} == {"token", "graph", "operator"}
    ran = profinfer("doctor", "--json", without_operators / "libknown.so", cwd=package)
    assert ran.code == 6
    said = json.loads(ran.out)
    assert (said["works"], said["code"]) == (False, 6)
    assert [check["name"] for check in said["checks"] if check["code"]] == ["probe points"]


HOLDER = "import ctypes, sys; ctypes.CDLL(sys.argv[1]); print('ready', flush=True); input()"


@pytest.mark.parametrize("fate", ["replaced", "deleted"])
def test_a_library_that_is_another_one_on_disk_is_said(
    engine: Path, tmp_path: Path, fate: str
) -> None:
    library, trace = tmp_path / "libknown.so", tmp_path / "t.pftrace"
    shutil.copy(engine / "libknown.so", library)
    options = ("--scheduler", "off", "--duration", 0.2, "-o", trace)
    with running(sys.executable, "-c", HOLDER, library) as process:
        library.unlink()
        if fate == "replaced":
            written(library, "another build")
        ran = profinfer("doctor", "--pid", process.pid, cwd=tmp_path)
        recorded = profinfer("record", "--pid", process.pid, *options, cwd=tmp_path)
    assert (ran.code, recorded.code) == (0, 0), recorded.err
    _, path, said, *_ = _check(ran, "engine")
    assert path.strip() == str(library)
    assert said.strip().startswith(f"{fate} on disk: all this is of the file that the process runs")
    with open_trace(trace) as session:
        messages = [
            row[0]
            for row in session.query(
                "INCLUDE PERFETTO MODULE profinfer.recording.warnings;"
                " SELECT message FROM profinfer_recording_warning"
            )
        ]
    assert f"{library} was {fate} on disk while the process ran it" in messages


def test_what_a_recording_costs_a_process_is_measured(engine: Path, tmp_path: Path) -> None:
    with running(engine / "known", "--wait", 0, "--threads", 1, "--decode", 1 << 20) as process:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        ran = profinfer("doctor", "--json", "--pid", process.pid, "--measure", 1, cwd=tmp_path)
        assert process.poll() is None
    assert ran.code == 0, ran.out
    checks = {check["name"]: check for check in json.loads(ran.out)["checks"]}
    known = checks["process"]["process"]
    assert (known["pid"], known["name"]) == (process.pid, "known")
    assert known["threads"]["count"] == known["threads"]["busy"] == 1
    assert known["container"]["namespaces"] == []
    assert known["restrictions"]["seccomp"] == "none"
    assert {file["on_disk"] for file in checks["engine"]["engine"]["files"]} == {None}
    levels = checks["slowdown"]["slowdown"]
    assert [level["level"] for level in levels] == ["token", "graph", "operator", "barrier"]
    assert all(level["percent"] is not None or level["why"] for level in levels)
    shares = [level["percent"] for level in levels if level["percent"] is not None]
    assert shares == sorted(shares)
    assert shares[0] > 0


def test_to_measure_takes_a_process(engine: Path, tmp_path: Path) -> None:
    ran = profinfer("doctor", engine / "libknown.so", "--measure", 1, cwd=tmp_path)
    assert ran.code == 2
    assert "--pid" in ran.message


def test_a_damaged_file_and_a_process_without_an_engine_do_not_work(
    engine: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.so"
    cut.write_bytes((engine / "libknown.so").read_bytes()[:9000])
    ran = profinfer("doctor", cut, cwd=tmp_path)
    assert ran.code == 5, ran.out
    assert "cut.so" in _check(ran, "files")[0]
    with running("sh", "-c", "echo; read line") as process:
        ran = profinfer("doctor", "--json", "--pid", process.pid, cwd=tmp_path)
    assert ran.code == 5, ran.out
    said = json.loads(ran.out)
    assert said["works"] is False
    [found] = [check for check in said["checks"] if check["name"] == "process"]
    assert "holds no ggml" in found["text"]
    assert found["process"]["threads"]["count"] == 1


@pytest.mark.parametrize(("is_foreign", "error"), [(False, GraphNeeded), (True, ProbeError)])
def test_what_a_graph_must_tell_cannot_be_planned(
    is_foreign: bool, error: type[ProbeError], engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FileTarget, "is_foreign", is_foreign)
    build = FileTarget([engine / "known-static"])
    monkeypatch.setattr(FileTarget, "layout", _needs_graph)
    with pytest.raises(ProbeError) as raised:
        doctor._file_layout(build, None)
    assert type(raised.value) is error


def _needs_graph(build: FileTarget, sysroot: Path | None) -> None:
    raise GraphNeeded(f"{build.objects[0].path} in {sysroot} could not describe itself")
