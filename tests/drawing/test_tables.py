"""What people see of a table."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest

from profinfer.drawing import tables
from profinfer.trace_processor import Value
from profinfer.trace_processor.query import Table

Rows = Sequence[Sequence[Value]]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def table(title: str, columns: list[str], rows: Rows) -> Table:
    return Table(title, columns, [*map(tuple, rows)])


def written(*those: Table, is_wide: bool = False) -> list[str]:
    out = io.StringIO()
    tables.write(those, out, is_wide=is_wide)
    return out.getvalue().splitlines()


def on_terminal(width: int, monkeypatch: pytest.MonkeyPatch, those: Table) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    out = Terminal()
    tables.write([those], out)
    return out.getvalue().splitlines()


def test_table() -> None:
    rows = [("ffn_gate-0", 12, 1.5, None), ("évil\x1b[31m\n", 3456, 1234.25, b"\x01\xff")]
    assert written(table("", ["name", "n", "ms", "b"], rows)) == [
        "name               n       ms  b",
        "--------------  ----  -------  ----",
        "ffn_gate-0        12     1.50  -",
        "évil\\x1b[31m\\n  3456  1234.25  01ff",
    ]


def test_results_stand_under_their_titles() -> None:
    those = [
        table("First\x1b", ["a"], [(1,), (2,)]), table("", ["b"], []),
        table("Losses (none when empty)", ["c"], []), table("Gaps", ["c"], []),
        table("Reasons", ["reason"], [("because",), ("why not",)]),
    ]  # fmt: skip
    assert written(*those) == [
        "First\\x1b", "a", "-", "1", "2", "", "b", "-", "(no rows)", "",
        "Losses: none", "Gaps: none", "", "Reasons", "  because", "  why not",
    ]  # fmt: skip


def test_one_row_that_has_a_name_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    those = table("Losses (none when empty)", ["kind", "cpu", "gaps_ms"], [("switch", 1, 39.3)])
    assert written(those) == ["Losses: switch; cpu 1; gaps_ms 39.3"]
    assert on_terminal(30, monkeypatch, those) == ["Losses: switch; cpu 1; gaps_ms", "  39.3"]
    assert written(those, is_wide=True) == [
        "Losses", "kind    cpu  gaps_ms", "------  ---  -------", "switch    1     39.3",
    ]  # fmt: skip
    numbers = table("Bytes (of all)", ["a", "b", "zero"], [(1, 2.5, 0)])
    assert written(numbers)[0] == "Bytes: a 1; b 2.5"
    assert written(table("In short", ["what"], [("a sentence",)])) == ["In short: a sentence"]


def test_the_first_rows_of_each_process_are_shown() -> None:
    rows: list[tuple[Value, ...]] = [("a", 1, 0), ("a", 2, 0), ("a", 3, 1000.5), ("b", 4, 0)]
    those = Table("Ops (all)", ["process", "n", "late"], rows, most=2)
    assert written(those)[3:] == [
        "a        1     0", "a        2     0", "b        4     0",
        "(left out, see --wide: 1 more of Ops)",
    ]  # fmt: skip
    assert len(written(those, is_wide=True)) == 3 + 4


def test_columns_that_say_nothing_are_named_only() -> None:
    columns = ["layer", "zero", "unknown", "either", "text", "complete", "certain", "ms"]
    rows = [(0, 0, None, None, "", 1, 0, 0.0), (1, 0.0, None, 0, None, 1, 0, 2.5)]
    first = table("First", columns, rows)
    second = table("Second", ["either", "other"], [(1, 2)] * 2)
    assert written(first, second) == [
        "First", "layer  certain   ms", "-----  -------  ---", "    0        0  0.0",
        "    1        0  2.5", "",
        "Second", "either  other", "------  -----", "     1      2",
        "     1      2",
        "(left out, see --wide: all 0: zero; all -: unknown, text)",
    ]  # fmt: skip
    assert written(first, is_wide=True)[1].split() == columns
    assert written(table("", columns, rows))[0].split() == columns


def test_rows_that_say_nothing_are_one_line() -> None:
    rows = [("major", 0, None), ("minor", 0, 0.0)]
    kinds = table("Faults", ["kind", "recorded", "swap_mb"], rows)
    assert written(kinds) == ["Faults: all 0"]
    unknown = table("Faults", kinds.columns, [("major", None, None), ("minor", None, None)])
    assert written(unknown) == ["Faults: not known"]
    assert written(table("Sums", ["a", "b"], [(0, None)])) == ["Sums: all 0"]


def test_empty_table() -> None:
    assert written(table("", ["a", "bc"], [])) == ["a  bc", "-  --", "(no rows)"]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([1.0, 2.0], ["1.0", "2.0"]),
        ([1.23456, 100.0], ["1.23", "100.00"]),
        ([0.012345, 0.5], ["0.0123", "0.5000"]),
        ([1e-9, 2.0], ["1e-09", "2.0"]),
        ([1e300, float("inf"), 0.0], ["1e+300", "inf", "0.0"]),
        ([123456.789], ["123456.8"]),
        ([-0.25, 0.0], ["-0.25", "0.00"]),
    ],
)
def test_precision(values: list[float], shown: list[str]) -> None:
    lines = written(table("", ["v"], [(value,) for value in values]))[2:]
    assert [line.strip() for line in lines] == shown


def test_text_is_cut_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: Rows = [("x" * 100, 1, "short"), ("層" * 40, 22, "y")]
    those = table("", ["name", "n", "s"], rows)
    lines = on_terminal(40, monkeypatch, those)
    assert max(map(tables._width, lines)) == 40
    assert "x" * 20 in lines[2]
    assert "…" in lines[2]
    assert any("x" * 100 in line for line in written(those))


def test_a_name_of_any_length_is_cut() -> None:
    (*_, line) = written(table("T", ["n", "name"], [(1, "x" * 101)] * 2))
    assert tables._width(line) == 103
    for name in ("x" * 10_000, "a\u0301" * 10_000, "a word " * 1000):
        (*_, line) = written(table("T", ["n", "name"], [(1, name)] * 2))
        assert tables._width(line) < 500
        assert line.endswith("…")


def test_of_a_path_the_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    those = table("", ["n", "file"], [(1, "/usr/lib/" + "x" * 20 + "/model.gguf")])
    assert on_terminal(20, monkeypatch, those)[2] == "1  …xxxxx/model.gguf"


def test_headings_are_broken_before_anything_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    those = table("T", ["name", "prefill_tokens_per_s", "ms"], [("ffn_gate-0", 2.5, 1.5)] * 2)
    assert on_terminal(29, monkeypatch, those) == [
        "T",
        "                prefill_",
        "name        tokens_per_s   ms",
        "----------  ------------  ---",
        "ffn_gate-0           2.5  1.5",
        "ffn_gate-0           2.5  1.5",
    ]


def test_sentences_go_on_in_the_next_line(monkeypatch: pytest.MonkeyPatch) -> None:
    those = table("", ["n", "reason"], [(1, "there was no room for that"), (2, "so")])
    assert on_terminal(18, monkeypatch, those) == [
        "n  reason", "-  ---------------", "1  there was no", "   room for that", "2  so",
    ]  # fmt: skip


def test_columns_that_do_not_fit_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = ["name", "a", "b", "c", "incomplete"]
    row = ("x" * 20, 10**9, 10**9, 10**9, 3)
    those = table("T", columns, [row] * 2)
    lines = on_terminal(50, monkeypatch, those)
    assert lines[1].split() == ["name", "a", "b", "incomplete"]
    assert lines[-1] == "(left out, see --wide: no room: c)"
    out = Terminal()  # also where another table has a column of that name
    tables.write([those, table("Other", ["c"], [(1,)])], out)
    assert "no room: c)" in out.getvalue()
    assert max(map(len, lines)) <= 50
    untitled = on_terminal(50, monkeypatch, table("", columns, those.rows))
    assert untitled[0].split() == columns


def test_a_link_is_never_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    link = "http://127.0.0.1:9001/open/" + "x" * 40
    those = table("T", ["name", "a", "link"], [("x" * 20, 10**9, link)] * 2)
    lines = on_terminal(60, monkeypatch, those)
    assert all(link in line for line in lines[3:5])
    assert lines[-1] == "(left out, see --wide: no room: a)"
    alone = on_terminal(30, monkeypatch, table("T", ["name", "link"], [("x", link)]))
    assert link in "\n".join(alone)
