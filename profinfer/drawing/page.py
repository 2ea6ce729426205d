"""A page of HTML: one file that asks nobody for anything, and executes nothing.

What comes from a trace goes through `text` or `inline`, whichever way it is shown. The page's frame
and looks are page.html and page.css.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from defusedxml.ElementTree import fromstring

from profinfer.drawing.charts import INK, Row
from profinfer.drawing.shades import LINE
from profinfer.trace_processor.query import escape

_HERE = Path(__file__).parent
_UNITS = {"ms": "ms", "us": "µs", "ns": "ns", "percent": "%", "mib": "MiB", "per_s": "1/s"}
_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}"
_DRAWN = frozenset((
    "svg", "g", "a", "path", "rect", "line", "circle", "ellipse", "polygon", "polyline", "text",
    "tspan", "title", "desc", "defs", "clipPath", "linearGradient", "radialGradient", "stop",
    "pattern", "marker",
))  # fmt: skip
"""Elements of SVG that a picture may have; all others are left out."""
_INKS = {INK, LINE, "black", "#000"}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

ET.register_namespace("", _SVG)


def text(value: object, longest: int = 160) -> str:
    """A value as text of HTML: what does not print is written out, what is long is cut."""
    said = str(value)
    if len(said) > longest:
        said = said[: longest - 1] + "…"
    return html.escape(escape(said))


@dataclass(frozen=True)
class Section:
    """A part of the page. `queries` are those that its numbers come from."""

    name: str
    title: str
    about: str
    queries: Sequence[str]
    parts: Sequence[str]
    """HTML."""

    def html(self, trace: str) -> str:
        """The part under its heading."""
        asked = " ".join(map(text, self.queries))
        return "\n".join([
            f'<section id="{self.name}"><h2>{text(self.title)}</h2>',
            f'<p class="about">{text(self.about, 600)}</p>' if self.about else "",
            f'<p class="source">numbers: <code>profinfer query {asked} {trace}</code></p>'
            if asked else "",
            *self.parts,
            "</section>",
        ])  # fmt: skip


def page(title: str, lead: str, sections: Sequence[Section], *, trace: str, footer: str) -> str:
    """The whole file. `lead` is HTML, as are the sections' parts."""
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return Template((_HERE / "page.html").read_text(encoding="utf-8")).substitute(
        title=text(title),
        style=style,
        style_hash=f"sha256-{digest}",
        lead=lead,
        links=" ".join(f'<a href="#{each.name}">{text(each.title)}</a>' for each in sections),
        sections="\n".join(each.html(text(trace)) for each in sections),
        footer=text(footer, 600),
    )


def missing(what: str) -> str:
    """One line that says what is not there, and how to have it."""
    return f'<p class="missing">{text(what, 400)}</p>'


def figure(caption: str, picture: str, kind: str = "chart") -> str:
    """A picture under its caption; both are HTML."""
    return f'<figure><figcaption>{caption}</figcaption><div class="{kind}">{picture}</div></figure>'


def facts(groups: Mapping[str, Sequence[tuple[str, object]]]) -> str:
    """Things that have a name and a value, side by side, under what they are about."""
    parts = []
    for about, pairs in groups.items():
        listed = "".join(f"<dt>{text(what)}</dt><dd>{text(value)}</dd>" for what, value in pairs)
        parts.append(f"<div><h4>{text(about)}</h4><dl>{listed}</dl></div>")
    return f'<div class="facts">{"".join(parts)}</div>'


def table(rows: Sequence[Row]) -> str:
    """Rows as a table, without columns that say nothing; '' where there are none."""
    columns = [
        name for name in (rows[0] if rows else ())
        if any(row[name] is not None and (name != "incomplete" or row[name]) for row in rows)
    ]  # fmt: skip
    if not columns:
        return ""
    numeric = {
        name for name in columns if all(isinstance(row[name], int | float | None) for row in rows)
    }
    cells = [_column([row[name] for row in rows], longest=160) for name in columns]
    head = "".join(
        f'<th class="{"n" if name in numeric else "t"}">{_heading(name)}</th>' for name in columns
    )
    lines = (
        "".join(
            f'<td class="{"n" if name in numeric else "t"}">{cell}</td>'
            for name, cell in zip(columns, line, strict=True)
        )
        for line in zip(*cells, strict=True)
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>'
        + "".join(f"<tr>{line}</tr>" for line in lines)
        + "</tbody></table></div>"
    )


def folded(summary: str, body: str) -> str:
    """Something that is shown when it is asked for."""
    return f"<details><summary>{text(summary)}</summary>{body}</details>"


def _heading(name: str) -> str:
    for suffix, unit in _UNITS.items():
        if name.endswith(f"_{suffix}"):
            return f"{text(name.removesuffix(f'_{suffix}').replace('_', ' '))} ({unit})"
    return text(name.replace("_", " "))


def _column(values: Iterable[object], longest: int) -> list[str]:
    found = list(values)
    decimals = max((_decimals(value) for value in found if isinstance(value, float)), default=0)
    return [_cell(value, decimals, longest) for value in found]


def _decimals(value: float) -> int:
    return min(len(f"{value:.3f}".rstrip("0").partition(".")[2]), 3)


def _cell(value: object, decimals: int, longest: int) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.{decimals}f}"
    return f"{value:,}" if isinstance(value, int) else text(value, longest)


def inline(picture: str, name: str) -> str:
    """An <svg> that a tool has made, to stand in a page among others: with what draws and nothing
    else, its ids begun by `name`, the ink of the page in the place of its own. '' for one without
    end: Vega makes such a chart where it is given nothing but NULL."""
    if not picture.startswith("<svg"):
        raise ValueError("a picture has something before its <svg>")
    root = fromstring(_NOT_XML.sub("\ufffd", picture))
    _clean(root, name)
    return ET.tostring(root, encoding="unicode")


def _clean(element: ET.Element, name: str) -> None:
    for child in list(element):
        if not isinstance(child.tag, str) or child.tag.removeprefix(f"{{{_SVG}}}") not in _DRAWN:
            element.remove(child)
        else:
            _clean(child, name)
    attributes = dict(element.attrib)
    # The page's policy allows no styles but its own.
    for declaration in attributes.pop("style", "").split(";"):
        key, _, value = declaration.partition(":")
        if value:
            attributes.setdefault(key.strip(), value.strip())
    element.attrib.clear()
    for key, value in attributes.items():
        if key.startswith(("on", "aria-", "{")) or key in ("href", "role", "class"):
            continue
        if key == "id":
            value = f"{name}-{value}"
        elif key in ("fill", "stroke") and value.lower() in _INKS:
            value = "currentColor"
        element.set(key, value.replace("url(#", f"url(#{name}-"))
    if element.tag == f"{{{_SVG}}}a":
        element.tag = f"{{{_SVG}}}g"
    # What a mark stands for (Vega's), and the tooltip of a link that leads nowhere (Graphviz's).
    is_mark = attributes.get("role") == "graphics-symbol"
    said = attributes.get("aria-label") if is_mark else attributes.get(f"{_LINK}title")
    if said:
        tip = ET.Element(f"{{{_SVG}}}title")
        tip.text = said
        element.insert(0, tip)
