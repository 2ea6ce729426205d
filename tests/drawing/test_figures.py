"""The paper's figures are drawn from what traces have, and what is missing is said."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from profinfer.__main__ import main
from profinfer.drawing.charts import Chart, Picture, Row, shown
from profinfer.drawing.figure import Traced
from profinfer.drawing.figures import FIGURES, STATISTICS
from profinfer.drawing.report import figures
from profinfer.trace_processor import open_trace
from tests.captures import MAIN, Capture, T, convert
from tests.commands.command import profinfer as run
from tests.drawing.pictures import parsed
from tests.sql.costs import decoding, measure
from tests.sql.harness import opened
from tests.sql.schedules import split
from tests.sql.test_counters import counted
from tests.sql.test_experts import Recording, decode
from tests.sql.test_kv_cache import grown
from tests.sql.test_request_queries import parallel
from tests.sql.test_scheduling import schedule
from tests.sql.test_statistics import MS, multiplying

LONG = "n" * 10_000
SVG = "{http://www.w3.org/2000/svg}"


def routed() -> Capture:
    it = Recording()
    it.run([(0, 0, 1, 1, 1)], [[[0, 1]], [[2, 3]]])
    for position in range(3):
        it.run([decode(1 + position)], [[[0, 1]], [[position, 5]]])
    return it.capture


@pytest.fixture(scope="module")
def drawn() -> dict[str, Sequence[Chart | Picture]]:
    """Every figure and statistic, of the first trace here that can give it."""
    found: dict[str, Sequence[Chart | Picture]] = {}
    captures = (
        measure(decoding()), grown(), multiplying(), split(), schedule(), parallel(), routed()
    )  # fmt: skip
    for capture in captures:
        with opened(capture) as session:
            trace = Traced("a trace", session)
            for key, figure in [*FIGURES.items(), *STATISTICS.items()]:
                charts = figure.draw([trace])
                if not isinstance(charts, str):
                    found.setdefault(str(key), charts)
    return found


def texts(svg: str) -> list[str]:
    return [text.text or "" for text in parsed(svg).iter(f"{SVG}text")]


def test_every_figure_can_be_given(drawn: dict[str, Sequence[Chart | Picture]]) -> None:
    # 11 compares traces.
    assert drawn.keys() == {str(key) for key in [*FIGURES, *STATISTICS]} - {"11"}


def test_every_chart_has_marks_and_named_axes(drawn: dict[str, Sequence[Chart | Picture]]) -> None:
    for key, charts in drawn.items():
        for chart in charts:
            assert chart.is_known, key
            svg = chart.svg()
            root = parsed(svg)
            if isinstance(chart, Picture):
                assert any("MUL_MAT" in text for text in texts(svg))
                continue
            marks = [e for e in root.iter() if "role-mark" in e.get("class", "")]
            assert any(len(mark) for mark in marks), key
            titles = [e for e in root.iter() if "role-axis-title" in e.get("class", "")]
            assert titles, key
            assert not [text for text in texts(svg) if text in ("null", "undefined", "NaN")], key


def test_phases_are_drawn_to_one_scale(drawn: dict[str, Sequence[Chart | Picture]]) -> None:
    prefill, decode = (
        [text for text in texts(chart.svg()) if text.isdecimal()] for chart in drawn["layer"]
    )
    assert "400" in prefill
    assert prefill == decode


def test_a_chart_of_numbers_that_are_not_known_is_left_out_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Traced.table

    def without(trace: Traced, name: str, title: str) -> list[Row]:
        return [{k: v for k, v in row.items() if k not in ("median_us", "line_us")}
                for row in table(trace, name, title)]  # fmt: skip

    monkeypatch.setattr(Traced, "table", without)
    trace = convert(grown().frames(), tmp_path / "grown.pftrace")
    assert main(["figures", str(trace), "-o", str(tmp_path / "out"), "--only", "9"]) == 0
    assert capsys.readouterr().out == (
        " 9  Attention of all layers against the length of the context: left out, none of its"
        " numbers is known\n"
    )
    assert list((tmp_path / "out").iterdir()) == []
    assert main(["report", str(trace), "-o", str(tmp_path / "report.html")]) == 0
    said = "Attention against the growing KV cache: none of its numbers is known"
    assert said in (tmp_path / "report.html").read_text()


def test_threads_are_compared_where_their_numbers_differ() -> None:
    traces = []
    for threads in (1, 2):
        capture = measure(decoding())
        if threads == 1:
            capture.records = [row for row in capture.records if row.tid == MAIN]
        with opened(capture) as session:
            traces.append(Traced(f"{threads} threads", session))
            FIGURES[11].ask(traces[-1])
    charts = FIGURES[11].draw(traces)
    assert not isinstance(charts, str)
    # No counters: neither stalls nor bytes.
    assert [chart.title for chart in charts] == [
        "Waiting at the barrier, by number of threads", "Mean time, by number of threads",
        "GB/s that shapes ask for, by number of threads",
    ]  # fmt: skip
    assert {row["threads"] for row in charts[0].rows} == {1, 2}
    assert isinstance(FIGURES[11].draw(traces[:1]), str)


def test_counters_are_compared_when_the_traces_are_closed() -> None:
    """As the report and the command do: traces are opened one after another."""
    traces = []
    for threads in (1, 2):
        capture = counted()
        capture.ubatch(1_000, 5_000, [(0, 0, 3, 1, 1)])
        capture.ubatch(8_500, 91_000, [(0, 3, 1, 1, 1)])
        if threads == 1:
            capture.records = [row for row in capture.records if row.tid == MAIN]
        with opened(capture) as session:
            traces.append(Traced(f"{threads} threads", session))
            for figure in figures():
                figure.ask(traces[-1])
    for figure in figures():
        assert figure.draw(traces)
    charts = FIGURES[11].draw(traces)
    assert not isinstance(charts, str)
    stalls = next(chart for chart in charts if "tall" in chart.title)
    # 9,000 of 90,000 cycles; what was not counted all the time is in no chart.
    found = {(row["op"], row["threads"], row["backend_stall_ratio"]) for row in stalls.rows}
    assert found == {("ADD", 1, 0.1)}


def test_one_chart_for_each_trace_says_of_which() -> None:
    with opened(grown()) as one, opened(grown(80)) as two:
        charts = FIGURES[9].draw([Traced("one", one), Traced("two", two)])
    assert [chart.title.rpartition(": ")[2] for chart in charts if isinstance(chart, Chart)] == [
        "one", "two",
    ]  # fmt: skip


def test_thousands_of_tokens_are_few_marks() -> None:
    capture = Capture()
    capture.ubatch(0, MS, [(0, 0, 5, 1, 1)])
    for step in range(5_000):
        capture.ubatch((2 + step) * MS, (2 + step) * MS + MS // 2, [(0, 5 + step, 1, 1, 1)])
    with opened(capture) as session:
        charts = STATISTICS["tokens"].draw([Traced("long", session)])
    assert not isinstance(charts, str)
    [chart] = charts
    assert len(chart.rows) <= 401
    assert len(chart.svg()) < 300_000


@pytest.fixture(scope="module", params=["</script><b>x", "a\u202eb & 'c' \"d\"\x1b[2J", LONG])
def named(request: pytest.FixtureRequest) -> Iterator[tuple[str, Traced]]:
    """A trace whose backend, and operators, have a hostile name: of a tensor as much as fits."""
    name = request.param
    capture = split()
    capture.backends = {0x77: name}
    tensor = name[:40]
    shape = capture.structure(8 * MS, [T(tensor, "ADD", ("x",)), T("x")], cgraph=0x9200)
    operators = [(tensor, 9 * MS + 1000, 9 * MS + 3000)]
    late = [(tensor, 9 * MS + 1000, 9 * MS + 2000)]
    capture.graph(shape, 9 * MS, 9 * MS + 5000, {MAIN: operators, 101: late})
    with opened(capture) as session:
        yield name, Traced(name, session)


def test_hostile_names_are_text_and_cut(named: tuple[str, Traced]) -> None:
    name, trace = named
    seen = 0
    for number in (6, 7, 8, 12):
        charts = FIGURES[number].draw([trace])
        assert not isinstance(charts, str), number
        for chart in charts:
            svg = chart.svg()
            assert len(svg) < 60_000
            assert not re.search("[\u202e\x1b]", svg)
            tags = {e.tag.rpartition("}")[2] for e in parsed(svg).iter()}
            assert tags <= {"svg", "g", "path", "text", "rect", "line", "defs", "clipPath"}, tags
            seen += sum(text.startswith(shown(name)[:8]) for text in texts(svg))
            assert chart.png().startswith(b"\x89PNG")
    assert seen


# ---- The command


def test_the_command_writes_pictures_and_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_UID", "1")
    monkeypatch.setenv("SUDO_GID", "1")
    trace = convert(grown().frames(), tmp_path / "grown.pftrace")
    ran = run("figures", trace, "-o", "out/pictures", cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert [line for line in lines if line.startswith(" 9  ")] == [
        " 9  Attention of all layers against the length of the context: "
        "out/pictures/figure-09.svg .png .csv"
    ]
    assert any(line.startswith("13  Experts") and "--experts" in line for line in lines)
    folder = tmp_path / "out" / "pictures"
    assert (folder / "figure-09.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder / "figure-09.svg").read_text()[:10]
    with (folder / "figure-09.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 64
    assert {row["part"] for row in rows} == {"KQ", "KQV"}
    assert float(rows[-1]["line_us"]) > float(rows[-32]["line_us"])
    assert (folder / "figure-09.svg").stat().st_uid == folder.stat().st_uid
    # Nothing is overwritten unasked.
    ran = run("figures", trace, "-o", "out/pictures", "--only", "9", cwd=tmp_path)
    assert ran.code == 7
    assert "exists" in ran.message
    ran = run("figures", trace, "-o", "out/pictures", "--only", "9", "--force", cwd=tmp_path)
    assert ran.code == 0
    assert len(ran.out.splitlines()) == 1


def test_names_of_files_need_not_be_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii:strict")
    trace = convert(grown().frames(), tmp_path / "a\udcff\n<b>.pftrace")
    ran = run("figures", trace, "-o", "out\udcff", "--only", "9", cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert "out\\udcff/figure-09.svg" in ran.out
    assert (tmp_path / "out\udcff" / "figure-09.svg").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--only", "2"), 2, "--only 2"),
        (("--only", "9,x"), 2, "--only 9,x"),
        (("-o", "trace"), 7, "cannot make trace"),
    ],
)
def test_what_cannot_be_done_is_said(
    arguments: tuple[str, str], code: int, message: str, tmp_path: Path
) -> None:
    convert(split(1).frames(), tmp_path / "trace")
    ran = run("figures", "trace", "-o", "there", *arguments, cwd=tmp_path)
    assert ran.code == code
    assert message in ran.message


def test_a_trace_of_something_else_has_no_figures() -> None:
    with open_trace(None, trace_processor="wasm") as session:
        trace = Traced("nothing", session)
        for figure in [*FIGURES.values(), *STATISTICS.values()]:
            assert figure.draw([trace]) == f"it needs {figure.needs}"
