"""The picture of a layer: which nodes stand in it, what leads to what, and what is said of each.

Rows are those of profinfer_dag_node and profinfer_dag_edge.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

from profinfer.drawing.graphviz import clean, quoted
from profinfer.drawing.shades import CACHE, DARK, DATA, LINE, SCALES, VIEW, Scale

Rows = list[SimpleNamespace]

_BEFORE, _AFTER = "before", "after"
_FURTHER = 100
"""Nodes outside layers that are drawn: engines that name no layer have all of them there."""
_LONGEST = 30
"""Characters of a name in a node; the tooltip has more."""


class Picture:
    """What is drawn of a DAG, and where its other parts are thought to be."""

    def __init__(
        self, dag: SimpleNamespace, forms: Rows,
        nodes: dict[int, SimpleNamespace], edges: Rows, layer: int | None,
        scale: Scale,
    ) -> None:  # fmt: skip
        self._dag, self._forms, self._nodes = dag, forms, nodes
        self._layer, self._scale = layer, scale
        self._typical = next((f for f in forms if f.is_typical), None)
        outside = [t for t, n in nodes.items() if n.layer is None and n.is_node]
        self._idle = set(outside) & _idle(nodes, edges)
        self._further = {t for t in outside if t not in self._idle} - set(outside[:_FURTHER])
        self._drawn: dict[str, SimpleNamespace] = {}
        for node in nodes.values():
            if (place := self._place(node)) and node.fused_into is None and _is_single(node):
                self._drawn.setdefault(place, node)
        self._edges = list(dict.fromkeys(self._lines(edges)))
        self._used = {end for edge in self._edges for end in edge[:2]}
        self._drawn = {p: n for p, n in self._drawn.items() if p in self._used or n.is_node}
        values = [(self._is_inside(n), v) for n in self._drawn.values() if (v := self._value(n))]
        # Of a layer's own: the output layer alone takes as long as all others.
        self._end = scale.end or max(values, default=(False, 1.0))[1]

    def _is_inside(self, node: SimpleNamespace) -> bool:
        """Whether it is of the layers that are drawn."""
        if node.layer is None:
            return False
        if self._layer is not None:
            return bool(node.layer == self._layer)
        return self._typical is not None and bool(node.form == self._typical.form)

    def _is_left_out(self, node: SimpleNamespace) -> bool:
        return node.tensor_id in self._idle or node.tensor_id in self._further

    def _value(self, node: SimpleNamespace) -> float | None:
        """Of one, or the median of those that are folded."""
        column = self._scale.column
        is_folded = self._layer is None and node.types is not None
        value: float | None = getattr(node, f"median_{column}" if is_folded else column)
        return value

    def _place(self, node: SimpleNamespace) -> str:
        """Which node of the picture it is, '' where it is none."""
        if self._is_inside(node):
            return f"p{node.position}"
        is_drawn = not node.is_node or (node.layer is None and self._layer is None)
        return f"t{node.tensor_id}" if is_drawn and not self._is_left_out(node) else ""

    def _side(self, node: SimpleNamespace) -> str:
        """On which side of what is drawn another layer is."""
        first = self._typical.first_layer if self._typical else 0
        return _BEFORE if node.layer < first else _AFTER

    def _lines(self, edges: Rows) -> Iterator[tuple[str, str, bool]]:
        """Ends of what is drawn, and whether the one writes to the other."""
        for edge in edges:
            source, target = self._nodes[edge.src_tensor_id], self._nodes[edge.tensor_id]
            ends = self._place(source), self._place(target)
            is_from, is_to = self._is_inside(source), self._is_inside(target)
            if is_from and is_to and source.layer != target.layer:
                yield ends[0], _AFTER, False
                yield _BEFORE, ends[1], False
            elif ends[0] and ends[1]:
                if not _is_single(source):
                    ends = f"{ends[0]}_{ends[1]}", ends[1]
                    self._drawn.setdefault(ends[0], source)
                yield *ends, edge.slot is None
            elif ends[0] and source.is_node and not self._is_left_out(target):
                yield ends[0], _AFTER if is_from else self._side(target), False
            elif ends[1] and target.is_node and not self._is_left_out(source):
                yield _BEFORE if is_to else self._side(source), ends[1], False

    def dot(self) -> str:
        """All of it."""
        return "\n".join((
            "digraph dag {",
            f'graph [bgcolor="transparent", color="{LINE}", fontcolor="{LINE}", fontsize=11,'
            f' fontname="sans-serif", style=rounded, labelloc=t, nodesep=0.15, ranksep=0.28,'
            f" label={self._title()}]",
            'node [fontname="sans-serif", fontsize=10, height=0.25, margin="0.09,0.06",'
            f' shape=box, style=filled, color="{LINE}", fontcolor="{DARK}"]',
            f'edge [color="{LINE}", arrowsize=0.6]',
            f"legend [shape=plain, style=solid, label={self._scale.legend(self._end)}]",
            *self._boxes(),
            *self._stubs(),
            *self._above(),
            *(f"{a} -> {b}{' [style=dashed]' if writes else ''}" for a, b, writes in self._edges),
            "}\n",
        ))  # fmt: skip

    def _title(self) -> str:
        dag = self._dag
        lines = [] if dag.process is None else [clean(dag.process)]
        tokens = "" if dag.tokens is None else f" of {_count(dag.tokens, 'token')}"
        lines.append(f"{dag.phase}: {_count(dag.runs, 'run')}{tokens}")
        if dag.incomplete:
            lines[-1] += f" (another {dag.incomplete} may be incomplete: not counted)"
        for form in self._forms if self._layer is None else ():
            if form.is_typical:
                alike = f" ({form.layer_count} alike): median (least - most)"
                lines.append(_layers(form.layers) + (alike if form.layer_count > 1 else ""))
            else:
                lines.append(f"not drawn: {_layers(form.layers)}: {clean(form.difference, 80)}")
        if self._idle and self._layer is None:
            lines.append(f"not drawn: {_count(len(self._idle), 'node')} of which no run was seen")
        if self._further and self._layer is None:
            lines.append(f"not drawn: {_count(len(self._further), 'further node')} outside layers")
        return quoted(*lines)

    def _boxes(self) -> Iterator[str]:
        """Nodes, those of a layer in boxes by module."""
        groups: dict[str | None, list[str]] = {}
        for place, node in self._drawn.items():
            text = f"{place} {self._node(node)}"
            if self._is_inside(node):
                groups.setdefault(node.module, []).append(text)
            else:
                yield text
        if not groups:
            return
        name = f"layer {self._layer}" if self._typical is None or self._layer is not None else (
            _layers(self._typical.layers)
        )  # fmt: skip
        yield f"subgraph cluster_layer {{ label={quoted(name)}"
        yield from groups.pop(None, ())
        for module, texts in groups.items():
            yield f"subgraph {quoted(f'cluster_{module}')} {{ label={quoted(module or '')}"
            yield from (*texts, "}")
        yield "}"

    def _stubs(self) -> Iterator[str]:
        """Layers that are not drawn."""
        for place, text in ((_BEFORE, "the layer before"), (_AFTER, "the next layer")):
            if place in self._used:
                yield f'{place} [label="{text}", style=dashed, fontcolor="{LINE}"]'

    def tips(self) -> dict[str, str]:
        """What is told of each node to who points at it."""
        return {
            place: "\n".join(map(clean, self._tip(node))) for place, node in self._drawn.items()
        }

    def _tip(self, node: SimpleNamespace) -> Iterator[str]:
        yield f"{node.op} {node.name}"
        yield f"{node.types or node.type} {_shape(node)}"
        if node.is_node and node.kind == "operator":
            yield from (f"{s.title}: {self._number(node, s)}" for s in SCALES.values())
            yield f"runs: {node.runs or 0}"

    def _above(self) -> Iterator[str]:
        """That the legend is above the layer: above what its first operator takes."""
        first = next((p for p, n in self._drawn.items() if self._is_inside(n) and n.is_node), "")
        for source, target, _ in self._edges:
            if target == first and source in self._drawn and self._is_inside(self._drawn[source]):
                yield f"legend -> {source} [style=invis]"

    def _node(self, node: SimpleNamespace) -> str:
        """A node's attributes."""
        name, types = clean(node.label, _LONGEST), f"{node.types or node.type}  {_shape(node)}"
        if node.kind == "view":
            return _attributes([f"{node.op}  {name}", _shape(node)], VIEW, DARK)
        if not node.is_node:
            return _attributes([name, types], CACHE if node.kind == "cache" else DATA, DARK)
        fill, ink = self._scale.shade(self._value(node), self._end)
        numbers = self._number(node, self._scale)
        if self._scale is not SCALES["time"]:
            numbers += "  " + self._number(node, SCALES["time"]).partition(" (")[0]
        lines = [f"{node.op}  {name}", _shape(node), numbers]
        return _attributes(lines, fill, ink, ', style="filled,rounded"')

    def _number(self, node: SimpleNamespace, scale: Scale) -> str:
        """A number of the layer, or the median of those that are folded, the least and the most."""
        if not node.runs:
            # As ends of a prompt's part, of which no output is wanted: ggml leaves it out.
            is_empty = 0 in (node.ne0, node.ne1, node.ne2, node.ne3)
            return "nothing to compute" if is_empty else "no run seen"
        if self._layer is not None or node.types is None:
            value = getattr(node, scale.column)
            return "not known" if value is None else scale.text(value)
        least, median, most = (
            getattr(node, f"{which}_{scale.column}") for which in ("min", "median", "max")
        )
        if median is None:
            return "not known"
        ends = scale.text(least), scale.text(most)
        return scale.text(median) + (f" ({ends[0]} - {ends[1]})" if ends[0] != ends[1] else "")


