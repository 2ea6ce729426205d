"""Every failure that a user can act on: its exit code, and a message that names the object."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from profinfer.trace_processor import Session, open_trace
from tests.commands.command import (
    REPO,
    Ran,
    Recorded,
    fails,
    finish,
    profinfer,
    running,
    small_disk,
    start,
    until_exists,
    written,
)

pytestmark = pytest.mark.usefixtures("root")

_NO_SUCH_PID = 4_194_305  # above the largest that Linux gives
_COMMANDS = (
    "record", "explain", "report", "query", "ui", "dag", "figures", "doctor", "plan", "convert",
    "merge",
)  # fmt: skip


def _record(cwd: Path, *args: object) -> Ran:
    return profinfer("record", "-o", "t.pftrace", *args, cwd=cwd)


def _query(trace: Path, sql: str) -> Ran:
    return profinfer("query", "--sql", sql, trace, "--trace-processor", "wasm", cwd=trace.parent)


def _setting(session: Session, key: str) -> str | None:
    sql = (
        "INCLUDE PERFETTO MODULE profinfer.recording.metadata; "
        "SELECT value FROM profinfer_recording"
    )
    for (value,) in session.query(f"{sql} WHERE key = '{key}'"):
        return None if value is None else str(value)
    return None


def _operators(session: Session) -> int:
    sql = "INCLUDE PERFETTO MODULE profinfer.operators.runs; SELECT count() FROM profinfer_operator"
    ((count,),) = session.query(sql)
    assert isinstance(count, int)
    return count


# ---- Privileges


def _unprivileged() -> dict[str, tuple[str, ...]]:
    """Root without capabilities, and an ordinary user where one may read this checkout."""
    found: dict[str, tuple[str, ...]] = {
        "no-capabilities": ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    }
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    may_read = [*nobody, sys.executable, "-c", f"open({str(REPO / 'profinfer/errors.py')!r})"]
    if subprocess.run(may_read, capture_output=True, timeout=30, check=False).returncode == 0:
        found["ordinary-user"] = nobody
    return found


def test_record_names_the_capabilities_that_are_missing(engine: Path) -> None:
    for prefix in _unprivileged().values():
        ran = profinfer("record", "--", engine / "known", cwd=Path("/"), prefix=prefix)
        fails(ran, 3, "CAP_SYS_ADMIN", "CAP_SYS_PTRACE")
        assert "sudo" in ran.err
    assert not Path("/profinfer.pftrace").exists()


def test_doctor_names_the_capabilities_that_are_missing() -> None:
    for prefix in _unprivileged().values():
        ran = profinfer("doctor", cwd=Path("/"), prefix=prefix)
        assert re.search(r"^FAILS +capabilities +missing CAP_SYS_ADMIN", ran.out, re.MULTILINE)
        assert ran.code == 3, ran.out


def _few_files(count: int) -> tuple[str, ...]:
    """So many descriptors, of which nobody may have more."""
    script = f'ulimit -n {count} && exec "$0" "$@"'
    return ("setpriv", "--bounding-set=-sys_resource", "sh", "-c", script)


@pytest.mark.parametrize("count", [8, 16, 32, 48, 64])
def test_too_few_descriptors_are_named(count: int, engine: Path, tmp_path: Path) -> None:
    ran = profinfer("record", "--", engine / "known", cwd=tmp_path, prefix=_few_files(count))
    fails(ran, 4, "open", f"this process may have {count}")
    assert "ulimit" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_a_command_has_as_many_descriptors_as_without_us(engine: Path, tmp_path: Path) -> None:
    command = ("sh", "-c", f"ulimit -Sn; ulimit -Hn; exec {engine / 'known'} --decode 1")
    lowered = ("sh", "-c", 'ulimit -Sn 40 && ulimit -Hn 777 && exec "$0" "$@"')
    ran = profinfer("record", "--", *command, cwd=tmp_path, prefix=lowered)
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[:2] == ["40", "777"]


# ---- The target


def test_a_pid_that_does_not_exist_is_named(tmp_path: Path) -> None:
    fails(_record(tmp_path, "--pid", _NO_SUCH_PID), 5, _NO_SUCH_PID, "does not exist")
    assert list(tmp_path.iterdir()) == []


def test_a_process_without_ggml_is_named(engine: Path, tmp_path: Path) -> None:
    with running(engine / "other") as process:
        fails(_record(tmp_path, "--pid", process.pid), 5, process.pid, "other", "no ggml")
        assert process.poll() is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.2, 0.4])
def test_a_process_that_ends_during_attach_is_named(
    delay: float, engine: Path, tmp_path: Path
) -> None:
    with running(engine / "known", "--wait", 0) as process:
        recorder = start("record", "-o", "t.pftrace", "--pid", process.pid, cwd=tmp_path)
        until_exists(tmp_path / "t.pftrace", recorder)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
        ran = finish(recorder)
        if delay and ran.err.startswith("recording "):  # it has been quicker than that
            assert "(the target ended)" in ran.err
        else:
            fails(ran, 5, process.pid)


def test_a_command_that_is_not_found_is_named(tmp_path: Path) -> None:
    fails(_record(tmp_path, "--", "no-such-engine"), 5, "no-such-engine", "No such file")
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_may_not_be_executed_is_named(tmp_path: Path) -> None:
    command = written(tmp_path / "engine", "")
    fails(_record(tmp_path, "--", command), 5, command, "Permission denied")


@pytest.mark.parametrize(("command", "status"), [("/bin/true", 0), ("/bin/false", 1)])
def test_a_command_that_ends_before_it_loads_ggml_is_named(
    command: str, status: int, tmp_path: Path
) -> None:
    fails(_record(tmp_path, "--", command), 5, command, f"status {status}", "before it loaded")
    assert list(tmp_path.iterdir()) == []


def test_a_user_that_does_not_exist_is_named(engine: Path, tmp_path: Path) -> None:
    ran = _record(tmp_path, "--user", "no-such-user", "--", engine / "known")
    fails(ran, 5, "no-such-user")


# ---- The output


def test_an_output_that_exists_is_kept_without_force(engine: Path, tmp_path: Path) -> None:
    output = written(tmp_path / "t.pftrace", "precious")
    ran = _record(tmp_path, "--", engine / "known")
    fails(ran, 7, "t.pftrace exists")
    assert "--force" in ran.err
    assert output.read_text() == "precious"


def test_force_overwrites_an_output_that_exists(engine: Path, tmp_path: Path) -> None:
    output = written(tmp_path / "t.pftrace", "worthless" * 100_000)
    ran = _record(tmp_path, "--force", "--level", "token", "--", engine / "known", "--decode", 1)
    assert ran.code == 0, ran.err
    assert b"worthless" not in output.read_bytes()


def test_a_recording_that_fails_keeps_what_force_would_have_overwritten(tmp_path: Path) -> None:
    output = written(tmp_path / "t.pftrace", "precious")
    fails(_record(tmp_path, "--force", "--pid", _NO_SUCH_PID), 5, _NO_SUCH_PID)
    assert output.read_text() == "precious"


def test_a_raw_output_that_exists_is_kept_and_no_trace_is_left(
    engine: Path, tmp_path: Path
) -> None:
    raw = written(tmp_path / "t.raw", "precious")
    fails(_record(tmp_path, "--raw", raw, "--", engine / "known"), 7, raw, "exists")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["precious"]


def test_an_output_in_a_missing_directory_is_named(engine: Path, tmp_path: Path) -> None:
    output = tmp_path / "missing/t.pftrace"
    ran = profinfer("record", "-o", output, "--", engine / "known", cwd=tmp_path)
    fails(ran, 7, output, "No such file or directory")


@pytest.mark.parametrize("force", [(), ("--force",)], ids=["plain", "force"])
def test_an_output_that_is_a_directory_is_named(
    force: tuple[str, ...], engine: Path, tmp_path: Path
) -> None:
    output = tmp_path / "folder"
    output.mkdir()
    ran = profinfer("record", *force, "-o", output, "--", engine / "known", cwd=tmp_path)
    fails(ran, 7, output)
    assert output.is_dir()


def test_an_output_that_is_a_symbolic_link_is_not_followed(engine: Path, tmp_path: Path) -> None:
    target = written(tmp_path / "precious", "precious")
    output = tmp_path / "link.pftrace"
    output.symlink_to(target)
    options = ("record", "--force", "-o", output)
    fails(profinfer(*options, "--", engine / "known", cwd=tmp_path), 7, output, "symbolic link")
    assert target.read_text() == "precious"
    assert output.is_symlink()


def test_an_output_that_is_a_pipe_is_named(engine: Path, tmp_path: Path) -> None:
    output = tmp_path / "pipe"
    os.mkfifo(output)
    options = ("record", "--force", "-o", output)
    at_most = ("timeout", "10")
    ran = profinfer(*options, "--", engine / "known", cwd=tmp_path, prefix=at_most)
    fails(ran, 7, output)


def test_a_full_disk_leaves_a_capture_of_everything_up_to_there(
    engine: Path, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", "256K") as disk:
        output, capture = disk / "t.pftrace", disk / "t.pftrace.capture"
        command = (engine / "known", "--decode", 400, "--samples", 0)
        options = ("--poll", 0.02, "-o", output)
        ran = profinfer("record", *options, "--", *command, cwd=tmp_path)
        fails(ran, 7, capture, "No space left on device")
        assert f"({capture.stat().st_size} bytes): profinfer convert {capture}" in ran.err
        assert not output.exists()
        trace = tmp_path / "t.pftrace"
        assert profinfer("convert", capture, trace, cwd=tmp_path).code == 0
        with open_trace(trace, trace_processor="wasm") as session:
            assert _operators(session) > 0
        ran = _query(trace, "SELECT 1")
        assert ran.code == 0
        assert "truncated" in ran.err


def test_a_disk_too_small_for_the_trace_keeps_the_capture(engine: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "256K") as disk:
        output, capture = disk / "t.pftrace", tmp_path / "t.capture"
        command = (engine / "known", "--decode", 400, "--samples", 0)
        ran = profinfer("record", "-o", output, "--raw", capture, "--", *command, cwd=tmp_path)
        fails(ran, 7, output, "No space left on device")
        assert f"profinfer convert {capture}" in ran.err
        assert profinfer("convert", capture, tmp_path / "t.pftrace", cwd=tmp_path).code == 0
        assert (tmp_path / "t.pftrace").stat().st_size > output.stat().st_size > 0


# ---- Settings


@pytest.mark.parametrize(
    ("text", "line", "named", "hint"),
    [
        ("level: token\n\nlevle: graph\n", 3, ("'levle'",), "'level'"),
        ("# a comment\nring-sizes: 4M\n", 2, ("'ring-sizes'",), "'ring_size'"),
        ("force: 1\n", 1, ("force", "1", "bool"), ""),
        ("level: token\nduration: long\n", 2, ("duration", "'long'", "float"), ""),
        ("level: token\npid: true\n", 2, ("pid", "True", "int"), ""),
        ("command: known\n", 1, ("command", "'known'", "list"), ""),
        ("level: [token]\n", 1, ("level", "['token']", "str"), ""),
    ],
)
def test_a_wrong_setting_is_named_with_its_line(
    text: str, line: int, named: tuple[str, ...], hint: str, tmp_path: Path
) -> None:
    config = written(tmp_path / "c.yaml", text)
    ran = _record(tmp_path, "--config", config, "--", "/bin/true")
    fails(ran, 2, f"{config}, line {line}", *named)
    assert hint in ran.err.partition("hint:")[2]


def test_an_unknown_level_in_the_file_is_named_with_the_nearest(tmp_path: Path) -> None:
    config = written(tmp_path / "c.yaml", "level: operators\n")
    ran = _record(tmp_path, "--config", config, "--", "/bin/true")
    fails(ran, 2, "'operators'")
    assert "did you mean operator?" in ran.err


@pytest.mark.parametrize("flag", ["--experts", "--expert-weights"])
def test_experts_without_operators_are_refused(flag: str, tmp_path: Path) -> None:
    ran = _record(tmp_path, flag, "--level", "graph", "--", "/bin/true")
    fails(ran, 2, "level graph")
    assert "--level operator" in ran.err


@pytest.mark.parametrize(
    "text",
    [
        "level: [",
        "- level\n",
        "level\n",
        "level: \x00\n",
        "level: " + "[" * 3000,
    ],
    ids=["unclosed", "list", "scalar", "nul", "deep"],
)
def test_a_file_that_is_no_mapping_of_settings_is_named(text: str, tmp_path: Path) -> None:
    config = written(tmp_path / "c.yaml", text)
    fails(_record(tmp_path, "--config", config, "--", "/bin/true"), 2, config)


def test_a_configuration_that_is_missing_is_named(tmp_path: Path) -> None:
    ran = _record(tmp_path, "--config", "missing.yaml", "--", "/bin/true")
    fails(ran, 2, "missing.yaml", "No such file")


def test_flags_win_over_the_file(engine: Path, tmp_path: Path) -> None:
    config = written(
        tmp_path / "c.yaml",
        f"pid: {_NO_SUCH_PID}\nlevel: barrier\npoll: 0.05\n"
        "output: ignored.pftrace\nring-size: 1M\n",
    )
    command = ("--", engine / "known", "--decode", 2)
    ran = _record(tmp_path, "--config", config, "--level", "graph", *command)
    assert ran.code == 0, ran.err
    assert not (tmp_path / "ignored.pftrace").exists()
    with open_trace(tmp_path / "t.pftrace", trace_processor="wasm") as session:
        assert _setting(session, "config.level") == "graph"
        assert _setting(session, "config.ring_size") == "1M"
        assert float(_setting(session, "config.poll") or 0) == 0.05
        assert _operators(session) == 0


def test_a_file_alone_says_what_to_record(engine: Path, tmp_path: Path) -> None:
    config = written(
        tmp_path / "c.yaml",
        f"command: [{engine / 'known'}, --decode, 2]\nlevel: token\noutput: from-file.pftrace\n",
    )
    ran = profinfer("record", "--config", config, cwd=tmp_path)
    assert ran.code == 0, ran.err
    with open_trace(tmp_path / "from-file.pftrace", trace_processor="wasm") as session:
        assert _setting(session, "config.level") == "token"


@pytest.mark.parametrize("target", [(), ("--pid", "1", "--", "/bin/true")], ids=["neither", "both"])
def test_a_target_is_either_a_pid_or_a_command(target: tuple[str, ...], tmp_path: Path) -> None:
    fails(_record(tmp_path, *target), 2, "either --pid or a command")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--duration", "-1"),
        ("--duration", "nan"),
        ("--poll", "0"),
        ("--alternate", "0.01"),
        ("--alternate", "nan"),
        ("--ring-size", "5M"),
        ("--ring-size", "huge"),
        ("--iterations", "9-3"),
        ("--iterations", "x"),
        ("--iterations", "99999999999999999999"),
    ],
)
def test_a_flag_with_an_impossible_value_is_named(flag: str, value: str, tmp_path: Path) -> None:
    name = flag.lstrip("-").replace("-", "_")
    fails(_record(tmp_path, f"{flag}={value}", "--", "/bin/true"), 2, name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "named"),
    [((), "COMMAND"), (("recrod",), "recrod"), (("record", "--levle", "token"), "--levle"),
     (("record", "--level", "all"), "'all'"), (("record", "--pid", "x"), "'x'")],
)  # fmt: skip
def test_a_wrong_command_line_is_named(args: tuple[str, ...], named: str, tmp_path: Path) -> None:
    ran = profinfer(*args, cwd=tmp_path)
    assert ran.code == 2
    assert named in ran.err


# ---- Queries


@pytest.mark.parametrize(
    ("sql", "line", "column", "reason"),
    [
        ("SELECT nope FROM slice", 1, 8, "no such column: nope"),
        ("SELECT 1;\n\nSELECT\n  nope FROM slice", 4, 3, "no such column: nope"),
        ("SELECT 'é', nope FROM slice", 1, 13, "no such column: nope"),
        ("SELEC 1", 1, 1, "syntax error"),
    ],
)
def test_invalid_sql_is_reported_with_line_and_column(
    sql: str, line: int, column: int, reason: str, recorded: Recorded
) -> None:
    fails(_query(recorded.trace, sql), 9, reason, f"line {line}, column {column}")


def test_invalid_sql_in_a_file_is_reported_with_line_and_column(
    recorded: Recorded, tmp_path: Path
) -> None:
    query = written(tmp_path / "q.sql", "-- a comment\nSELECT 1;\nSELECT name,\n  durr FROM slice;")
    ran = profinfer("query", query, recorded.trace, cwd=tmp_path)
    fails(ran, 9, "no such column: durr", "line 4, column 3")
    assert "durr FROM slice" in ran.err.partition("hint:")[2]


def test_an_unknown_query_is_named_with_those_that_are_near(recorded: Recorded) -> None:
    ran = profinfer("query", "stals", recorded.trace, cwd=recorded.trace.parent)
    fails(ran, 9, "'stals'")
    assert "did you mean stalls" in ran.err


def test_a_query_without_statements_is_an_error(recorded: Recorded) -> None:
    fails(_query(recorded.trace, "-- nothing"), 9, "no SQL statement")


# ---- Traces


@pytest.mark.parametrize("content", [b"not a trace", b"\x0a\x05hello", b"\x7fELF" + bytes(64)])
def test_a_file_that_is_no_trace_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "t.pftrace"
    path.write_bytes(content)
    fails(_query(path, "SELECT 1"), 8, path, "not a Perfetto trace")


def test_a_raw_capture_is_not_taken_for_a_trace(recorded: Recorded) -> None:
    ran = _query(recorded.raw, "SELECT 1")
    fails(ran, 8, recorded.raw, "not a Perfetto trace")
    assert "profinfer convert" in ran.err


def test_a_trace_that_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing.pftrace"
    fails(_query(path, "SELECT 1"), 8, path, "No such file")


def test_a_trace_that_is_empty_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "empty.pftrace", "")
    fails(_query(path, "SELECT 1"), 8, path, "empty")


def test_a_directory_is_not_taken_for_a_trace(tmp_path: Path) -> None:
    fails(_query(tmp_path, "SELECT 1"), 8, tmp_path, "directory")


def test_a_whole_trace_is_read_without_a_warning(recorded: Recorded) -> None:
    ran = _query(recorded.trace, "SELECT count() AS n FROM slice")
    assert ran.code == 0
    assert ran.err == ""


def test_a_truncated_trace_is_answered_from_with_a_warning(
    recorded: Recorded, tmp_path: Path
) -> None:
    path = tmp_path / "cut.pftrace"
    data = recorded.trace.read_bytes()
    path.write_bytes(data[:-3])
    ran = _query(path, "SELECT 'answered' FROM slice LIMIT 1")
    assert ran.code == 0
    assert "answered" in ran.out
    assert "warning: this trace is truncated: it ends in the middle of a packet" in ran.err


def test_a_foreign_trace_is_answered_from_with_a_warning(foreign_trace: Path) -> None:
    ran = _query(foreign_trace, "SELECT name FROM slice")
    assert ran.code == 0
    assert "foreign" in ran.out
    assert "not recorded by ProfInfer" in ran.err
    assert "tables are empty" in ran.err


@pytest.mark.parametrize("query", ["summary", "stalls"])
def test_ready_queries_of_a_foreign_trace_are_empty(query: str, foreign_trace: Path) -> None:
    ran = profinfer("query", query, foreign_trace, cwd=foreign_trace.parent)
    assert ran.code == 0
    assert "tables are empty" in ran.err


def test_the_ui_names_a_trace_that_is_missing(tmp_path: Path) -> None:
    fails(profinfer("ui", "missing.pftrace", cwd=tmp_path), 8, "missing.pftrace")


def test_the_ui_refuses_what_is_no_trace(tmp_path: Path) -> None:
    path = written(tmp_path / "t.pftrace", "\n\x05hello")
    ended = ("timeout", "--signal=INT", "5")  # where it serves the file all the same
    fails(profinfer("ui", path, cwd=tmp_path, prefix=ended), 8, path, "not a Perfetto trace")


# ---- Captures


def test_a_capture_converts_to_the_trace_that_was_recorded(
    recorded: Recorded, tmp_path: Path
) -> None:
    ran = profinfer("convert", recorded.raw, "again.pftrace", cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert ran.err == ""
    assert (tmp_path / "again.pftrace").read_bytes() == recorded.trace.read_bytes()


def test_a_file_that_is_no_capture_is_named(recorded: Recorded, tmp_path: Path) -> None:
    ran = profinfer("convert", recorded.trace, "again.pftrace", cwd=tmp_path)
    fails(ran, 8, recorded.trace, "not a raw capture")
    assert list(tmp_path.iterdir()) == []


def test_a_capture_that_is_missing_is_named(tmp_path: Path) -> None:
    fails(profinfer("convert", "missing.raw", "t.pftrace", cwd=tmp_path), 8, "missing.raw")
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_capture_converts_with_a_warning(recorded: Recorded, tmp_path: Path) -> None:
    raw = tmp_path / "cut.raw"
    raw.write_bytes(recorded.raw.read_bytes()[:-3])
    ran = profinfer("convert", raw, "t.pftrace", cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert f"warning: {raw} is truncated" in ran.err
    with open_trace(tmp_path / "t.pftrace", trace_processor="wasm") as session:
        assert _operators(session) > 0


def test_convert_keeps_a_trace_that_exists(recorded: Recorded, tmp_path: Path) -> None:
    output = written(tmp_path / "t.pftrace", "precious")
    fails(profinfer("convert", recorded.raw, output, cwd=tmp_path), 7, output, "exists")
    assert output.read_text() == "precious"


def test_convert_refuses_to_overwrite_the_capture_itself(
    recorded: Recorded, tmp_path: Path
) -> None:
    raw = tmp_path / "t.raw"
    raw.write_bytes(recorded.raw.read_bytes())
    fails(profinfer("convert", "--force", raw, "t.raw", cwd=tmp_path), 7, "same file")
    assert raw.read_bytes() == recorded.raw.read_bytes()


# ---- What must work everywhere


@pytest.mark.parametrize("command", ["", *_COMMANDS])
def test_help_ends_well(command: str, tmp_path: Path) -> None:
    ran = profinfer(*filter(None, [command]), "--help", cwd=tmp_path)
    assert ran.code == 0
    assert ran.out.startswith("usage: profinfer")
    assert ran.err == ""
    if not command:
        assert all(name in ran.out for name in _COMMANDS)


def test_version_ends_well(tmp_path: Path) -> None:
    ran = profinfer("--version", cwd=tmp_path)
    assert ran.code == 0
    assert re.fullmatch(r"profinfer \d+\.\d+\S*\n", ran.out)


def _lists_all_probe_points(ran: Ran) -> bool:
    shown = ran.out.partition("probe points")[2]
    symbols = ("llama_context", "ggml_graph_compute", "ggml_cpu_extra", "ggml_barrier")
    return "FAILS" not in ran.out and all(symbol in shown for symbol in symbols)


def test_doctor_finds_nothing_missing_on_this_machine(tmp_path: Path) -> None:
    ran = profinfer("doctor", cwd=tmp_path)
    assert ran.code == 0, ran.out
    assert "FAILS" not in ran.out


def test_doctor_lists_the_probe_points_of_a_process(engine: Path, tmp_path: Path) -> None:
    with running(engine / "known", "--wait", 0) as process:
        ran = profinfer("doctor", "--pid", process.pid, cwd=tmp_path)
        assert ran.code == 0, ran.out
        assert str(process.pid) in ran.out
        assert _lists_all_probe_points(ran)


def test_doctor_lists_the_probe_points_of_a_library(engine: Path, tmp_path: Path) -> None:
    ran = profinfer("doctor", engine / "libknown.so", cwd=tmp_path)
    assert ran.code == 0, ran.out
    assert _lists_all_probe_points(ran)


def test_doctor_names_what_a_library_lacks(
    engine: Path, engine_without_barrier: Path, tmp_path: Path
) -> None:
    ran = profinfer("doctor", engine_without_barrier / "libknown.so", cwd=tmp_path)
    assert re.search(r"barrier +not available: no ggml_barrier", ran.out)
    ran = profinfer("doctor", engine / "libnoggml.so", cwd=tmp_path)
    assert ran.code == 5
    assert re.search(r"^FAILS +files +no ggml or llama.cpp code in libnog", ran.out, re.MULTILINE)


@pytest.mark.parametrize("what", [("--pid", _NO_SUCH_PID), ("missing.so",)], ids=["pid", "file"])
def test_doctor_names_what_is_not_there(what: tuple[object, ...], tmp_path: Path) -> None:
    ran = profinfer("doctor", *what, cwd=tmp_path)
    assert ran.code == 5, ran.out
    assert re.search(rf"^FAILS .*{re.escape(str(what[-1]))}", ran.out, re.MULTILINE)


def test_a_reader_that_goes_away_causes_no_complaint(recorded: Recorded) -> None:
    process = start("query", "--sql", "SELECT * FROM args", recorded.trace, "--format", "csv",
                    cwd=recorded.trace.parent)  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    ran = finish(process)
    assert ran.code == 141
    assert ran.err == ""


def test_a_command_gets_its_very_words(tmp_path: Path) -> None:
    """Bytes that are no text, and many of them."""
    words = [os.fsdecode(b'a\xff\xed\xa0\x80\n"\\'), "x" * 100_000, "y" * 100_000, "z" * 100_000]
    script = 'printf "%s\\0" "$@" >words'
    ran = _record(tmp_path, "--", "sh", "-c", script, "sh", *words)
    assert "before it loaded any" in ran.message
    assert (tmp_path / "words").read_bytes().split(b"\0") == [*map(os.fsencode, words), b""]


def test_a_command_of_too_many_words_is_refused(tmp_path: Path) -> None:
    ran = _record(tmp_path, "--", "true", *["x" * 100_000] * 12)
    assert ran.code == 2, ran.err
    assert "too" in ran.message
