"""The report: one file that asks nobody for anything, read in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from profinfer.__main__ import main
from profinfer.records.dtypes import TENSOR_RECORD, WIDE_SIZE, Kind
from tests.captures import MAIN, WORKER, Capture, convert
from tests.conftest import require
from tests.sql.harness import foreign_trace
from tests.sql.schedules import ubatches
from tests.sql.test_scheduling import SPINNER, schedule

SECTIONS = (
    "Verdict", "Tokens", "Two tokens as they passed", "The graph of a layer", "Where the time went",
    "The recording",
)  # fmt: skip
HIT = "window.hit = 1"
NAMES = (
    f"</script><script>{HIT}</script>",
    f'<img src="x" onerror="{HIT}">',
    f"--></title></svg><svg onload='{HIT}'>",
    "right\u202e\u2067to left",
    "control \x01\x1b[31m\x7f\u2028 characters",
    "&lt;b&gt; $style ${style} {0} %s",
    "long " * 2_000,
)
DRAWN = {
    "svg", "g", "path", "rect", "line", "circle", "ellipse", "polygon", "polyline", "text", "tspan",
    "title", "desc", "defs", "clipPath", "linearGradient", "stop",
}  # fmt: skip
PAGE = {
    "html", "head", "meta", "title", "style", "body", "header", "main", "footer", "section", "nav",
    "h1", "h2", "h3", "h4", "p", "a", "b", "i", "code", "pre", "small", "ol", "ul", "li", "dl",
    "div", "dt", "dd", "span", "table", "thead", "tbody", "tr", "th", "td", "details", "summary",
    "figure", "figcaption", "input", "label",
}  # fmt: skip


def hostile(folder: Path) -> Path:
    """A recording whose process, threads, machine, tensors and intruder have such names."""
    script, image, graphic, turned, control, entities, long = NAMES
    capture = schedule()
    named = {"a": script, "b": image, "c": graphic, "d": turned}
    for number, (ts, data) in enumerate(capture.wide):
        record = np.frombuffer(data[: TENSOR_RECORD.itemsize], TENSOR_RECORD).copy()
        if record["header"]["kind"][0] == Kind.TENSOR and (
            name := named.get(record["name"][0].decode())
        ):
            record["name"] = name.encode()
            record["ne"], record["nb"] = (256, 256, 1, 1), (4, 1024, 1 << 18, 1 << 18)
            capture.wide[number] = (ts, record.tobytes().ljust(WIDE_SIZE, b"\0"))
    capture.threads = {MAIN: script, WORKER: image}
    capture.strangers = {SPINNER: turned}
    target = {"name": long, "pid": MAIN, "command": [control, entities, graphic, long]}
    capture.at_start = {
        "target": capture.start()["target"] | target, "host": image, "cpu_model": script,
    }  # fmt: skip
    return convert(capture.frames(), folder / "hostile.pftrace")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    assert main(["report", str(hostile(folder)), "-o", str(folder / "report.html")]) == 0
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    require("playwright", find_spec("playwright"))
    from playwright.sync_api import sync_playwright
    from screenshot import FLAGS, browser_path

    require("Chromium", browser_path())
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Any, report: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The report in a page of a width and a colour scheme. Whatever it asks for but itself, and
    whatever it complains of, is an error."""
    width, scheme = getattr(request, "param", (1280, "light"))
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
    )
    page = context.new_page()
    asked, said = [], []
    page.on("request", lambda each: asked.append(each.url))
    page.on("console", lambda each: said.append(each.text))
    page.on("pageerror", lambda each: said.append(str(each)))
    page.goto(report.as_uri())
    yield page
    assert asked == [report.as_uri()]
    assert said == []
    context.close()


VIEWS = [(width, scheme) for width in (400, 1280) for scheme in ("light", "dark")]


@pytest.mark.parametrize("opened", VIEWS, indirect=True, ids=str)
def test_it_opens_from_disk_at_any_width_in_light_and_dark(opened: Any) -> None:
    assert [h.inner_text() for h in opened.query_selector_all("h2")] == list(SECTIONS)
    assert len(opened.query_selector_all("h1")) == 1
    width = opened.evaluate("document.documentElement.scrollWidth")
    assert width <= opened.viewport_size["width"]
    back, ink = opened.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    levels = [sum(map(int, re.findall(r"\d+", colour)[:3])) / 765 for colour in (back, ink)]
    is_dark = opened.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert (
        (levels[0] < 0.15 and levels[1] > 0.8) if is_dark else (levels[0] > 0.9 > 0.3 > levels[1])
    )


