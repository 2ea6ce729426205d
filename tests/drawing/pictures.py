"""A picture of a graph, read back: what stands in its nodes, and what follows from what."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import dataclass

from defusedxml.ElementTree import fromstring

from tests.conftest import require

_SVG = "{http://www.w3.org/2000/svg}"
_ALLOWED = {"svg", "g", "title", "polygon", "path", "text", "polyline", "ellipse"}


@dataclass(frozen=True)
class Picture:
    """A graph as Graphviz has understood it."""

    title: str
    nodes: dict[str, list[str]]
    """Lines of each."""
    boxes: dict[str, set[str]]
    """Nodes within each, by its title."""
    edges: set[tuple[str, str]]

    def find(self, text: str) -> str:
        """The one node whose first line that is."""
        [name] = [name for name, lines in self.nodes.items() if lines[0] == text]
        return name

    def all(self, pattern: str) -> list[str]:
        """Nodes whose first line matches."""
        return [name for name, lines in self.nodes.items() if re.fullmatch(pattern, lines[0])]

    def sources(self, name: str) -> set[str]:
        """First lines of what a node takes."""
        return {self.nodes[source][0] for source, target in self.edges if target == name}

    def targets(self, name: str) -> set[str]:
        """First lines of what takes it."""
        return {self.nodes[target][0] for source, target in self.edges if source == name}


def read(dot: str) -> Picture:
    """What Graphviz makes of a text in its language."""
    require("Graphviz", shutil.which("dot"))
    done = subprocess.run(
        ["dot", "-Tjson0"], input=dot, capture_output=True, text=True, timeout=60, check=True
    )
    found = json.loads(done.stdout)
    objects = found["objects"]
    names = {o["_gvid"]: o["name"] for o in objects}
    nodes = {
        o["name"]: _lines(o["label"]) for o in objects if "nodes" not in o and o["name"] != "legend"
    }
    boxes = {o["label"]: {names[node] for node in o["nodes"]} for o in objects if "nodes" in o}
    edges = {(names[e["tail"]], names[e["head"]]) for e in found.get("edges", ())}
    return Picture(found.get("label", ""), nodes, boxes, edges)


def _lines(label: str) -> list[str]:
    lines = label.replace("\\\\", "\0").split("\\n")
    return [line.replace("\0", "\\").replace("&amp;", "&") for line in lines]


def parsed(svg: str) -> ET.Element:
    """A picture as elements; nothing stands before its root."""
    assert svg.startswith("<svg")
    found: ET.Element = fromstring(svg)
    return found


def texts(svg: str) -> tuple[set[str], set[str]]:
    """Lines of text and of tooltips in a picture that holds nothing but a picture."""
    root = parsed(svg)
    tags = {element.tag.removeprefix(_SVG) for element in root.iter()}
    assert tags <= _ALLOWED, tags - _ALLOWED
    names = {name for element in root.iter() for name in element.attrib}
    assert not [name for name in names if name.lower().startswith("on") or "href" in name]
    tips = {line for t in root.iter(f"{_SVG}title") for line in (t.text or "").split("\n")}
    # Two spaces are one that breaks and one that does not.
    shown = {"".join(t.itertext()).replace("\xa0", " ") for t in root.iter(f"{_SVG}text")}
    return shown, tips
