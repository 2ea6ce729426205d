"""Links that open a row's slice in the UI: `profinfer ui` serves them at its usual port."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from profinfer.trace_processor.query import Table
from profinfer.trace_processor.result import Value
from profinfer.trace_processor.session import Session
from profinfer.ui.start import PORT, quoted

COLUMN = "slice_id"
"""A row that has a value there stands for that slice. Ready queries have it for links only."""
_AT_ONCE = 1000


def without_slices(tables: Sequence[Table]) -> list[Table]:
    """What a ready query prints; other SQL asks for what it wants to see."""
    return [_without(table) if table.title and COLUMN in table.columns else table
            for table in tables]  # fmt: skip


def with_links(session: Session, tables: Sequence[Table], trace: Path) -> list[Table]:
    """The tables with a column `link` in the place of each `slice_id`."""
    place = f"http://127.0.0.1:{PORT}/open/{quoted(trace.resolve().name)}"
    return [_linked(session, table, place) if COLUMN in table.columns else table
            for table in tables]  # fmt: skip


def _linked(session: Session, table: Table, place: str) -> Table:
    slices = [row[table.columns.index(COLUMN)] for row in table.rows]
    links: dict[Value, str] = {}
    ids = sorted({number for number in slices if isinstance(number, int)})
    for first in range(0, len(ids), _AT_ONCE):
        some = ",".join(map(str, ids[first : first + _AT_ONCE]))
        found = session.query(f"SELECT id, ts, dur FROM slice WHERE id IN ({some})")  # noqa: S608
        links |= {number: f"{place}?ts={ts!r}&dur={dur!r}" for number, ts, dur in found}
    rest = _without(table)
    rows = [(*row, links.get(number)) for row, number in zip(rest.rows, slices, strict=True)]
    return replace(table, columns=[*rest.columns, "link"], rows=rows)


def _without(table: Table) -> Table:
    at = table.columns.index(COLUMN)
    rows = [(*row[:at], *row[at + 1 :]) for row in table.rows]
    columns = [*table.columns[:at], *table.columns[at + 1 :]]
    return replace(table, columns=columns, rows=rows)
