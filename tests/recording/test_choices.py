"""What is chosen on machines that lack something, and how that is said."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest

from tests.support import Engine, double_fixture, run

__all__ = ["double_fixture"]

MAP_CREATE, PROG_LOAD, LINK_CREATE = 0, 5, 28
"""Commands of bpf(2)."""


def run_refused(
    double: Engine, refused: tuple[int, int], *arguments: object
) -> subprocess.CompletedProcess[str]:
    """`profinfer` where the kernel refuses a command."""
    command, code = refused
    wrapper = (sys.executable, "-m", "tests.recording.refusing", f"{command}={code}", "--")
    return run(double, *arguments, wrapper=wrapper)


@pytest.fixture(scope="module")
def doctor(double: Engine) -> str:
    """What doctor says of this kernel as it is."""
    return run(double, "doctor").stdout


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        ((LINK_CREATE, 0), "this kernel's uprobe_multi links see only a process's first thread"),
        ((LINK_CREATE, errno.EINVAL), "this kernel has no uprobe_multi links"),
        ((LINK_CREATE, errno.EOPNOTSUPP), "this kernel has no uprobe_multi links"),
        ((LINK_CREATE, errno.ENOENT),
         "uprobe_multi links cannot be made here: No such file or directory"),
        ((PROG_LOAD, errno.ENOMEM), "cannot load a BPF program: Cannot allocate memory"),
    ],
    ids=["first thread", "none", "unsupported", "failing", "no programs"],
)  # fmt: skip
def test_without_links_that_see_all_threads_probes_are_perf_events(
    refused: tuple[int, int], reason: str, double: Engine
) -> None:
    shown = run_refused(double, refused, "doctor").stdout
    assert "by perf event" in shown
    assert reason in shown
    asked = run_refused(double, refused, "record", "--attach", "uprobe_multi", "--", "/bin/true")
    assert asked.returncode == 4
    assert f"no probes by uprobe_multi link: {reason}" in asked.stderr
    assert "record --attach auto" in asked.stderr


def test_without_ring_buffers_records_travel_through_perf_buffers(
    double: Engine, doctor: str
) -> None:
    assert "record uses ring\n" in doctor
    refused = (MAP_CREATE, errno.EINVAL)
    assert "record uses perf\n" in run_refused(double, refused, "doctor").stdout
    asked = run_refused(double, refused, "record", "--transport", "ring", "--", "/bin/true")
    assert asked.returncode == 4
    assert "lacks the atomic instructions or the ring buffer of the ring" in asked.stderr
    assert "record --transport perf" in asked.stderr


def test_the_boottime_clock_is_found_by_trying(double: Engine, doctor: str) -> None:
    computed = "; times are computed from CLOCK_MONOTONIC"
    assert computed not in doctor
    assert computed in run_refused(double, (PROG_LOAD, errno.EINVAL), "doctor").stdout


def test_bcc_has_no_links(double: Engine) -> None:
    asked = run(
        double, "record", "--loader", "bcc", "--attach", "uprobe_multi", "--", "/bin/true"
    )  # fmt: skip
    assert asked.returncode == 4
    assert "BCC loads no programs for uprobe_multi links" in asked.stderr


def test_doctor_says_what_record_would_use(doctor: str) -> None:
    for loader in ("libbpf", "bcc"):
        assert f"{loader} loads programs" in doctor
    assert "record uses libbpf" in doctor
    assert "by uprobe_multi link" in doctor or "by perf event" in doctor


@pytest.mark.parametrize(
    ("option", "value", "near"),
    [
        ("loader", "libbf", "libbpf"),
        ("transport", "rings", "ring"),
        ("attach", "perf_events", "perf_event"),
    ],
)
def test_a_setting_that_does_not_exist_is_named_with_the_nearest(
    option: str, value: str, near: str, double: Engine
) -> None:
    config = double.folder / f"{option}.yaml"
    config.write_text(f"{option}: {value}\n")
    done = run(double, "record", "--config", config, "--", "/bin/true")
    assert done.returncode == 2
    assert f"{option} cannot be {value!r}" in done.stderr
    assert f"did you mean {near}?" in done.stderr
