"""Tables for programs: CSV, JSON, Arrow. Always whole, and never escaped but for a terminal."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import math
from collections.abc import Sequence
from typing import Any, BinaryIO, TextIO

from profinfer.errors import UsageError
from profinfer.trace_processor import Value
from profinfer.trace_processor.query import Answer, Table, escape


def write_csv(tables: Sequence[Table], out: TextIO) -> None:
    """Write tables, a blank line between them, NULL as nothing and bytes in hexadecimal."""
    # A file gets the text as it is; a terminal would obey it.
    clean = escape if out.isatty() else str
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    for index, table in enumerate(tables):
        buffer.write("\n" if index else "")
        writer.writerow([clean(column) for column in table.columns])
        for row in table.rows:
            writer.writerow(
                [
                    v.hex() if isinstance(v, bytes) else clean(v) if isinstance(v, str) else v
                    for v in row
                ]
            )
    out.write(buffer.getvalue())


def write_json(answers: Sequence[Answer], out: TextIO) -> None:
    """Write objects: of one table its rows, of several [{"title", "rows"}], and of several answers
    [{"query", "tables"}]. Infinities are null, bytes in hexadecimal."""
    found = [
        [{"title": escape(table.title), "rows": _objects(table)} for table in answer.tables]
        for answer in answers
    ]
    content: object
    if len(answers) > 1:
        content = [
            {"query": escape(answer.name), "tables": tables}
            for answer, tables in zip(answers, found, strict=True)
        ]
    else:
        content = found[0][0]["rows"] if len(found[0]) == 1 else found[0]
    out.write(json.dumps(content, indent=2, allow_nan=False) + "\n")


def check_arrow(out: TextIO) -> None:
    """Raise `UsageError` where Arrow cannot be written, or would be written on a terminal."""
    if importlib.util.find_spec("nanoarrow") is None:
        raise UsageError("Arrow is written by nanoarrow, which is missing", "pip install nanoarrow")
    if out.isatty():
        raise UsageError("Arrow is not for terminals", "redirect it: > answer.arrows")


def write_arrow(answer: Answer, out: BinaryIO) -> None:
    """Write an Arrow IPC stream for each table, one after the other; the metadata of its schema say
    its `title`, and the `query`. A column is int64, double, string or binary, or null."""
    import nanoarrow  # only who asks for it needs it
    from nanoarrow.ipc import StreamWriter

    for table in answer.tables:
        children = {
            name: _arrow([row[i] for row in table.rows])
            for i, name in enumerate(_distinct(table.columns))
        }
        types = nanoarrow.struct({name: c.schema for name, c in children.items()}, nullable=False)
        schema = nanoarrow.c_schema(types).modify(
            metadata={"query": answer.name, "title": table.title}
        )
        array = nanoarrow.c_array_from_buffers(
            schema, len(table.rows), [None], children=list(children.values())
        )
        buffer = io.BytesIO()  # who reads no further is found out by our own writing
        with StreamWriter.from_writable(buffer) as writer:
            writer.write_array(array)
        out.write(buffer.getvalue())


def _arrow(values: Sequence[Value]) -> Any:
    import nanoarrow

    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        return nanoarrow.c_array_from_buffers(nanoarrow.null(), len(values), [])
    if kinds == {bytes}:
        return nanoarrow.c_array(values, nanoarrow.binary())
    if kinds <= {int, float}:
        return nanoarrow.c_array(
            values, nanoarrow.float64() if float in kinds else nanoarrow.int64()
        )
    return nanoarrow.c_array(
        [v.hex() if isinstance(v, bytes) else None if v is None else str(v) for v in values],
        nanoarrow.string(),
    )


def _distinct(columns: Sequence[str]) -> list[str]:
    """The names; a second column of the same name would otherwise replace the first."""
    names: list[str] = []
    for column in columns:
        twins = sum(name == column or name.startswith(f"{column}:") for name in names)
        names.append(f"{column}:{twins}" if twins else column)
    return names


def _objects(table: Table) -> list[dict[str, object]]:
    names = _distinct(table.columns)
    return [dict(zip(names, map(_json_value, row), strict=True)) for row in table.rows]


def _json_value(value: Value) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
