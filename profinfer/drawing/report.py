"""The report: what ready queries answer of a recording, on one page, the verdict first."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

from profinfer.drawing import page, proftime
from profinfer.drawing.figure import UNKNOWN, Figure, Traced
from profinfer.drawing.figures import FIGURES, STATISTICS
from profinfer.drawing.page import Section, text
from profinfer.drawing.shades import SCALES, Colour
from profinfer.errors import ProfinferError

Graph = Callable[[Colour], str]
"""The graph coloured by one of them, as an <svg>; ProfinferError where there is none."""

_KINDS = {
    "speed": "how fast", "bound": "bound by", "try": "try first", "ruled_out": "ruled out",
    "unknown": "cannot be said",
}  # fmt: skip
_TILES = {
    "decode_tokens_per_s": ("decoding", "tokens/s"),
    "tpot_median_ms": ("time per token, median", "ms"),
    "ttft_ms": ("to the first token", "ms"),
    "prefill_tokens_per_s": ("prefill", "tokens/s"),
}
_NUMBER = re.compile(r"(?<!\w)(\d[\d,.]* ?(?:%|ms|us|µs|s|t/s|tokens/s|[GM]B/s|[GM]i?B)(?!\w))")
"""In a sentence, with its unit."""
_LONGEST_SENTENCE = 500
_COST = FIGURES[3]
"""What probes cost stands with the overhead."""
_TOKENS = (STATISTICS["tokens"], STATISTICS["ttft"])
_CHARTS = (
    STATISTICS["op"], STATISTICS["module"], STATISTICS["layer"], FIGURES[6], FIGURES[9],
    FIGURES[10], STATISTICS["roofline"], FIGURES[11], FIGURES[13], FIGURES[12], FIGURES[7],
)  # fmt: skip
_OVERHEAD = (
    "Predicted slowdown of decoding", "CPU load of the handlers", "Hits of each handler",
    "Overhead by thread while decoding", "Overhead in the work of operators while decoding",
    "Programs at the kernel's own events",
)  # fmt: skip
"""Tables of that query; the first one is shown, the others unfold."""
_MOST_PROCESSES = 3


def figures() -> list[Figure]:
    """Those that show or compare all traces of a report: they are asked while each is open."""
    return [*_TOKENS, *_CHARTS, _COST]


def report(traces: Sequence[Traced], graph: Graph, warnings: Iterable[tuple[str, str]]) -> str:
    """The page. The first trace is the one that it is about; what compares traces compares all.
    `warnings` are why answers may be incomplete, each with what to do about it."""
    first = traces[0]
    pictures = _Pictures(traces)
    sections = [
        _verdict(first, warnings),
        _tokens(first, pictures),
        _steps(first),
        _graph(graph),
        _statistics(pictures),
        _recording(first, pictures),
    ]
    others = "".join(f", {each.name}" for each in traces[1:])
    return page.page(
        first.name, _lead(first), sections, trace=first.name,
        footer=f"Made by profinfer report from {first.name}{others}. Every number is one of the"
        " ready queries named beside it.",
    )  # fmt: skip


class _Pictures:
    """The figures of all traces, each drawn once."""

    def __init__(self, traces: Sequence[Traced]) -> None:
        self._traces = traces
        self._drawn = 0

    def draw(self, figure: Figure) -> tuple[str, str]:
        """Its charts as HTML, and '' or, in words, why there are none."""
        charts = figure.draw(self._traces)
        if isinstance(charts, str):
            return "", charts
        parts = []
        for chart in charts:
            self._drawn += 1
            if chart.is_known:
                picture = page.inline(chart.svg(), f"c{self._drawn}")
                parts.append(page.figure(f"<h3>{text(chart.title)}</h3>", picture))
        return "".join(parts), "" if parts else UNKNOWN


def _lead(trace: Traced) -> str:
    facts = {row["what"]: row["value"] for row in trace.table("recording", "Facts")}
    parts = [
        f"{row['process']}: {row['engine'] or 'engine unknown'}"
        + (f", levels {row['levels']}" if row["levels"] else "")
        for row in trace.table("summary", "Processes") if row["graphs"]
    ][:_MOST_PROCESSES]  # fmt: skip
    if "processor" in facts:
        parts.append(f"{facts['processor']}, {facts.get('CPUs', '?')} CPUs")
    if "kernel" in facts:
        parts.append(f"{facts.get('system', '')} {facts['kernel']}")
    return " &middot; ".join(text(part) for part in parts)


# ---- The sections, from the top


def _verdict(trace: Traced, warnings: Iterable[tuple[str, str]]) -> Section:
    said = [
        f'<p>{text(message, 400)}</p><p class="hint">{text(hint, 400)}</p>'
        for message, hint in warnings
    ]
    parts = []
    rows = trace.table("explain", "The verdict")
    for process, its in groupby(rows, key=lambda row: row.get("process")):
        if process is not None:
            parts.append(f"<h3>{text(process)}</h3>")
        before, lines = "", []
        for row in its:
            kind = row["kind"] if row["kind"] in _KINDS else "unknown"
            head = "" if kind == before else _KINDS[kind]
            asked = f'<code class="from">query {text(row["query"])}</code>' if row["query"] else ""
            before = kind
            lines.append(
                f'<li class="{kind}"><span class="kind">{head}</span>'
                f'<span class="sentence">{_numbers_bold(row["sentence"])}</span>{asked}</li>'
            )
        parts.append(f'<ol class="verdict">{"".join(lines)}</ol>')
    if not rows:
        parts.append(page.missing("no rule has what it needs: record --level operator, or barrier"))
    if said:
        parts.append(f'<div class="warning">{"".join(said)}</div>')
    return Section("verdict", "Verdict", "", ("explain",), parts)


def _numbers_bold(sentence: object) -> str:
    pieces = _NUMBER.split(str(sentence)[:_LONGEST_SENTENCE])
    return "".join(
        f"<b>{text(piece)}</b>" if i % 2 else text(piece, _LONGEST_SENTENCE)
        for i, piece in enumerate(pieces)
    )


def _short(number: float) -> str:
    """With four digits that say something, if it has a fraction."""
    return f"{number:,.4g}" if abs(number) < 1_000 else f"{number:,.0f}"


def _tokens(trace: Traced, pictures: _Pictures) -> Section:
    requests = trace.table("summary", "Requests")
    parts = []
    if len(requests) == 1:
        tiles = "".join(
            f"<div><dt>{what}</dt><dd>{_short(requests[0][name])} <small>{unit}</small></dd></div>"
            for name, (what, unit) in _TILES.items()
            if requests[0][name] is not None
        )
        parts.append(f'<dl class="tiles">{tiles}</dl>')
    asked, drawn = ["summary"], []
    for figure in _TOKENS:
        picture, reason = pictures.draw(figure)
        drawn.append(picture or page.missing(f"{figure.title}: {reason}"))
        asked += figure.queries
    parts.append(f'<div class="charts">{"".join(drawn)}</div>')
    if requests:
        parts.append(page.folded(f"Requests ({len(requests)})", page.table(requests)))
    return Section(
        "tokens", "Tokens", "What a user waited for: the first token, and each one after it.",
        list(dict.fromkeys(asked)), parts,
    )  # fmt: skip


def _steps(trace: Traced) -> Section:
    looks = trace.table("proftime", "What is shown")
    parts = []
    for process in list(dict.fromkeys(row.get("process") for row in looks))[:_MOST_PROCESSES]:
        mine = {
            title: [row for row in trace.table("proftime", title) if row.get("process") == process]
            for title in proftime.TABLES
        }
        if not mine["Operators"]:
            continue
        if process is not None:
            parts.append(f"<h3>{text(process)}</h3>")
        parts += proftime.pictures(mine)
    if not parts:
        parts.append(page.missing(
            "no step with its operators is in this recording: record --level operator, or barrier,"
            " which tells work and waiting apart"
        ))  # fmt: skip
    return Section(
        "proftime", "Two tokens as they passed",
        "The step of the median and the slowest one, on each thread. Below, the layer by which the"
        " two differ most.", ("proftime",), parts,
    )  # fmt: skip


def _graph(graph: Graph) -> Section:
    parts = []
    try:
        views = [page.inline(graph(colour), f"g{i}") for i, colour in enumerate(SCALES)]
    except ProfinferError as error:
        parts.append(
            page.missing(f"{error.message}; {error.hint}" if error.hint else error.message)
        )
    else:
        switch = "".join(
            f'<input type="radio" name="colour" id="by-{colour}"{" checked" * (i == 0)}>'
            f'<label for="by-{colour}">{colour}</label>'
            for i, colour in enumerate(SCALES)
        )
        shown = "".join(f'<div class="view chart">{view}</div>' for view in views)
        parts.append(f'<div class="switch">{switch}{shown}</div>')
    return Section(
        "profdag", "The graph of a layer",
        "What is computed of what. Layers that are alike are one; views are grey.",
        ("layers", "dag"), parts,
    )  # fmt: skip


def _statistics(pictures: _Pictures) -> Section:
    drawn, reasons = [], []
    asked: list[str] = []
    for figure in _CHARTS:
        picture, reason = pictures.draw(figure)
        if reason:
            reasons.append(f"<li>{text(figure.title)}: {text(reason, 400)}</li>")
            continue
        drawn.append(picture)
        asked += figure.queries
    parts = [f'<div class="charts">{"".join(drawn)}</div>']
    if reasons:
        parts.append(page.folded(
            f"{len(reasons)} figures that this recording cannot give",
            f"<ul>{''.join(reasons)}</ul>",
        ))  # fmt: skip
    return Section("profstat", "Where the time went", "", list(dict.fromkeys(asked)), parts)


def _recording(trace: Traced, pictures: _Pictures) -> Section:
    losses = trace.table("summary", "Losses")
    parts = [
        "<h3>Losses</h3>",
        page.table(losses) if losses else "<p>No record was lost.</p>",
        *_overhead(trace, pictures),
        "<h3>Machine, engine and recorder</h3>",
        *_facts(trace),
        page.table(trace.table("recording", "Files of the engine")),
        "<h3>To do it again</h3>",
        *(
            f"<pre>{text(row['command'], 4000)}</pre>"
            for row in trace.table("recording", "Command")
        ),
    ]
    parts += [
        page.folded(f"{title} ({len(rows)})", page.table(rows))
        for title in ("Settings", "Probes", "Notes")
        if (rows := trace.table("recording", title))
    ]
    return Section(
        "recording", "The recording",
        "What it lost and cost, of what it was made, and what it takes to do it again.",
        ("recording", "overhead", "summary"), parts,
    )  # fmt: skip


def _overhead(trace: Traced, pictures: _Pictures) -> Iterator[str]:
    yield "<h3>What recording cost</h3>"
    slowdown, *others = [(title, trace.table("overhead", title)) for title in _OVERHEAD]
    yield page.table(slowdown[1]) or page.missing(
        "no decoding step with operators is in this recording"
    )
    for title, rows in others:
        if rows:
            yield page.folded(f"{title} ({len(rows)})", page.table(rows))
    yield f'<div class="charts">{pictures.draw(_COST)[0]}</div>'


def _facts(trace: Traced) -> Iterator[str]:
    rows = trace.table("recording", "Facts")
    for process, its in groupby(rows, key=lambda row: row.get("process")):
        if process is not None:
            yield f"<p>{text(process)}</p>"
        groups: dict[str, list[tuple[str, object]]] = {}
        for row in its:
            groups.setdefault(row["about"], []).append((row["what"], row["value"]))
        yield page.facts(groups)
