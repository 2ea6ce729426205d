"""Wherever the probes sit (on stubs, in them, on chosen instructions), they count the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.recording.helpers import assert_matches, truths
from tests.recording.helpers import rows as trace_rows
from tests.support import (
    ENGINE_ONLY,
    PLACED,
    Engine,
    attached,
    double_fixture,
    finish,
    record,
    run,
    started,
)

__all__ = ["double_fixture"]

HOT = ("on_operator", "on_fused", "on_barrier")
SCHEDULE = ("--threads", 3, "--layers", 5, "--prompt", 17, "--decode", 19, "--ubatch", 7,
            "--work-us", 3)  # fmt: skip
PROBES = """
SELECT h.value, v.value, s.value, w.value
FROM profinfer_recording AS h
JOIN profinfer_recording AS v ON v.key = replace(h.key, '.handler', '.via')
JOIN profinfer_recording AS s ON s.key = replace(h.key, '.handler', '.site')
LEFT JOIN profinfer_recording AS w ON w.key = replace(h.key, '.handler', '.why')
WHERE h.key GLOB 'plan.probes*.handler'
"""


def probes(trace: Path) -> dict[str, tuple[str, str, str]]:
    """What the trace says of each handler's probe: via, site and why it is not on a stub."""
    _, found = trace_rows(trace, "INCLUDE PERFETTO MODULE profinfer.recording.metadata", PROBES)
    return {str(h): (str(via), str(site), str(why or "")) for h, via, site, why in found}


def said(trace: Path, key: str) -> str:
    """One value of profinfer_recording."""
    _, found = trace_rows(
        trace,
        "INCLUDE PERFETTO MODULE profinfer.recording.metadata",
        "SELECT key, value FROM profinfer_recording",
    )
    return str({name: value for name, value in found}[key])


@pytest.mark.parametrize("program", ["known", "known-dl"])
@pytest.mark.parametrize(
    ("options", "via"),
    [
        ((), "recording"),
        (("--probes", "stub"), "stub"),
        (("--probes", "direct"), "direct"),
    ],
    ids=["recording stubs", "probed stubs", "chosen instructions"],
)
def test_counts_are_the_schedules_wherever_the_probes_are(
    double: Engine, tmp_path: Path, program: str, options: tuple[str, ...], via: str
) -> None:
    trace = tmp_path / "t.pftrace"
    target = (program, *SCHEDULE)
    with record(double, trace, "--level", "barrier", *options, target=target) as recording:
        assert_matches(trace, recording.truth, "barrier")
    placed = probes(trace)
    assert {placed[handler][0] for handler in HOT} == {via}
    if via == "stub":
        assert said(trace, "redirection") == "on"
        assert {site for _, site, _ in (placed[h] for h in HOT)} <= {"nop1", "nop5", "nop10"}


def test_an_engine_started_with_the_environment_is_attached_later_on_its_stubs(
    double: Engine, tmp_path: Path
) -> None:
    line = run(double, "env").stdout.strip()
    gate, trace = tmp_path / "gate", tmp_path / "t.pftrace"
    command = ("env", line, double.program(), "--wait", gate, *SCHEDULE)
    with started(double, *command) as known:
        assert known.stderr is not None
        assert known.stderr.readline().startswith("ready ")
        with attached(double, known.pid, trace, "--level", "barrier", probes=PLACED) as recorder:
            gate.touch()
            stdout, _ = known.communicate(timeout=60)
            code, said_by_recorder = finish(recorder)
    assert code == 0, said_by_recorder
    assert {probes(trace)[handler][0] for handler in HOT} == {"recording"}
    assert_matches(trace, truths(stdout)[0], "barrier")


