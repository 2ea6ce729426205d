"""A layer's attention and FFN as a graph (ProfDAG), with what is outside layers.

Layers of equal structure are one in the picture, with the least and the most of their times; which
those are, and in what the others differ, stands above it.
"""

from __future__ import annotations

from types import SimpleNamespace

from profinfer.drawing import graphviz
from profinfer.drawing.graphviz import clean
from profinfer.drawing.picture import Picture, Rows
from profinfer.drawing.shades import SCALES, Colour
from profinfer.errors import QueryError
from profinfer.trace_processor import Session

_DAGS = """
INCLUDE PERFETTO MODULE profinfer.graphs.layers;
INCLUDE PERFETTO MODULE profinfer.recording.processes;
SELECT
  d.dag_id, coalesce(d.phase, 'outside') AS phase, d.tokens, d.runs, d.incomplete, p.pid, p.name,
  p.label, profinfer_process_label(d.upid) AS process
FROM profinfer_dag AS d JOIN _process_name AS p USING (upid) WHERE d.is_main ORDER BY d.dur DESC
"""
_FORMS = """
SELECT form, layers, layer_count, first_layer, is_typical, difference
FROM profinfer_layer_form WHERE dag_id = {dag} ORDER BY is_typical DESC, form
"""
_NODES = """
SELECT
  n.tensor_id, n.layer, l.form, n.position, n.is_node, n.structure_id, n.label, n.op, n.fused_into,
  t.name, t.kind, t.module, t.type, t.ne0, t.ne1, t.ne2, t.ne3, n.dur, n.bandwidth, n.stall_share,
  n.runs, f.types, f.min_dur, f.median_dur, f.max_dur, f.min_bandwidth, f.median_bandwidth,
  f.max_bandwidth, f.min_stall_share, f.median_stall_share, f.max_stall_share
FROM profinfer_dag_node AS n
JOIN profinfer_tensor AS t USING (tensor_id)
LEFT JOIN profinfer_dag_layer AS l ON l.dag_id = n.dag_id AND l.layer = n.layer
LEFT JOIN profinfer_layer_node AS f
  ON f.dag_id = l.dag_id AND f.form = l.form AND f.tensor_id = n.tensor_id
WHERE n.dag_id = {dag} ORDER BY n.layer, n.position
"""
_EDGES = """
SELECT e.src_tensor_id, e.tensor_id, e.slot
FROM profinfer_dag_edge AS e JOIN profinfer_dag_node AS n USING (dag_id, tensor_id)
WHERE e.dag_id = {dag} ORDER BY n.layer, n.position, e.slot
"""


def layer_svg(
    session: Session, *, layer: int | None = None, colour: Colour = "time",
    phase: str | None = None, process: str | None = None,
) -> str:  # fmt: skip
    """The picture as one <svg> element, for light and dark pages.

    `layer` None: most of them folded into one, and what is outside layers. `phase` and `process`:
    as for `choose`. QueryError where the trace has no such graph or layer, KernelError without
    Graphviz.
    """
    picture = _picture(session, layer, colour, choose(session, phase, process)[0])
    return graphviz.svg(picture.dot(), picture.tips())


def layer_dot(
    session: Session, *, layer: int | None = None, colour: Colour = "time",
    phase: str | None = None, process: str | None = None,
) -> str:  # fmt: skip
    """The same in Graphviz's language."""
    return _picture(session, layer, colour, choose(session, phase, process)[0]).dot()


def choose(
    session: Session, phase: str | None = None, process: str | None = None
) -> tuple[SimpleNamespace, list[str]]:
    """The DAG that is drawn, and the labels of all processes that have any.

    `phase` None: decode, where there is any, else what took longest. `process`: its name, number or
    label; None for the one that took longest.
    """
    found = _rows(session, _DAGS)
    if not found:
        raise QueryError(
            "this trace has no graph whose nodes are known and of which nothing was lost",
            "it needs a recording at level graph or above, of an engine on the CPU",
        )
    labels = list(dict.fromkeys(d.label for d in found))
    if process is not None:
        found = [d for d in found if process in (d.label, d.name, str(d.pid))]
        its = {d.label for d in found}
        if len(its) != 1:
            which = "there is no process" if not its else "there are several processes"
            raise QueryError(
                f"{which} {clean(process)} with such a graph",
                f"there are: {clean(', '.join(labels))}",
            )
    wanted = [d for d in found if d.phase == phase] if phase else []
    if phase and not wanted:
        there = clean(", ".join(dict.fromkeys(d.phase for d in found)))
        raise QueryError(f"this trace has no whole graph of phase {phase}", f"it has: {there}")
    return (wanted or [d for d in found if d.phase == "decode"] or found)[0], labels


def _picture(session: Session, layer: int | None, colour: Colour, dag: SimpleNamespace) -> Picture:
    forms = _rows(session, _FORMS.format(dag=dag.dag_id))
    nodes = {n.tensor_id: n for n in _rows(session, _NODES.format(dag=dag.dag_id))}
    if layer is not None and all(n.layer != layer for n in nodes.values()):
        there = ", ".join(form.layers for form in forms) or "none"
        raise QueryError(f"there is no layer {layer} in this graph", f"its layers: {there}")
    edges = _rows(session, _EDGES.format(dag=dag.dag_id))
    return Picture(dag, forms, nodes, edges, layer, SCALES[colour])


def _rows(session: Session, sql: str) -> Rows:
    result = session.query(sql)
    return [SimpleNamespace(**dict(zip(result.columns, row, strict=True))) for row in result]
