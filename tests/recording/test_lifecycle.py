"""Who is probed and for how long: the target alone, and not one call after the recording's end."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from profinfer.binaries.elf import Elf
from profinfer.engine.adapter import adapters
from profinfer.engine.target import engine_objects
from profinfer.probes.plan import make_plan
from profinfer.records.capture import FrameKind, read_capture
from profinfer.records.dtypes import RECORD, Kind
from tests.recording.own_probes import enable_stats
from tests.support import (
    ENGINE_ONLY,
    PROFINFER,
    Engine,
    Recording,
    as_int,
    attached,
    boottime,
    double_fixture,
    family,
    finish,
    first_line,
    is_running,
    pairs,
    record,
    run,
    started,
    text_bytes,
    wait_for,
    waiting,
)

__all__ = ["double_fixture"]

SYMBOLS = ("ggml_cpu_extra_compute_forward", "ggml_compute_forward_rms_norm_mul_fused",
           "ggml_barrier", "ggml_graph_compute", "ggml_backend_graph_compute_async")  # fmt: skip
ENDLESS = ("--decode", 1_000_003)


def probes(pid: int, level: str = "barrier") -> int:
    return len(make_plan(engine_objects(pid), level).probes)


PARTS = {
    ("split", 1): "ggml_backend_sched_split_graph",
    ("allocate", 0): "ggml_backend_sched_alloc_graph",
    ("set", 0): "ggml_backend_tensor_set",
    ("get", 0): "ggml_backend_tensor_get",
    ("wait", 0): "ggml_backend_synchronize",
    ("wait", 1): "ggml_backend_synchronize",
    ("copy", 0): "ggml_backend_tensor_copy_async",
    ("copy", 1): "ggml_backend_tensor_copy",
}
"""Of the known engine, by how many are around it: by which function."""


def text(pid: int, double: Engine) -> list[bytes]:
    """The first instruction bytes of the functions that are probed."""
    return [text_bytes(pid, double.library, symbol, 64) for symbol in SYMBOLS]


def test_kernel_ran_each_handler_once_per_call_of_the_target_alone(
    double: Engine, tmp_path: Path
) -> None:
    """Three counts of one run: the target's own, the kernel's of the programs, the records."""
    raw = tmp_path / "raw"
    options = ("--level", "barrier", "--raw", raw)
    # While it is on, what the kernel has counted of a program are all of its runs.
    stats = enable_stats()
    try:
        with waiting(double, tmp_path / "go", "--threads", 3, "--backend2") as known:
            count = probes(known.pid)
            # A stranger is at work all the time: the same files, the same functions.
            with (
                attached(double, known.pid, tmp_path / "t", *options, probes=count) as recorder,
                started(double, double.program(), *ENDLESS) as stranger,
            ):
                known.go()
                code, said = finish(recorder)
                assert stranger.poll() is None
            truth = known.truth()
    finally:
        os.close(stats)
    assert code == 0, said
    assert ", 0 lost (the target ended)" in said
    frames = list(read_capture(raw))
    runs = {each["handler"]: each["timed_runs"] for each in frames[-1].json()["handlers"]}
    calls = truth["calls"]
    asynchronous = calls["ggml_backend_graph_compute_async"]
    ubatches = sum(n for name, n in calls.items() if "process_ubatch" in name)
    handlers = {
        function.symbol: adapters().handler(point, function)
        for point in adapters().points
        for function in chain.from_iterable(point.alternatives)
        if function.call
    }
    of_parts = Counter(handlers[PARTS[name, depth]] for name, _, _, _, depth, *_ in truth["parts"])
    assert runs == {
        "on_operator": calls["ggml_cpu_extra_compute_forward"],
        "on_fused": calls["ggml_compute_forward_rms_norm_mul_fused"],
        "on_barrier": calls["ggml_barrier"],
        "on_backend_graph": asynchronous,
        "on_backend_graph_return": asynchronous,
        "on_cpu_graph": calls["ggml_graph_compute"],
        "on_cpu_graph_return": calls["ggml_graph_compute"],
        "on_rebuild": calls["ggml_backend_sched_alloc_graph"],
        "on_ubatch": ubatches,
        "on_ubatch_return": ubatches,
        **dict.fromkeys((handler for handler in runs if handler.startswith("on_call_")), 0),
        **of_parts,
        "on_call_0": truth["llama_decode"],
        "on_call_4": 1,  # of its context the end
        "on_call_return": 1 + len(truth["parts"]),
    }
    records = np.concatenate(
        [np.frombuffer(f.data, RECORD) for f in frames if f.kind == FrameKind.RECORDS]
    )
    counted = Counter(records["kind"].tolist())
    del counted[Kind.NODE]
    assert counted == {
        Kind.OPERATOR: runs["on_operator"],
        Kind.FUSED: runs["on_fused"],
        Kind.BARRIER: runs["on_barrier"],
        Kind.GRAPH_BEGIN: asynchronous,
        Kind.GRAPH_END: asynchronous,
        Kind.UBATCH_BEGIN: ubatches,
        Kind.UBATCH_END: ubatches,
    }


def test_a_process_that_is_not_the_target_never_meets_a_breakpoint(
    double: Engine, tmp_path: Path
) -> None:
    with (
        waiting(double, tmp_path / "never", "--threads", 2) as stranger,
        waiting(double, tmp_path / "go", *ENDLESS) as known,
    ):
        before, untouched = text(known.pid, double), text(stranger.pid, double)
        options = ("--level", "barrier", "--duration", 2)
        count = probes(known.pid)
        with attached(double, known.pid, tmp_path / "t", *options, probes=count) as recorder:
            now = text(known.pid, double)
            assert all(a != b for a, b in zip(now, before, strict=True))
            assert text(stranger.pid, double) == untouched
            # One that is mapped only now has no breakpoint either.
            with waiting(double, tmp_path / "never", "--threads", 2) as late:
                assert text(late.pid, double) == untouched
            code, said = finish(recorder)
        assert code == 0, said
        assert text(known.pid, double) == before


def test_a_recording_may_begin_and_end_in_the_middle_of_a_graph(
    double: Engine, tmp_path: Path
) -> None:
    trace = tmp_path / "t.pftrace"
    options = ("--level", "barrier", "--duration", 1)
    with waiting(double, tmp_path / "go", *ENDLESS, "--work-us", 211) as known:
        known.go()
        count = probes(known.pid)
        before = text(known.pid, double)
        with attached(double, known.pid, trace, *options, probes=count) as recorder:
            code, said = finish(recorder)
        assert code == 0, said
        assert text(known.pid, double) == before
        assert is_running(known.pid)
    recording = Recording(trace, "", said, code)
    assert recording.session.import_errors() == []
    counts = pairs(recording.rows("SELECT category, COUNT(*) FROM slice GROUP BY 1"))
    assert as_int(counts["operator"]) > 100
    # What had begun before, and what went on after, is not shown as if it were whole.
    unfinished = "SELECT COUNT(*) FROM slice WHERE dur < 0 AND category IN ('operator', 'barrier')"
    assert recording.rows(unfinished) == [(0,)]
    orphans = recording.rows(
        "SELECT DISTINCT parent.category FROM slice JOIN slice parent ON parent.id ="
        " slice.parent_id WHERE slice.category IN ('operator', 'operator.incomplete')"
    )
    assert set(orphans) <= {("graph",), ("graph.worker",)}
    recording.close()


def test_exit_status_of_a_command_whose_child_runs_the_engine_is_reported(
    double: Engine, tmp_path: Path
) -> None:
    script = f"true; {double.program()} --threads 3 --decode 5; exit 7"
    options = ("--level", "operator")
    # An absolute path stays as it is when it is joined to the engine's folder.
    with record(double, tmp_path / "t", *options, target=("/bin/sh", "-c", script)) as recording:
        assert "/bin/sh exited with status 7" in recording.stderr
        truth = recording.truth
        executed = sum(t["extra"] + t["fused"] for t in truth["threads"])
        assert recording.count("operator") == executed
        assert recording.rows("SELECT pid FROM process WHERE name = 'known'") == [(truth["pid"],)]


def test_a_command_runs_as_the_user_that_is_named(double: Engine, tmp_path: Path) -> None:
    """With that user's groups, and none of root's."""
    nobody = pwd.getpwnam("nobody")
    done = run(
        double, "record", "--user", "nobody", "-o", tmp_path / "t", "--",
        "sh", "-c", "id -u; id -g; id -G; grep CapEff /proc/self/status",
    )  # fmt: skip
    assert done.returncode == 5
    assert "sh exited with status 0 before it loaded any ggml" in done.stderr
    groups = os.getgrouplist("nobody", nobody.pw_gid)
    uid, gid, all_groups, capabilities = done.stdout.splitlines()
    assert (int(uid), int(gid)) == (nobody.pw_uid, nobody.pw_gid)
    assert set(map(int, all_groups.split())) == set(groups)
    assert int(capabilities.split()[1], 16) == 0


# Not on stubs: it is the engine's own code that must be as it was. Half an hour's worth of slow
# graphs: the disk does not fill meanwhile.
SLOW = ("--work-us", 499, "--decode", 100_003)
DIRECT = ("--level", "barrier", "--probes", "direct")


def clean(double: Engine) -> list[bytes]:
    elf = Elf(double.library)
    return [elf.code_at(elf.symbols[symbol].value, 64) for symbol in SYMBOLS]


@pytest.mark.parametrize("killed", ["profinfer", "its server"])
def test_whoever_is_killed_the_recorder_ends_as_it_should_and_the_target_runs_on(
    killed: str, double: Engine, tmp_path: Path
) -> None:
    """Neither stopped nor probed, though it has been launched."""
    trace, capture = tmp_path / "t.pftrace", tmp_path / "t.pftrace.capture"
    command = ["record", *ENGINE_ONLY, "-o", trace, *DIRECT, "--poll", 0.1]
    with started(double, *PROFINFER, *command, "--", double.program(), *SLOW) as front:
        wait_for("a record", lambda: capture.exists() and capture.stat().st_size > 150_000)
        processes = family(front.pid)
        pid = processes["known"]
        try:
            end = boottime()
            os.kill(front.pid if killed == "profinfer" else processes["profinfer-recor"],
                    signal.SIGKILL)  # fmt: skip
            wait_for("the probes to go", lambda: text(pid, double) == clean(double))
            front.wait(20)
            wait_for("the recorder's end", lambda: not is_running(processes["profinfer-rec"]))
            assert is_running(pid)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    if capture.exists():
        assert run(double, "convert", capture, trace).returncode == 0
    recording = Recording(trace, "", "", 0)
    assert recording.session.import_errors() == []
    ((last,),) = recording.rows("SELECT MAX(ts + dur) FROM slice WHERE category = 'operator'")
    assert end - 1_000_000_000 < as_int(last) <= boottime()
    recording.close()


def test_a_killed_recorder_has_written_everything_up_to_the_last_drain(
    double: Engine, tmp_path: Path
) -> None:
    """Of that profinfer makes the trace, and says so."""
    trace, capture = tmp_path / "t.pftrace", tmp_path / "t.pftrace.capture"
    command = ["record", *ENGINE_ONLY, "-o", trace, *DIRECT]
    with waiting(double, tmp_path / "go", *SLOW) as known:
        with started(double, *PROFINFER, *command, "--pid", known.pid) as front:
            first_line(front)
            known.go()
            wait_for("a record", lambda: capture.exists() and capture.stat().st_size > 150_000)
            killed = boottime()
            os.kill(family(front.pid)["profinfer-rec"], signal.SIGKILL)
            code, said = finish(front)
        assert code == 4
        assert "the recorder was ended by SIGKILL" in said
        wait_for("the probes to go", lambda: text(known.pid, double) == clean(double))
        assert is_running(known.pid)
    recording = Recording(trace, "", "", 0)
    assert recording.session.import_errors() == []
    ((last,),) = recording.rows("SELECT MAX(ts + dur) FROM slice WHERE category = 'operator'")
    assert killed - 2_000_000_000 < as_int(last) <= boottime()
    assert recording.rows("SELECT COUNT(*) FROM slice WHERE name = 'recording ended'") == [(0,)]
    recording.close()


def test_chosen_iterations_are_recorded_and_the_process_goes_on(
    double: Engine, tmp_path: Path
) -> None:
    trace = tmp_path / "t.pftrace"
    options = ("--level", "operator", "--iterations", "5-11", "--poll", 0.01)
    with waiting(double, tmp_path / "go", "--decode", 211, "--layers", 2) as known:
        count = probes(known.pid, "operator")
        with attached(double, known.pid, trace, *options, probes=count) as recorder:
            known.go()
            code, said = finish(recorder)
        truth = known.truth()
    assert code == 0, said
    assert "(the iterations are complete)" in said
    recording = Recording(trace, "", said, code)
    assert recording.session.import_errors() == []
    graphs = {g[0]: g for g in truth["graphs"]}
    slices = recording.rows("SELECT ts, ts + dur FROM slice WHERE category = 'graph' ORDER BY ts")
    assert len(slices) == 7
    for index, (begin, end) in zip(range(5, 12), slices, strict=True):
        *_, start, stop = graphs[index]
        assert start <= as_int(begin) < as_int(end) <= stop
    per_graph = sum(t["extra"] + t["fused"] for t in truth["threads"]) // len(graphs)
    assert recording.count("operator") == 7 * per_graph
    assert recording.count("ubatch") == 7
    recording.close()


def test_a_filter_by_name_leaves_out_the_other_operators_and_their_waits(
    double: Engine, tmp_path: Path
) -> None:
    target = ("known", "--layers", 2, "--decode", 5, "--samples", 101)
    options = ("--level", "barrier", "--operator-names", "ffn_*", "result_output")
    with record(double, tmp_path / "t", *options, target=target) as recording:
        truth = recording.truth
        # The double calls a fused operator by its first node, the trace by the one it writes.
        every = Counter(row[1] for row in truth["samples"] if row[6] != "RMS_NORM+MUL")
        every.update({f"ffn_norm-{i}": 2 * len(truth["graphs"]) for i in range(2)})
        wanted = re.compile(r"ffn_\w+-\d|result_output")
        expected = {name: count for name, count in every.items() if wanted.fullmatch(name)}
        found = recording.rows(
            "SELECT name, COUNT(*) FROM slice WHERE category = 'operator' GROUP BY 1"
        )
        assert pairs(found) == expected
        # Every operator but a graph's last has a wait.
        assert recording.count("barrier") == sum(expected.values()) - expected["result_output"]
        assert recording.session.import_errors() == []
