"""What every test may use.

A test that needs something a machine may lack asks for it by `require(what, available)`: where
it is missing the test is skipped, and the reason says what set-up would provide. With
PROFINFER_NO_SKIP=1 (continuous integration) such a skip is a failure. Hardware that no set-up
can provide is asked for with `hardware=True`: missing, it only ever skips.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any, Protocol

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.matrix import matrix_fixture, pytest_terminal_summary

__all__ = ["matrix_fixture", "pytest_terminal_summary"]

REPO = Path(__file__).resolve().parents[1]
NO_SKIP = "PROFINFER_NO_SKIP"
HARDWARE = "hardware: "


# Started in the background of a script, we would hand the ignored Ctrl-C down to what tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


class Require(Protocol):
    def __call__(self, what: str, available: object, *, hardware: bool = False) -> None: ...


def require(what: str, available: object, *, hardware: bool = False) -> None:
    """Ends the test here unless `what` is `available`; importable as tests.conftest.require."""
    if available:
        return
    if hardware:
        pytest.skip(f"{HARDWARE}this machine has no {what}")
    pytest.skip(f"needs {what}: `make setup` (with {NO_SKIP}=1 this skip is a failure)")


def _forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if os.environ.get(NO_SKIP) != "1" or report.outcome != "skipped" or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if reason.removeprefix("Skipped: ").startswith(HARDWARE):
        return
    report.outcome = "failed"
    report.longrepr = f"{report.nodeid}: skipped although {NO_SKIP}=1: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    del item, call
    report = yield
    _forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    del collector
    report = yield
    _forbid_skip(report)
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return _Groups(config, log)


class _Groups(LoadScopeScheduling):  # type: ignore[misc] # xdist says nothing of its types
    """Tests of one group run one after another, two groups side by side. Whoever records on this
    machine's kernel is in one group: some ask who else has probes there."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.split("::")[0].removeprefix("tests/")
        if not path.startswith(_ELSEWHERE):
            return "this kernel"
        return next((folder for folder in _TOGETHER if path.startswith(folder)), path)


_ELSEWHERE = (
    "converting/", "describing/", "drawing/test_dag", "emulated/", "fuzz/", "kernel/",
    "probes/test_backends", "probes/test_errors", "probes/test_foreign", "recorder_units/",
    "records/", "sql/", "test_", "tools/test_make_dense", "tools/test_make_moe", "trace/",
    "trace_processor/",
)  # fmt: skip
"""What does not care who else records here, and records nothing itself."""
_TOGETHER = ("describing/", "emulated/", "probes/")
"""Of these, what is shared by all files."""


@pytest.fixture(scope="session", name="require")
def require_fixture() -> Require:
    return require


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the checkout."""
    return REPO


@pytest.fixture(scope="session")
def gemma(repo: Path) -> Path:
    """Gemma-3-270M, a real model small enough for tests."""
    model = repo / "build/models/gemma-3-270m-q4_k_m.gguf"
    require(f"the model {model.relative_to(repo)}", model.is_file())
    return model