def test_names_are_text_and_nothing_is_made_of_them(opened: Any) -> None:
    assert opened.evaluate("window.hit") is None
    tags = set(opened.evaluate("[...document.querySelectorAll('*')].map(e => e.localName)"))
    assert tags <= PAGE | DRAWN, tags - PAGE - DRAWN
    attributes = set(opened.evaluate(
        "[...document.querySelectorAll('*')].flatMap(e => [...e.attributes].map(a => a.name))"
    ))  # fmt: skip
    assert not {name for name in attributes if name.startswith("on")}
    assert not attributes & {"style", "src", "srcset", "action", "formaction", "xlink:href"}
    links = opened.evaluate(
        "[...document.querySelectorAll('[href]')].map(e => e.getAttribute('href'))"
    )
    assert links
    assert all(link.startswith("#") for link in links)
    shown = opened.evaluate("document.body.textContent")
    for name in NAMES[:3]:
        assert name in shown
    assert r"right\u202e\u2067to left" in shown
    assert r"control \x01\x1b[31m\x7f\u2028 characters" in shown
    assert "&lt;b&gt; $style" in shown
    assert len(max(re.findall(r"(?:long )+", shown), key=len)) < 5_000


def test_the_graph_is_switched_between_colours_without_a_script(opened: Any) -> None:
    views = opened.query_selector_all(".switch > .view")
    assert [view.is_visible() for view in views] == [True, False, False]
    opened.click("text=bandwidth")
    assert [view.is_visible() for view in views] == [False, True, False]


def test_it_prints(opened: Any) -> None:
    pdf = opened.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) in range(2, 20)


def test_every_section_says_which_queries_it_is_made_of(opened: Any) -> None:
    from profinfer.trace_processor.query import ready_queries

    known = {path.stem for path in ready_queries()}
    for section in opened.query_selector_all("section"):
        (asked,) = re.findall(r"profinfer query (.+) hostile\.pftrace", section.inner_text())
        assert set(asked.split()) <= known


def test_what_was_not_recorded_is_named_with_how_to_record_it(tmp_path: Path) -> None:
    capture = ubatches(Capture("token"), [
        (0, 5, [(0, 0, 3, 1, 1)]), (6, 9, [(0, 3, 1, 1, 1)]), (10, 12, [(0, 4, 1, 1, 1)]),
    ])  # fmt: skip
    convert(capture.frames(), tmp_path / "tokens.pftrace")
    report = tmp_path / "report.html"
    assert main(["report", str(tmp_path / "tokens.pftrace"), "-o", str(report)]) == 0
    text = report.read_text()
    assert "no step with its operators is in this recording: record --level operator" in text
    assert "figures that this recording cannot give" in text


def test_errors_name_the_file_and_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = convert(schedule().frames(), tmp_path / "good.pftrace")
    (tmp_path / "bad.pftrace").write_bytes(b"this is no trace" * 50)
    foreign_trace(tmp_path / "foreign.pftrace")
    there = tmp_path / "there.html"
    there.write_text("mine")
    before = sorted(tmp_path.iterdir())
    for code, name, output, said in (
        (8, "bad.pftrace", "x.html", "bad.pftrace is not a Perfetto trace"),
        (8, "absent.pftrace", "x.html", "cannot read"),
        (8, "foreign.pftrace", "x.html", "foreign.pftrace has no graphs in it"),
        (7, "good.pftrace", "there.html", "there.html exists"),
        (7, "good.pftrace", "no/such/folder.html", "cannot write"),
        (2, "good.pftrace", "good.pftrace", "is one of the traces"),
    ):
        arguments = ["report", str(tmp_path / name), "-o", str(tmp_path / output)]
        assert main(arguments) == code, said
        assert said in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
    assert there.read_text() == "mine"
    assert main(["report", str(trace), "-o", str(there), "--force"]) == 0
    assert there.read_text().startswith("<!DOCTYPE html>")
