"""What programs read of a table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

import nanoarrow

from profinfer.drawing import exports
from profinfer.trace_processor import Value
from profinfer.trace_processor.query import Answer, Table
from tests.drawing.test_tables import Terminal


def answer(columns: list[str], rows: Sequence[Sequence[Value]], title: str = "") -> Answer:
    return Answer("it", [Table(title, columns, [*map(tuple, rows)])])


def test_csv() -> None:
    out = io.StringIO()
    exports.write_csv(answer(["a", "a"], [(1, None), ('x,"y"\n', b"\x00")]).tables, out)
    assert list(csv.reader(io.StringIO(out.getvalue(), newline=""))) == [
        ["a", "a"],
        ["1", ""],
        ['x,"y"\n', "00"],
    ]
    terminal = Terminal()
    exports.write_csv(answer(["a"], [("\x1b]0;x\x07",)]).tables, terminal)
    assert terminal.getvalue() == "a\n\\x1b]0;x\\x07\n"


def written(*answers: Answer) -> str:
    out = io.StringIO()
    exports.write_json(answers, out)
    return out.getvalue()


def test_json() -> None:
    rows: list[tuple[Value, ...]] = [(2**60, "é\x1b", float("inf")), (None, b"\xff", 0.5)]
    text = written(answer(["a", "a", "f"], rows, "One table's title does not matter"))
    assert json.loads(text) == [
        {"a": 2**60, "a:1": "é\x1b", "f": None},
        {"a": None, "a:1": "ff", "f": 0.5},
    ]
    assert "\x1b" not in text


def test_several_results() -> None:
    both = Answer("it", [Table("First\x1b", ["a"], [(1,)]), Table("", ["b"], [])])
    out = io.StringIO()
    exports.write_csv(both.tables, out)
    assert out.getvalue() == "a\n1\n\nb\n"
    expected = [{"title": "First\\x1b", "rows": [{"a": 1}]}, {"title": "", "rows": []}]
    assert json.loads(written(both)) == expected
    assert json.loads(written(both, answer(["c"], []))) == [
        {"query": "it", "tables": expected},
        {"query": "it", "tables": [{"title": "", "rows": []}]},
    ]


COLUMNS: dict[str, tuple[list[Value], str]] = {
    "whole": ([1, None, -(2**63)], "INT64"),
    "part": ([1, 0.5, None], "DOUBLE"),
    "text": (["é\x1b", "", None], "STRING"),
    "bytes": ([b"\x00\xff", None, b""], "BINARY"),
    "nothing": ([None, None, None], "NULL"),
    "any": ([1, "x", b"\xff"], "STRING"),
}


def test_arrow() -> None:
    out = io.BytesIO()
    rows = list(zip(*(values for values, _ in COLUMNS.values()), strict=True))
    exports.write_arrow(answer([*COLUMNS], rows, "é"), out)
    exports.write_arrow(answer(["a", "a"], []), out)
    out.seek(0)
    first = nanoarrow.ArrayStream.from_readable(out).read_all()
    assert {field.name: field.type.name for field in first.schema.fields} == {
        name: kind for name, (_, kind) in COLUMNS.items()
    }
    assert first.to_pylist() == [
        {**dict(zip(COLUMNS, row, strict=True)), "any": text}
        for row, text in zip(rows, ("1", "x", "ff"), strict=True)
    ]
    assert dict(first.schema.metadata) == {b"query": b"it", b"title": "é".encode()}
    second = nanoarrow.ArrayStream.from_readable(out).read_all()
    assert [field.name for field in second.schema.fields] == ["a", "a:1"]
    assert second.to_pylist() == []
