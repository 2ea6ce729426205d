"""What goes wrong is said: what failed, on what, what to do next; and each kind has its code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from profinfer.records.capture import FrameKind
from tests.conftest import require
from tests.recorder.recording import SHORT, TIMEOUT, attached, convert, frame_json
from tests.recording.helpers import KERNELS_OWN, Target, assert_matches, target

Plan = dict[str, Any]
Change = Callable[[Plan], object]


@pytest.fixture(scope="module")
def known(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """An engine that waits; nobody records it."""
    with target(built, tmp_path_factory.mktemp("known"), *SHORT) as found:
        yield found


def run(recorder: Path, *arguments: object, wrapper: tuple[str, ...] = ()) -> tuple[int, str]:
    """Exit code and stderr of a recorder that ends at once."""
    done = subprocess.run(
        [*wrapper, str(recorder), *map(str, arguments)],
        capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert done.stdout == ""
    return done.returncode, done.stderr


def refuse(recorder: Path, output: Path, *arguments: object) -> tuple[int, str]:
    """The same, with an output of which nothing may be left."""
    code, said = run(recorder, "-o", output, "--duration", 1, *arguments)
    assert not output.exists()
    assert said.startswith("profinfer-recorder: ") or "libbpf: " in said
    return code, said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--pid or a command, --plan and -o are needed"),
        (("--pid", "1", "--plan", "p"), "--pid or a command, --plan and -o are needed"),
        (("--pid", "x"), "--pid x is not a process"),
        (("--pid", "-1"), "--pid -1 is not a process"),
        (("--level", "all"), "there is no level all: token, graph, operator or barrier"),
        (("--ring-size", "5000"), "--ring-size 5000 must be a power of two between"),
        (("--ring-size", "1T"), "--ring-size 1T is not a size"),
        (("--ring-size", "99999999999999999999M"), "must be a power of two between"),
        (("--structure-ring-size", "1K"), "must be a power of two between"),
        (("--duration", "0"), "--duration 0 is not between"),
        (("--duration", "nan"), "--duration nan is not between"),
        (("--poll", "11"), "--poll 11 is not between"),
        (("--transport", "pipe"), "there is no transport pipe: auto, ring or perf"),
        (("--attach", "kprobe"), "there is no way to attach kprobe: auto, uprobe_multi or perf"),
        (("--scheduler", "or"), "there is no scheduler mode or: auto, system, target or off"),
        (("--scheduler", "tar"), "there is no scheduler mode tar: auto, system, target or off"),
        (("--iterations", "9-3"), "--iterations 9-3 is not a range: write 100, 100-199 or 100-"),
        (("--iterations", "x"), "--iterations x is not a range"),
        (("--iterations", "-1"), "--iterations -1 is not a range"),
        (("--iterations", "99999999999999999999"), "is not a range"),
        (("--frobnicate",), "unknown option"),
        (("--pid", "1", "--plan", "p", "-o", "f", "--", "llama-cli"), "llama-cli is no option"),
    ],
)
def test_usage(recorder: Path, arguments: tuple[str, ...], message: str) -> None:
    code, said = run(recorder, *arguments)
    assert code == 2
    assert message in said
    assert "hint: profinfer-recorder --help lists the options" in said


def test_help_lists_every_option_and_exit_code(recorder: Path) -> None:
    done = subprocess.run(
        [recorder, "--help"], capture_output=True, text=True, check=True, timeout=TIMEOUT
    )
    for word in ("--pid", "--plan", "--output", "--force", "--level", "--duration", "--kill",
                 "--transport", "--ring-size", "--structure-ring-size", "--poll", "--object",
                 "--attach", "--scheduler", "--faults", "--block-io", "--evict", "--iterations",
                 "--experts", "--expert-weights", "--empty-handlers", "-- COMMAND", "exit codes",
                 *(f"  {code} " for code in range(2, 9))):  # fmt: skip
        assert word in done.stdout


@pytest.mark.parametrize("capability", ["sys_admin", "sys_ptrace"])
def test_a_missing_capability_is_named(
    capability: str, recorder: Path, plan: Path, known: Target, tmp_path: Path
) -> None:
    output = tmp_path / "t.raw"
    arguments = ("--pid", known.pid, "--plan", plan, "-o", output)
    without = ("setpriv", f"--bounding-set=-{capability}")
    code, said = run(recorder, *arguments, wrapper=without)
    assert code == 3
    assert f"CAP_{capability.upper()}, which this process lacks" in said
    assert "hint: run it as root" in said
    assert not output.exists()


LIMITED = 'ulimit -n "$1" && shift && exec "$@"'
"""So many descriptors, of which nobody may have more but who may raise the limit."""
UNPRIVILEGED = ("setpriv", "--bounding-set=-sys_resource")


def may_raise_limits() -> bool:
    """Whether we have CAP_SYS_RESOURCE. Emulated machines give it to everybody who is root."""
    status = Path("/proc/self/status").read_text()
    return bool(int(status.partition("CapEff:")[2].split()[0], 16) >> 24 & 1)


@pytest.mark.parametrize("count", [16, 32, 48, 64, 127])
def test_too_few_descriptors_are_named(
    count: int, recorder: Path, plan: Path, known: Target, tmp_path: Path
) -> None:
    output = tmp_path / "t.raw"
    wrapper = (*UNPRIVILEGED, "sh", "-c", LIMITED, "sh", str(count))
    arguments = ("--pid", known.pid, "--plan", plan, "-o", output)
    code, said = run(recorder, *arguments, wrapper=wrapper)
    assert code == 4
    assert f"at least 128 files open at once, and this process may have {count}" in said
    assert "hint: raise the hard limit (ulimit -Hn)" in said
    assert not output.exists()
    assert not known.is_probed()


@pytest.mark.parametrize(
    ("count", "wrapper"),
    [*((count, ()) for count in (16, 32, 48, 64)), (128, UNPRIVILEGED), (300, UNPRIVILEGED)],
)
def test_few_descriptors_are_made_enough_where_they_may_be(
    count: int, wrapper: tuple[str, ...], recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    """With everything switched on. The command has as many as without us."""
    require("right to raise limits", wrapper or may_raise_limits(), hardware=True)
    capture = tmp_path / "t.raw"
    arguments = ("--plan", plan, "-o", capture, "--faults", "--block-io", "--scheduler", "system")
    script = f"ulimit -Sn; ulimit -Hn; exec {built}/known {' '.join(map(str, SHORT))}"
    done = subprocess.run(
        [*wrapper, "sh", "-c", LIMITED, "sh", str(count), *map(str, (recorder, *arguments)), "--",
         "sh", "-c", script],
        capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    soft, hard, truth = done.stdout.splitlines()
    assert (soft, hard) == (str(count), str(count))
    trace = convert(capture)
    assert_matches(trace, json.loads(truth), "barrier", beside=KERNELS_OWN)


def test_a_bpf_object_that_is_none(
    recorder: Path, plan: Path, known: Target, tmp_path: Path
) -> None:
    arguments = ("--pid", known.pid, "--plan", plan, "--object", plan)
    code, said = refuse(recorder, tmp_path / "t.raw", *arguments)
    assert code == 4
    assert f"cannot read {plan}" in said


def test_a_process_that_does_not_exist(recorder: Path, plan: Path, tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    code, said = refuse(recorder, tmp_path / "t.raw", "--pid", gone.pid, "--plan", plan)
    assert code == 5
    assert f"process {gone.pid} does not exist" in said
    assert "hint: give the PID of a running engine" in said


def test_a_process_that_has_ended_and_is_not_buried(
    recorder: Path, plan: Path, tmp_path: Path
) -> None:
    gone = subprocess.Popen(["true"])
    os.waitid(os.P_PID, gone.pid, os.WEXITED | os.WNOWAIT)
    code, said = refuse(recorder, tmp_path / "t.raw", "--pid", gone.pid, "--plan", plan)
    assert code == 5
    assert f"process {gone.pid} has ended" in said
    gone.wait()


def test_a_thread_in_the_place_of_a_process(recorder: Path, plan: Path, tmp_path: Path) -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        tid = thread.native_id
        code, said = refuse(recorder, tmp_path / "t.raw", "--pid", tid, "--plan", plan)
    finally:
        done.set()
        thread.join()
    assert code == 5
    assert f"{tid} is not a process but a thread of process {os.getpid()}" in said
    assert f"hint: --pid {os.getpid()} records that process" in said


def test_a_process_without_the_engine(recorder: Path, plan: Path, tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            code, said = refuse(recorder, tmp_path / "t.raw", "--pid", other.pid, "--plan", plan)
        finally:
            other.kill()
    assert code == 6
    assert f"process {other.pid} has not mapped libknown.so" in said
    assert "hint: is it the engine's process" in said


def test_another_build_of_the_library(
    recorder: Path, plan: Path, repo: Path, tmp_path: Path
) -> None:
    subprocess.run(
        ["sh", str(repo / "tests/double/build.sh"), str(tmp_path)], check=True, timeout=120,
        env={"PATH": "/usr/bin:/bin", "CFLAGS": "-DSOMETHING_ELSE -O1"},
    )  # fmt: skip
    with target(tmp_path, tmp_path, *SHORT) as other:
        code, said = refuse(recorder, tmp_path / "t.raw", "--pid", other.pid, "--plan", plan)
        assert not other.is_probed()
    assert code == 6
    [planned] = json.loads(plan.read_text())["objects"]
    assert f"has mapped {tmp_path}/libknown.so (build id " in said
    assert f"was made for another file of that name (build id {planned['build_id']}" in said
    assert "hint: make the plan from the files that the process has mapped" in said


def _without(*path: str | int) -> Change:
    def change(plan: Plan) -> None:
        place: Any = plan
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]

    return change


def _with(value: object, *path: str | int) -> Change:
    def change(plan: Plan) -> None:
        place: Any = plan
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (_with(2, "format"), 8, "is a plan of format 2; this recorder reads format 1"),
        (_with("1", "format"), 8, "format is missing or no int"),
        (_without("machine"), 8, "machine is missing or no string"),
        (_with("riscv64", "machine"), 6, "is a plan for riscv64; this machine is "),
        (_with("all", "level"), 8, "level is none that this recorder knows"),
        (_without("objects"), 8, "objects is missing or no array"),
        (_with([], "probes"), 8, "probes is empty"),
        (_with("x", "objects", 0), 8, "objects[0] is no object"),
        (_without("probes", 3, "offset"), 8, "probes[3].offset is missing or no int"),
        (_with(-1, "probes", 3, "offset"), 8, "probes[3].offset is out of range"),
        (_with(1.5, "probes", 3, "offset"), 8, "probes[3].offset is missing or no int"),
        (_with(7, "probes", 0, "object"), 8, "probes[0].object is none of the objects"),
        (_with("on_nothing", "probes", 0, "handler"), 8, "this recorder has no handler on_nothing"),
        (_with("zz", "probes", 0, "code"), 8, "probes[0].code is no hex of at most 16 bytes"),
        (_with("00" * 16, "probes", 13, "code"), 6, "its code at llama_kv_self_seq_rm (offset 0x"),
        (_with(9, "backends", 0, "object"), 8, "backends[0].object is none of the objects"),
        (_without("parameters", "T_NE"), 8, "parameters.T_NE is missing or no int"),
        (_with(1 << 40, "parameters", "T_NE"), 8, "parameters.T_NE is out of range"),
        (_with(4096, "parameters", "T_SIZE"), 8, "the engine's tensors have 4096 bytes"),
        (_without("start", "layout"), 8, "start.layout is missing or no object"),
        (_with("", "objects", 0, "build_id"), 6, "was made for another file of that name"),
    ],
)
def test_a_plan_that_cannot_be(
    change: Change, code: int, message: str, recorder: Path, plan: Path, known: Target,
    tmp_path: Path,
) -> None:  # fmt: skip
    changed = json.loads(plan.read_text())
    change(changed)
    wrong = tmp_path / "plan.json"
    wrong.write_text(json.dumps(changed))
    arguments = ("--pid", known.pid, "--plan", wrong)
    got, said = refuse(recorder, tmp_path / "t.raw", *arguments)
    assert (got, message in said) == (code, True), said
    assert not known.is_probed()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a plan: "),
        (b'{"format": 1', "is not a plan: "),
        (b"[]", "is not a plan: no JSON object"),
        (b"{} {}", "is not a plan: "),
        (b'{"machine": "\xff"}', "is not a plan: invalid utf-8 string"),
        (b"[" * 100_000, "is not a plan: nesting too deep"),
        (b"x" * 5_000_000, "is too large to be a plan"),
    ],
    ids=["empty", "cut", "a list", "two", "not UTF-8", "deep", "large"],
)
def test_a_file_that_is_no_plan(
    content: bytes, message: str, recorder: Path, known: Target, tmp_path: Path
) -> None:
    wrong = tmp_path / "plan.json"
    wrong.write_bytes(content)
    code, said = refuse(recorder, tmp_path / "t.raw", "--pid", known.pid, "--plan", wrong)
    assert code == 8
    assert f"{wrong}" in said
    assert message in said


def test_a_plan_that_is_not_there(recorder: Path, known: Target, tmp_path: Path) -> None:
    arguments = ("--pid", known.pid, "--plan", tmp_path / "none.json")
    code, said = refuse(recorder, tmp_path / "t.raw", *arguments)
    assert code == 8
    assert "none.json: No such file or directory" in said
    assert "hint: profinfer plan makes one" in said


def test_a_level_that_the_plan_has_not(
    recorder: Path, plan: Path, known: Target, tmp_path: Path
) -> None:
    low = json.loads(plan.read_text()) | {"level": "graph"}
    wrong = tmp_path / "plan.json"
    wrong.write_text(json.dumps(low))
    arguments = ("--pid", known.pid, "--plan", wrong, "--level", "operator")
    code, said = refuse(recorder, tmp_path / "t.raw", *arguments)
    assert code == 8
    assert "is a plan for level graph and has no probes for operator" in said
    assert "hint: make one with profinfer plan --level operator" in said


def test_outputs_that_cannot_be(recorder: Path, plan: Path, known: Target, tmp_path: Path) -> None:
    there, link, pipe = tmp_path / "there", tmp_path / "link", tmp_path / "pipe"
    there.write_text("precious")
    link.symlink_to(there)
    os.mkfifo(pipe)
    for output, options, message in (
        (there, (), "exists"),
        (link, (), "exists"),
        (link, ("--force",), "is a symbolic link"),
        (pipe, ("--force",), "cannot write"),
        (tmp_path, ("--force",), "Is a directory"),
        (tmp_path / "none/t.raw", (), "No such file or directory"),
    ):
        arguments = ("--pid", known.pid, "--plan", plan, "-o", output, *options)
        code, said = run(recorder, *arguments)
        assert code == 7, (output, said)
        assert f"{output}" in said
        assert message in said
    assert there.read_text() == "precious"


def test_a_failure_after_the_output_was_opened_leaves_what_was_there(
    recorder: Path, plan: Path, known: Target, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    there.write_text("precious")
    arguments = ("--pid", known.pid, "--plan", plan, "-o", there, "--force", "--object", plan)
    code, _ = run(recorder, *arguments)
    assert code == 4
    assert there.read_text() == "precious"


def test_names_from_the_target_cannot_steer_the_terminal(
    recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "a\x1b[31m"
    folder.mkdir()
    (folder / "libknown.so").write_bytes((built / "libknown.so").read_bytes())
    (folder / "known").write_bytes((built / "known").read_bytes())
    (folder / "known").chmod(0o755)
    changed = json.loads(plan.read_text())
    changed["probes"][9]["code"] = "00" * 16
    wrong = tmp_path / "plan.json"
    wrong.write_text(json.dumps(changed))
    with target(folder, tmp_path, *SHORT) as hostile:
        code, said = refuse(recorder, tmp_path / "t.raw", "--pid", hostile.pid, "--plan", wrong)
    assert code == 6
    assert "\x1b" not in said
    assert "a?[31m/libknown.so is not the file that" in said


def test_names_that_are_no_text_are_recorded_all_the_same(
    recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    """A program may be called anything: bytes that are no UTF-8, and what steers a terminal."""
    folder = tmp_path / os.fsdecode(b"\xff\xc0\xaf")
    folder.mkdir()
    shutil.copy(built / "libknown.so", folder)
    program = folder / os.fsdecode(b'k\x1b\xed\xa0\x80"')
    shutil.copy(built / "known", program)
    gate, capture = tmp_path / "go", tmp_path / "t.raw"
    with subprocess.Popen(
        [program, *map(str, SHORT), "--wait", gate], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as hostile:
        assert hostile.stderr is not None
        assert hostile.stdout is not None
        assert hostile.stderr.readline().startswith(b"ready")
        with attached(recorder, plan, hostile.pid, capture) as recording:
            gate.touch()
            truth = json.loads(hostile.stdout.readline())
            said = recording.finish()
            assert recording.code == 0
    assert said.startswith("recording k?")
    assert "\x1b" not in said
    start = frame_json(capture, FrameKind.START)
    assert start["target"]["name"] == 'k\x1b\ufffd\ufffd\ufffd"'
    [found] = start["target"]["objects"]
    assert found["path"] == f"{tmp_path}/\ufffd\ufffd\ufffd/libknown.so"
    assert_matches(convert(capture), truth, "barrier")
