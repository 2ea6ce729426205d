"""The structure of graphs: tensors, which node follows which, and what an address meant when.

The handlers send a tensor only when it is new or has changed, and the list of nodes only for a
structure not seen before. Here tensors get ids: one per distinct content, where the content
includes the ids of the sources, so that an edge never points at a stale version.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from profinfer.converting.identity import Identity, Source, of_data, of_operator, of_view, own_name
from profinfer.describing.layout import Layout
from profinfer.records.dtypes import STRUCTURE_RECORD, TENSOR_RECORD, WIDE_HEADER, Records

_VIEW_OPS = {"VIEW", "RESHAPE", "PERMUTE", "TRANSPOSE"}
_WEIGHT = re.compile(r"\.(weight|bias|scale|shift)$|^blk\.|\.blk\.")
_COPIED = re.compile(r"([^#]+)#.*#\d+$")
_CACHE = re.compile(r"^cache_|^kv_|_cache(?: |$)|^past_")


@dataclass(frozen=True)
class Tensor:
    """One tensor as it stood at the start of a graph. `ne` in elements, `nb` in bytes."""

    id: int
    address: int
    name: str
    op: str
    type: str
    kind: str
    """operator, view, weight, cache or leaf (an input or a constant)."""
    identity: Identity
    ne: tuple[int, ...]
    nb: tuple[int, ...]
    bytes: int
    data: int
    """Address of its first element, 0 where it has none."""
    buffer: int
    view_src: int
    """Tensor id, 0 for none."""
    sources: tuple[int, ...]
    """Tensor ids, 0 where a source is absent or unknown."""
    description: str
    """Unique; what the UI shows and what operator slices refer to."""


@dataclass(frozen=True)
class Fused:
    """Two nodes executed as one operator; the slice bears the name of the last."""

    description: str
    op: str
    tensor: int
    with_tensor: int


@dataclass
class Structure:
    """One distinct graph: its nodes in order of execution."""

    id: int
    cgraph: int
    backend: int
    nodes: list[Tensor]
    complete: bool
    model: int | None
    """Number of the model whose weights it uses."""
    addresses: npt.NDArray[np.uint64]
    """Sorted addresses of the nodes, with `order` their index in `nodes`."""
    order: npt.NDArray[np.int64]


def _shape(ne: tuple[int, ...]) -> str:
    last = max((i for i, n in enumerate(ne) if n != 1), default=0)
    return "[" + ", ".join(str(n) for n in ne[: last + 1]) + "]"


class Structures:
    """Everything known of tensors and graphs so far; grows with distinct content only."""

    def __init__(
        self, layout: Layout, emit_tensor: Callable[[int, Tensor], None],
        emit_structure: Callable[[int, Structure], None],
        emit_fused: Callable[[int, Fused], None],
    ) -> None:  # fmt: skip
        self._layout = layout
        self._emit_tensor = emit_tensor
        self._emit_structure = emit_structure
        self._emit_fused = emit_fused
        self._records: dict[int, np.void] = {}
        """TENSOR_RECORDs by address."""
        self._ids: dict[tuple[object, ...], Tensor] = {}
        self._by_id: dict[int, Tensor] = {}
        self._computed: set[int] = set()
        """Buffers for results: inputs lie there, too, but no weights or caches."""
        self._models: dict[int, int] = {}
        """Number of the model by the keys of its weights."""
        self._nodes: dict[int, list[npt.NDArray[np.uint64]]] = {}
        self._known: dict[int, Structure] = {}
        self._fused: dict[tuple[int, int], Fused] = {}
        self._same: dict[tuple[int, ...], Structure] = {}

    def add_nodes(self, nodes: Records) -> None:
        """KIND_NODE records in order of time."""
        for structure in sorted(set(nodes["b"].tolist())):
            mine = nodes["a"][nodes["b"] == structure]
            self._nodes.setdefault(structure, []).append(mine.copy())

    def add_tensor(self, raw: bytes) -> None:
        """A KIND_TENSOR record."""
        record = np.frombuffer(raw, TENSOR_RECORD, 1)[0]
        self._records[int(record["address"])] = record

    def add_structure(self, raw: bytes) -> Structure:
        """A KIND_STRUCTURE record: all its nodes have come before it."""
        record = np.frombuffer(raw, STRUCTURE_RECORD, 1)[0]
        key, ts = int(record["structure"]), int(record["header"]["ts"])
        parts = self._nodes.pop(key, [])
        addresses = np.concatenate(parts) if parts else np.empty(0, np.uint64)
        resolved: dict[int, Tensor] = {}
        self._computed |= self._buffers(addresses)
        nodes = [self._resolve(int(a), resolved, ts, is_node=True) for a in addresses]
        content = (int(record["cgraph"]), *(t.id for t in nodes))
        structure = self._same.get(content)
        if structure is None:
            order = np.argsort(addresses, kind="stable")
            structure = Structure(
                id=len(self._same) + 1,
                cgraph=int(record["cgraph"]),
                backend=int(record["backend"]),
                nodes=nodes,
                model=self._model(nodes),
                complete=len(nodes) == int(record["nodes"]),
                addresses=addresses[order],
                order=order,
            )
            self._same[content] = structure
            self._emit_structure(ts, structure)
        self._known[key] = structure
        return structure

    def get(self, key: int) -> Structure | None:
        """The structure that a KIND_GRAPH_BEGIN names, when it is known."""
        return self._known.get(key)

    def tensor(self, number: int) -> Tensor | None:
        """The tensor of that id."""
        return self._by_id.get(number)

    def backend_name(self, structure: Structure) -> str:
        """What the engine calls the backend of a graph, if it says so: ggml's scheduler copies
        inputs from other backends' memory to tensors that it calls "backend#tensor#number"."""
        sources = (self._by_id[i] for node in structure.nodes for i in node.sources if i)
        names = (_COPIED.match(t.name) for t in sources if t.kind == "leaf")
        return next((found[1] for found in names if found), "")

    def fused(self, ts: int, structure: Structure, last: int, first: int) -> Fused:
        """The fused operator of two nodes, by their indices in the structure."""
        tensor, other = structure.nodes[last], structure.nodes[first]
        known = self._fused.get((tensor.id, other.id))
        if known is None:
            op = f"{other.op}+{tensor.op}"
            known = Fused(
                self._describe(op, tensor.type, tensor.ne, (*other.sources, *tensor.sources),
                               tensor.id, skip=other.id),
                op, tensor.id, other.id,
            )  # fmt: skip
            self._fused[(tensor.id, other.id)] = known
            self._emit_fused(ts, known)
        return known

    def _resolve(
        self, address: int, resolved: dict[int, Tensor], ts: int, *, is_node: bool
    ) -> Tensor:
        tensor = resolved.get(address)
        if tensor is None:
            tensor = self._intern(address, resolved, ts, is_node)
            resolved[address] = tensor
        return tensor

    def _intern(self, address: int, resolved: dict[int, Tensor], ts: int, is_node: bool) -> Tensor:
        record = self._records.get(address)
        if record is None:
            # Its record was lost: the loss is counted, the tensor stays nameless.
            return self._store(("lost", address), ts, Tensor(
                0, address, f"tensor {address:#x}", "?", "?", "leaf",
                of_data(f"tensor {address:#x}", "", b"", is_held=False), (0, 0, 0, 0),
                (0, 0, 0, 0), 0, 0, 0, 0, (), "",
            ))  # fmt: skip
        addresses: list[int] = record["src"].tolist() if is_node else []
        while addresses and not addresses[-1]:
            addresses.pop()
        sources: list[int] = []
        for source in addresses:
            # A source may be computed elsewhere: what is not a node here ends the search.
            sources.append(self._resolve(source, resolved, ts, is_node=False).id if source else 0)
        view, view_id = int(record["view_src"]), 0
        if view in resolved or (is_node and view in self._records and view != address):
            view_id = self._resolve(view, resolved, ts, is_node=False).id
        # But for who sent it when.
        content = (record.tobytes()[WIDE_HEADER.itemsize :], *sources, view_id)
        known = self._ids.get(content)
        if known is not None:
            return known
        text = bytes(record["name"]).split(b"\0")[0].decode("utf-8", "replace")
        name = text or f"tensor {address:#x}"
        op = self._op_name(int(record["op"]), int(record["op_params"][0]))
        ne, nb = tuple(record["ne"].tolist()), tuple(record["nb"].tolist())
        type_name, size = self._type(int(record["type"]), ne)
        kind = _kind(name, op, is_node=is_node)
        identity = self._identify(name, op, kind, record, sources, view_id)
        draft = Tensor(
            0, address, name, op, type_name, kind, identity, ne, nb, size,
            int(record["data"]), int(record["buffer"]), view_id, tuple(sources), "",
        )  # fmt: skip
        return self._store(content, ts, draft)

    def _identify(
        self, name: str, op: str, kind: str, record: np.void, sources: Sequence[int], view: int
    ) -> Identity:
        operands = [self._by_id[i] for i in sources if i]
        base = self._by_id.get(view) or (operands[0] if operands else None)
        if kind == "view" and base is not None:
            return of_view(name, base.identity)
        if kind == "operator":
            return of_operator(
                name, op, [Source(t.identity, is_whole=t.kind != "view") for t in operands]
            )
        buffer = int(record["buffer"])
        is_apart = bool(buffer) and buffer not in self._computed
        is_held = kind in ("weight", "cache") or (is_apart and not own_name(name))
        content = record.tobytes()[WIDE_HEADER.itemsize :]
        return of_data(name, _shape(tuple(record["ne"].tolist())), content, is_held=is_held)

    def _model(self, nodes: Sequence[Tensor]) -> int | None:
        """The number of the model of a graph: graphs that share a weight are of one model."""
        weights = {
            t.identity.anchor
            for node in nodes
            for t in map(self._by_id.__getitem__, filter(None, node.sources))
            if t.kind == "weight" and t.identity.anchor
        }
        if not weights:
            return None
        known = min((self._models[w] for w in weights if w in self._models), default=0)
        number = known or max(self._models.values(), default=0) + 1
        self._models |= dict.fromkeys(weights - self._models.keys(), number)
        return number

    def _buffers(self, nodes: npt.NDArray[np.uint64]) -> set[int]:
        """Those in which results of these lie."""
        records = [self._records[a] for a in nodes.tolist() if a in self._records]
        return {int(r["buffer"]) for r in records if not r["view_src"]}

    def _store(self, content: tuple[object, ...], ts: int, draft: Tensor) -> Tensor:
        known = self._ids.get(content)
        if known is not None:
            return known
        number = len(self._ids) + 1
        description = self._describe(draft.op, draft.type, draft.ne, draft.sources, number)
        tensor = replace(draft, id=number, description=description)
        self._ids[content] = tensor
        self._by_id[number] = tensor
        self._emit_tensor(ts, tensor)
        return tensor

    def _describe(
        self, op: str, type_name: str, ne: tuple[int, ...], sources: tuple[int, ...], number: int,
        skip: int = 0,
    ) -> str:  # fmt: skip
        parts = []
        for source in sources:
            tensor = self._by_id.get(source)
            if tensor is not None and source != skip:
                parts.append(f"{tensor.name} {tensor.type} {_shape(tensor.ne)}")
        text = f"{op} {type_name} {_shape(ne)}"
        if parts:
            text += " = " + ", ".join(parts)
        return f"{text}  #{number}"

    def _op_name(self, op: int, parameter: int) -> str:
        layout = self._layout
        name = layout.ops[op] if op < len(layout.ops) else f"op {op}"
        for general, names in (("UNARY", layout.unary_ops), ("GLU", layout.glu_ops)):
            if name == general and 0 <= parameter < len(names):
                return names[parameter]
        return name

    def _type(self, number: int, ne: tuple[int, ...]) -> tuple[str, int]:
        types = self._layout.types
        info = types[number] if number < len(types) else None
        if info is None:
            return f"type {number}", 0
        return info.name, math.prod(ne) // max(info.block_size, 1) * info.type_size


def _kind(name: str, op: str, *, is_node: bool) -> str:
    if op in _VIEW_OPS:
        return "view"
    if is_node and op != "NONE":
        return "operator"
    if _WEIGHT.search(name):
        return "weight"
    if _CACHE.search(name):
        return "cache"
    return "leaf" if op == "NONE" else "operator"  # computed in another graph