def _is_single(node: SimpleNamespace) -> bool:
    """Whether it is drawn once. Weights and inputs stand beside each that takes them: lines from
    one to all are hard to follow, and take Graphviz minutes."""
    return bool(node.is_node or node.kind == "cache")


def _idle(nodes: dict[int, SimpleNamespace], edges: Rows) -> set[int]:
    """Nodes that have not run, and lead to none that has, though their graph's others have."""
    recorded = {n.structure_id for n in nodes.values() if n.runs}
    live = {t for t, n in nodes.items() if n.runs or n.structure_id not in recorded}
    sources: dict[int, list[int]] = {}
    for edge in edges:
        sources.setdefault(edge.tensor_id, []).append(edge.src_tensor_id)
    found = list(live)
    while found:
        new = set(sources.get(found.pop(), ())) - live
        live |= new
        found += new
    return {t for t, n in nodes.items() if t not in live and n.fused_into is None}


def _layers(text: str) -> str:
    """ "layer 3", or "layers 0-2"."""
    return f"layer{'' if text.isdecimal() else 's'} {clean(text, 60)}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _shape(node: SimpleNamespace) -> str:
    sizes = [node.ne0, node.ne1, node.ne2, node.ne3]
    while len(sizes) > 1 and sizes[-1] == 1:
        sizes.pop()
    return "\N{MULTIPLICATION SIGN}".join(map(str, sizes))


def _attributes(lines: list[str], fill: str, ink: str, more: str = "") -> str:
    return f'[label={quoted(*lines)}, fillcolor="{fill}", fontcolor="{ink}"{more}]'
