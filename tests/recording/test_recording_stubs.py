"""Stubs that write their records themselves: what becomes of them when a process ends, forks, or
has more threads than rings, and what else cannot be recorded so."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from profinfer.config import Config
from profinfer.errors import UsageError
from profinfer.records.capture import FrameKind, read_capture
from tests.recording.helpers import assert_matches, ending, truths
from tests.recording.helpers import rows as trace_rows
from tests.recording.test_probes import HOT, probes
from tests.support import (
    ENGINE_ONLY,
    PLACED,
    Engine,
    as_int,
    attached,
    double_fixture,
    family,
    finish,
    pairs,
    record,
    run,
    started,
)

__all__ = ["double_fixture"]

BY_STUBS = ("--level", "barrier", "--probes", "recording")
SCHEDULE = ("--threads", 3, "--layers", 2, "--decode", 19, "--work-us", 3)
OUTSIDE = """
INCLUDE PERFETTO MODULE profinfer.operators.runs;
SELECT count() FROM profinfer_operator_slice AS o JOIN profinfer_graph AS g USING (graph_id)
WHERE o.ts < g.ts OR o.ts + o.dur > g.ts + g.dur
"""


def _end(raw: Path) -> dict[str, object]:
    [end] = [frame.json() for frame in read_capture(raw) if frame.kind == FrameKind.END]
    found: dict[str, object] = end["stub_rings"]
    return found


def test_times_are_told_with_their_bound_and_lie_within_graphs(
    double: Engine, tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    with record(double, tmp_path / "t", *BY_STUBS, "--raw", raw, target=("known", *SCHEDULE)) as r:
        assert_matches(r.trace, r.truth, "barrier")
        assert r.rows(OUTSIDE) == [(0,)]
        calls = r.truth["calls"]
        hits = {
            "on_operator": calls["ggml_cpu_extra_compute_forward"],
            "on_fused": calls["ggml_compute_forward_rms_norm_mul_fused"],
            "on_barrier": calls["ggml_barrier"],
        }
        found = r.rows(
            "INCLUDE PERFETTO MODULE profinfer.recording.handlers;"
            " SELECT handler, hits FROM profinfer_handler WHERE via = 'recording'"
        )
        assert pairs(found) == hits
        (cost,) = r.rows(
            "INCLUDE PERFETTO MODULE profinfer.recording.handlers;"
            " SELECT DISTINCT hit_ns, handler_ns FROM profinfer_handler WHERE via = 'recording'"
        )
        assert isinstance(cost[0], float)
        assert 1 < cost[0] < 500, "measured here: a trap costs more"
        assert cost[1] == 0
    end = _end(raw)
    bound = end.pop("bound_ns")
    assert end == {"records": sum(hits.values()), "refused": 0, "unfinished": 0}
    assert isinstance(bound, float)
    assert 0 < bound < 1000


def test_the_last_record_before_a_kill_is_in_the_trace(double: Engine, tmp_path: Path) -> None:
    gate, trace = tmp_path / "gate", tmp_path / "t.pftrace"
    command = ("env", run(double, "env").stdout.strip(), double.program(), "--wait", gate,
               "--hold", 60000, *SCHEDULE)  # fmt: skip
    with started(double, *command) as known:
        assert known.stderr is not None
        assert known.stdout is not None
        assert known.stderr.readline().startswith("ready ")
        looked = run(double, "doctor", "--pid", known.pid).stdout
        assert "stubs: on; they can record themselves" in looked
        assert "ggml_barrier, recording, 0.0" in looked
        options = (*BY_STUBS, "--poll", 10)  # nobody has looked before
        with attached(double, known.pid, trace, *options, probes=PLACED) as recorder:
            gate.touch()
            said = known.stdout.readline()
            known.kill()
            code, heard = finish(recorder)
    assert code == 0, heard
    assert {probes(trace)[handler][0] for handler in HOT} == {"recording"}
    assert_matches(trace, truths(said)[0], "barrier")


def test_threads_that_come_and_go_have_each_others_rings(double: Engine, tmp_path: Path) -> None:
    target = ("known", "--no-pool", "--threads", 4, "--layers", 1, "--decode", 100, "--work-us", 1)
    with record(double, tmp_path / "t", *BY_STUBS, target=target) as recording:
        truth = recording.truth
        assert len(truth["threads"]) == 4
        assert recording.count("loss") == 0
        calls = truth["calls"]
        operators = calls["ggml_cpu_extra_compute_forward"]
        operators += calls["ggml_compute_forward_rms_norm_mul_fused"]
        assert recording.count("operator") == operators


def test_threads_without_a_ring_are_counted_as_lost(double: Engine, tmp_path: Path) -> None:
    """There are at least eight rings, and two for each CPU."""
    threads = 2 * max(8, 2 * (os.cpu_count() or 1)) + 1
    raw = tmp_path / "raw"
    target = ("known", "--threads", threads, "--layers", 1, "--decode", 2, "--work-us", 0,
              "--sleep")  # fmt: skip
    with record(double, tmp_path / "t", *BY_STUBS, "--raw", raw, target=target) as recording:
        calls = recording.truth["calls"]
        ends = ending(recording.trace)
        assert recording.count("loss") > 0
    made = sum(calls[name] for name in (
        "ggml_cpu_extra_compute_forward", "ggml_compute_forward_rms_norm_mul_fused", "ggml_barrier",
    ))  # fmt: skip
    records = _end(raw)["records"]
    assert isinstance(records, int)
    assert 0 < records < made
    assert int(str(ends["lost"])) == made - records


def test_a_forked_child_is_probed_and_writes_into_no_ring_of_its_parent(
    double: Engine, tmp_path: Path
) -> None:
    target = ("known", *SCHEDULE, "--fork")
    with record(double, tmp_path / "t", *BY_STUBS, target=target) as recording:
        found = recording.rows(
            "INCLUDE PERFETTO MODULE profinfer.recording.handlers;"
            " SELECT p.pid, group_concat(DISTINCT h.via), sum(h.hits) FROM profinfer_handler AS h"
            " JOIN process AS p USING (upid) WHERE h.handler IN ('on_operator', 'on_fused')"
            " GROUP BY 1"
        )
        hits = {
            truth["pid"]: sum(each["extra"] + each["fused"] for each in truth["threads"])
            for truth in recording.truths
        }
        [child] = [truth["pid"] for truth in recording.truths if truth["child"] == 0]
        assert pairs([(pid, count) for pid, _, count in found]) == hits
        ways = {pid: way for pid, way, _ in found}
        assert ways == {pid: "stub" if pid == child else "recording" for pid in hits}
        assert "it has been forked" in recording.stderr


def _no_large_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))


def test_what_cannot_record_is_probed_and_says_why(double: Engine, tmp_path: Path) -> None:
    limited = ("sh", "-c", f"ulimit -f 1024; exec {double.program()} --decode 2")
    trace = tmp_path / "t.pftrace"
    for options in ((), ("--strict",)):
        done = run(
            double, "record", *ENGINE_ONLY, *BY_STUBS, "--force", "-o", trace, *options, "--",
            *limited,
        )  # fmt: skip
        assert "its stubs cannot record: its files may not become large enough" in done.stderr
        assert (done.returncode == 0) == (not options), done.stderr
        if not options:
            assert_matches(trace, json.loads(done.stdout), "barrier")
            via, _, why = probes(trace)["on_barrier"]
            assert (via, "RLIMIT_FSIZE" in why) == ("stub", True)


def test_with_counters_they_are_probed(double: Engine, tmp_path: Path) -> None:
    trace = tmp_path / "t.pftrace"
    with record(
        double, trace, "--level", "barrier", "--counters", "faults", target=("known", *SCHEDULE)
    ) as recording:
        assert_matches(trace, recording.truth, "barrier")
    why = "its stubs cannot record: counters are read in the kernel"
    assert {probes(trace)[handler][::2] for handler in HOT} == {("stub", why)}
    words = run(double, "query", "recording", trace).stdout.split()
    assert f" stubs that record {why} " in " ".join(words)


@pytest.mark.parametrize(
    "settings",
    [{"empty_handlers": True}, {"level": "graph"}],
    ids=str,
)
def test_what_only_probes_can_do_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="stubs cannot record: ") as raised:
        Config(pid=1, probes="recording", **settings).validate()
    assert raised.value.hint == "--probes stub"


def test_a_process_in_another_pid_namespace_is_probed(double: Engine, tmp_path: Path) -> None:
    trace = tmp_path / "t.pftrace"
    done = run(
        double, "record", *ENGINE_ONLY, *BY_STUBS, "-o", trace, "--", "unshare", "--pid", "--fork",
        double.program(), "--decode", 2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    placed = probes(trace)
    for handler in HOT:
        via, _, why = placed[handler]
        assert (via, "another PID namespace" in why) == ("stub", True)
    [count] = trace_rows(trace, "SELECT count() FROM slice WHERE category = 'barrier'")
    [known] = truths(done.stdout)
    assert count == [(sum(thread["barrier_outside"] for thread in known["threads"]),)]


FILTERS = """#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>
static void filter(int signal) {
  struct sock_filter allow = {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW};
  struct sock_fprog program = {1, &allow};
  if (signal && !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
}
__attribute__((constructor)) static void later(void) {
  struct itimerval when = {{0, 0}, {0, 300000}};
  signal(SIGVTALRM, filter);
  setitimer(ITIMER_VIRTUAL, &when, 0);
}
"""
FORBIDS = """#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *time) {
  return syscall(SYS_clock_gettime, clock, time); /* not by the counter */
}
__attribute__((constructor)) static void forbid(void) { prctl(PR_SET_TSC, PR_TSC_SIGSEGV); }
"""


@pytest.mark.parametrize(
    ("source", "why"),
    [(FILTERS, "system call filter (seccomp)"), (FORBIDS, "may not read the time stamp counter")],
    ids=["a filter that comes while it is recorded", "a counter that threads may not read"],
)
def test_what_cannot_record_any_longer_is_probed(
    double: Engine, tmp_path: Path, source: str, why: str
) -> None:
    gate, trace, preloaded = tmp_path / "gate", tmp_path / "t.pftrace", tmp_path / "preloaded.so"
    compile_c = ["gcc", "-shared", "-fPIC", "-o", str(preloaded), "-x", "c", "-"]
    subprocess.run(compile_c, input=source, text=True, check=True, timeout=60)
    command = ("env", run(double, "env").stdout.strip(), f"LD_PRELOAD={preloaded}",
               double.program(), "--wait", gate, "--threads", 2, "--layers", 1, "--decode", 1200,
               "--work-us", 20)  # fmt: skip
    with started(double, *command) as known:
        assert known.stderr is not None
        assert known.stderr.readline().startswith("ready ")
        options = (*BY_STUBS, "--poll", 0.1)
        with attached(double, known.pid, trace, *options, probes=PLACED) as recorder:
            gate.touch()
            stdout, _ = known.communicate(timeout=60)
            code, heard = finish(recorder)
    assert (code, known.returncode) == (0, 0), heard
    [note] = {line for line in heard.splitlines() if "cannot record any longer" in line}
    assert why in note
    _, last, count = trace_rows(
        trace,
        "INCLUDE PERFETTO MODULE profinfer.operators.runs",
        "SELECT max(graph_id), (SELECT max(graph_id) FROM profinfer_graph)"
        " FROM profinfer_operator_slice",
        "SELECT count() FROM slice WHERE category IN ('operator', 'operator.incomplete')",
    )
    assert last[0][0] == last[0][1], "operators are recorded to the end"
    assert any(why in str(value) for value in ending(trace).values())
    made = sum(each["extra"] + each["fused"] for each in truths(stdout)[0]["threads"])
    [(found,)] = count
    assert 0 < as_int(found) <= made


def test_the_next_recording_takes_over_what_a_killed_recorder_has_left_on(
    double: Engine, tmp_path: Path
) -> None:
    gate, trace = tmp_path / "gate", tmp_path / "t.pftrace"
    command = ("env", run(double, "env").stdout.strip(), double.program(), "--wait", gate,
               *SCHEDULE)  # fmt: skip
    with started(double, *command) as known:
        assert known.stderr is not None
        assert known.stderr.readline().startswith("ready ")
        with attached(double, known.pid, trace, *BY_STUBS, probes=PLACED) as recorder:
            os.kill(family(recorder.pid)["profinfer-rec"], signal.SIGKILL)
            assert recorder.wait(30) != 0
        options = (*BY_STUBS, "--force")
        with attached(double, known.pid, trace, *options, probes=PLACED) as recorder:
            strictly = (*BY_STUBS, "--strict", "-o", tmp_path / "2")
            refused = run(double, "record", "--pid", known.pid, *strictly)
            gate.touch()
            stdout, _ = known.communicate(timeout=60)
            code, heard = finish(recorder)
    assert code == 0, heard
    assert refused.returncode == 6
    assert "its stubs cannot record: another recording uses them" in refused.stderr
    assert_matches(trace, truths(stdout)[0], "barrier")
