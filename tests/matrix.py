"""What ran where: a test says on which kernel, with which loader; a table at the end how it went.

tests/conftest.py imports the fixture and the hook from here, so that every test has them.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Protocol

import pytest

PROPERTY = "matrix"
COLUMNS = ("what", "kernel", "machine", "loader", "transport", "attach", "result", "why not")
OUTCOMES = ("passed", "failed", "error", "skipped")


class Matrix(Protocol):
    def __call__(
        self,
        what: str,
        *,
        kernel: str | None = None,
        machine: str | None = None,
        loader: str = "-",
        transport: str = "-",
        attach: str = "-",
        why_not: str = "",
    ) -> None: ...


@pytest.fixture(name="matrix")
def matrix_fixture(request: pytest.FixtureRequest) -> Matrix:
    """Gives the test a row in the table; its outcome is added when it has one.

    `what` is done there, such as "programs loaded"; `kernel` and `machine` are this machine's
    unless an emulated one is named. A second call replaces the row: how probes were attached may
    be known only then. `why_not`: what a kernel, which cannot do it, gave as the reason; the test
    was whether it does.
    """

    def row(
        what: str,
        *,
        kernel: str | None = None,
        machine: str | None = None,
        loader: str = "-",
        transport: str = "-",
        attach: str = "-",
        why_not: str = "",
    ) -> None:
        release = platform.release().partition("-")[0]
        cells = (
            *(what, kernel or f"{release} (host)", machine or platform.machine()),
            *(loader, transport, attach, why_not),
        )
        properties = request.node.user_properties
        properties[:] = [(name, value) for name, value in properties if name != PROPERTY]
        properties.append((PROPERTY, cells))

    return row


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the cells of each column below one another."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = [
        (*value[:-1], outcome, value[-1])
        for outcome in OUTCOMES
        for report in terminalreporter.getreports(outcome)
        for name, value in getattr(report, "user_properties", ())
        if name == PROPERTY
    ]
    if rows:
        terminalreporter.section("what ran where")
        for line in table([COLUMNS, *sorted(set(rows))]):
            terminalreporter.write_line(line)
