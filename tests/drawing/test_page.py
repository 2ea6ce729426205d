"""What comes from a trace, or from a tool, stands in a page as text or as what draws."""

from __future__ import annotations

import pytest

from profinfer.drawing.charts import INK, Row
from profinfer.drawing.page import inline, table, text
from tests.drawing.pictures import parsed


def test_text_is_cut_escaped_and_cannot_turn() -> None:
    assert text("<b>&\"'") == "&lt;b&gt;&amp;&quot;&#x27;"
    assert text("a\u202eb\x1b") == r"a\u202eb\x1b"
    assert text("x" * 10_000) == "x" * 159 + "…"


PICTURE = f"""<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"
 onload="hit()" viewBox="0 0 10 10"><script>hit()</script><style>* {{}}</style>
<foreignObject><b xmlns="http://www.w3.org/1999/xhtml">x</b></foreignObject>
<image href="http://example.org/x.png"/><use xlink:href="http://example.org/#x"/>
<clipPath id="c"><rect width="1"/></clipPath>
<g clip-path="url(#c)" onclick="hit()" style="fill: {INK}; stroke:red"><rect role="graphics-symbol"
 aria-label="time: 3"/><a xlink:href="javascript:hit()" xlink:title="tip"><text>&lt;b&gt;</text></a>
</g></svg>"""


def test_nothing_may_be_declared_before_a_picture() -> None:
    grows = '<!DOCTYPE svg [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>'
    with pytest.raises(ValueError, match="before its <svg>"):
        inline(f'{grows}<svg xmlns="http://www.w3.org/2000/svg"><text>&b;</text></svg>', "p")


def test_a_picture_keeps_what_draws_and_nothing_else() -> None:
    root = parsed(inline(PICTURE, "p"))
    found = [
        (e.tag.rpartition("}")[2], dict(e.attrib), (e.text or "").strip()) for e in root.iter()
    ]
    assert found == [
        ("svg", {"viewBox": "0 0 10 10"}, ""),
        ("clipPath", {"id": "p-c"}, ""),
        ("rect", {"width": "1"}, ""),
        ("g", {"clip-path": "url(#p-c)", "fill": "currentColor", "stroke": "red"}, ""),
        ("rect", {}, ""),
        ("title", {}, "time: 3"),
        ("g", {}, ""),
        ("title", {}, "tip"),
        ("text", {}, "<b>"),
    ]


def test_a_table_leaves_out_what_says_nothing() -> None:
    rows: list[Row] = [
        {"name": "<a>", "time_ms": 1.5, "n": 1_234, "none": None, "incomplete": 0},
        {"name": "b", "time_ms": None, "n": 2, "none": None, "incomplete": 0},
    ]
    said = table(rows)
    assert '<th class="t">name</th><th class="n">time (ms)</th><th class="n">n</th></tr>' in said
    assert '<td class="t">&lt;a&gt;</td><td class="n">1.5</td><td class="n">1,234</td>' in said
    assert '<td class="t">b</td><td class="n">-</td><td class="n">2</td>' in said
    assert '<td class="n">3</td>' in table([{**rows[0], "incomplete": 3}])
    assert table([]) == ""
