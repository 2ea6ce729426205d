"""Charts are drawn, with whatever names."""

from __future__ import annotations

import pytest

from profinfer.drawing.charts import png, svg
from tests.drawing.pictures import parsed

BAR = {
    "mark": "bar",
    "encoding": {
        "x": {"field": "ms", "type": "quantitative"},
        "y": {"field": "name", "type": "nominal"},
    },
}


@pytest.mark.parametrize("name", ["MUL_MAT", "</script><b>x", "a\u202eb & 'c' \"d\"", "x" * 10_000])
def test_a_bar_has_its_name_as_text(name: str) -> None:
    root = parsed(svg(BAR, [{"name": name, "ms": 3}]))
    texts = {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}
    whole = name.replace("\u202e", "\\u202e")
    assert whole in texts or any(t and name.startswith(t.rstrip("…")) and len(t) > 9 for t in texts)
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert not tags & {"script", "b", "image", "foreignObject"}


def test_a_picture_is_a_png() -> None:
    assert png(BAR, [{"name": "a", "ms": 3}]).startswith(b"\x89PNG")
