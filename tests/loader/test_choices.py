"""What is chosen on machines that lack something, and how that is said."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import NoReturn

import pytest

from profinfer import features, libbpf_loader, uprobes
from profinfer.errors import KernelError
from profinfer.means import choose_means
from profinfer.uprobes import EVENT, best_way
from tests.support import Engine, double_fixture, require_recording, run

__all__ = ["double_fixture"]


def refuse(code: int) -> Callable[[int], NoReturn]:
    def refused(_program: int) -> NoReturn:
        raise OSError(code, "refused")

    return refused


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (lambda _: 0, "see only a process's first thread"),
        (refuse(errno.EINVAL), "has no uprobe_multi links"),
        (refuse(errno.ENOENT), "cannot be made here: refused"),
    ],
    ids=["first thread", "none", "failing"],
)
def test_without_links_that_see_all_threads_probes_are_perf_events(
    seen: Callable[[int], int], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_recording()
    monkeypatch.setattr(uprobes, "_seen_from_a_second_thread", seen)
    way = best_way()
    assert (way.name, way.attach_type) == (EVENT, 0)
    assert reason in way.reason
    assert choose_means().way == way
    with pytest.raises(KernelError, match=reason) as error:
        choose_means(wanted_way="uprobe_multi")
    assert "--attach" in error.value.hint


def test_without_atomics_records_travel_through_perf_buffers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require_recording()
    assert choose_means().transport == "ring"
    assert choose_means(wanted_transport="perf").transport == "perf"
    monkeypatch.setattr(features, "_EXCHANGE", "ff00000000000000")
    assert choose_means().transport == "perf"
    with pytest.raises(KernelError, match="ring") as error:
        choose_means(wanted_transport="ring")
    assert error.value.hint == "record --transport perf"


def test_the_boottime_clock_is_found_by_trying(monkeypatch: pytest.MonkeyPatch) -> None:
    require_recording()
    assert features.has_boot_clock()
    monkeypatch.setattr(features, "_BOOT_CLOCK", features._BOOT_CLOCK.replace("7d00", "ff7f"))
    assert not features.has_boot_clock()


def test_bcc_has_no_links() -> None:
    with pytest.raises(KernelError, match="BCC"):
        choose_means("bcc", wanted_way="uprobe_multi")
    assert choose_means("bcc").way.name == EVENT


def test_doctor_says_what_record_would_use(double: Engine) -> None:
    shown = run(double, "doctor").stdout
    means = choose_means()
    assert f"record uses {means.loader.name}" in shown
    assert f"record uses {means.transport}" in shown
    assert ("by uprobe_multi link" in shown) == (means.way.name == "uprobe_multi")
    for loader in ("libbpf", "bcc"):
        assert f"{loader} loads programs" in shown
    assert not libbpf_loader.missing()


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