def test_an_engine_started_without_it_is_probed_directly_and_the_trace_says_why(
    double: Engine, tmp_path: Path
) -> None:
    gate, trace = tmp_path / "gate", tmp_path / "t.pftrace"
    with started(double, double.program(), "--wait", gate, *SCHEDULE) as known:
        assert known.stderr is not None
        assert known.stderr.readline().startswith("ready ")
        looked = run(double, "doctor", "--pid", known.pid)
        with attached(double, known.pid, trace, "--level", "barrier", probes=PLACED) as recorder:
            gate.touch()
            stdout, _ = known.communicate(timeout=60)
            finish(recorder)
    assert_matches(trace, truths(stdout)[0], "barrier")
    for handler in HOT:
        via, _, why = probes(trace)[handler]
        assert (via, why) == ("direct", said(trace, "redirection"))
        assert "LD_AUDIT" in why
        assert why in looked.stdout
    assert looked.returncode == 0
    for kind in ("push", "nop5", "stepped"):
        assert f"{kind} " in looked.stdout, "doctor shows what a hit costs"


def test_two_copies_of_an_engine_in_one_process_have_stubs_of_their_own(
    double: Engine, tmp_path: Path
) -> None:
    # A second file with the same code: other inode, own stubs; only one of them computes.
    copy = double.folder / "libknown-copy.so"
    copy.write_bytes(double.library.read_bytes())
    preload = f"LD_PRELOAD={copy}"
    trace = tmp_path / "t.pftrace"
    done = run(
        double, "record", *ENGINE_ONLY, "--level", "barrier", "-o", trace, "--", "env", preload,
        double.program(), *SCHEDULE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert_matches(trace, truths(done.stdout)[0], "barrier")


def test_an_audit_library_that_is_already_set_stays(double: Engine, tmp_path: Path) -> None:
    environment = {**double.environment, "LD_AUDIT": "/nonexistent/other.so"}
    trace = tmp_path / "t.pftrace"
    done = run(
        double, "record", *ENGINE_ONLY, "--level", "barrier", "-o", trace, "--",
        double.program(), *SCHEDULE, environment=environment,
    )  # fmt: skip
    assert done.returncode == 0
    assert "/nonexistent/other.so" in done.stderr, "the loader complains about it, as before"
    assert {probes(trace)[handler][0] for handler in HOT} == {"recording"}
    assert_matches(trace, truths(done.stdout)[0], "barrier")


def test_empty_handlers_record_no_operator_but_everything_above(
    double: Engine, tmp_path: Path
) -> None:
    trace = tmp_path / "t.pftrace"
    options = ("--level", "barrier", "--empty-handlers")
    with record(double, trace, *options, target=("known", *SCHEDULE)) as recording:
        truth = recording.truth
        assert recording.count("operator") == recording.count("barrier") == 0
        assert recording.count("ubatch") == sum(truth["ubatches"].values())


def test_the_trace_counts_the_runs_of_each_hot_handler(double: Engine, tmp_path: Path) -> None:
    trace = tmp_path / "t.pftrace"
    with record(
        double, trace, "--level", "barrier", "--probes", "stub", target=("known", *SCHEDULE)
    ) as recording:
        calls = recording.truth["calls"]
    _, found = trace_rows(
        trace,
        "INCLUDE PERFETTO MODULE profinfer.recording.metadata",
        "SELECT h.value, r.value, t.value FROM profinfer_recording AS h"
        " JOIN profinfer_recording AS r ON r.key = replace(h.key, '.handler', '.runs')"
        " JOIN profinfer_recording AS t ON t.key = replace(h.key, '.handler', '.timed_runs')"
        " WHERE h.key GLOB 'handlers*.handler'",
    )
    runs = {str(handler): (str(hits), str(timed)) for handler, hits, timed in found}
    for handler, symbol in (
        ("on_operator", "ggml_cpu_extra_compute_forward"),
        ("on_fused", "ggml_compute_forward_rms_norm_mul_fused"),
        ("on_barrier", "ggml_barrier"),
    ):
        # So few records are all timed: the kernel's own count of runs is the same.
        assert runs[handler] == (str(calls[symbol]), str(calls[symbol])), handler


def test_doctor_and_env_say_where_the_library_is(double: Engine) -> None:
    line = run(double, "env").stdout.strip()
    name, _, path = line.partition("=")
    assert name == "LD_AUDIT"
    assert Path(path).is_file()
    assert run(double, "env", "--unit").stdout == f"[Service]\nEnvironment={line}\n"
    assert path in run(double, "doctor").stdout
