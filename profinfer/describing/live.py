"""Whether a known layout is that of a process: its live tensors decide.

What is read belongs to somebody else, who may change it meanwhile: everything is checked, and what
does not fit refutes the layout, never profinfer.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from profinfer.describing.known import Known
from profinfer.describing.layout import TensorLayout

_NODES = 256
"""Nodes that are looked at."""
_MAX_NODES = 1 << 20
_MAX_ELEMENTS = 1 << 48
_ADDRESSES = range(1 << 16, 1 << 56)
_OBJECT = struct.Struct("<QQQi4x")
"""What stands before each tensor in ggml's memory: its place, bytes, the next one, and a kind."""
_TENSOR_KIND = 0
_VIEWS = frozenset(["VIEW", "RESHAPE", "PERMUTE", "TRANSPOSE"])
_SAME_SHAPE = frozenset(
    ["ADD", "SUB", "MUL", "DIV", "SCALE", "NORM", "RMS_NORM", "SOFT_MAX", "ROPE", "UNARY"]
)
"""Operators whose result is shaped as what they are made of."""


class Disagreement(Exception):
    """Why it is not that of the process."""


class Memory:
    """Of a process. A context manager."""

    def __init__(self, pid: int) -> None:
        """OSError when it cannot be read."""
        self._file = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def read(self, address: int, count: int, what: str) -> bytes:
        """Exactly so many bytes; Disagreement when they are not there."""
        try:
            data = os.pread(self._file, count, address) if address in _ADDRESSES else b""
        except OSError:
            data = b""
        if len(data) != count:
            raise Disagreement(f"{what} is not in memory")
        return data


@dataclass(frozen=True)
class Tensor:
    """What stands in one, by a known layout."""

    address: int
    type: int
    op: str
    ne: tuple[int, ...]
    nb: tuple[int, ...]
    op_params: bytes
    src: tuple[int, ...]
    view_src: int
    view_offs: int
    data: int
    buffer: int
    name: bytes
    object_size: int
    """Bytes that ggml has set aside for it, its data perhaps among them."""

    @property
    def struct_size(self) -> int:
        """Those of the struct."""
        before_data = self.data - self.address
        return before_data if 0 < before_data <= self.object_size else self.object_size


@dataclass(frozen=True)
class Agreement:
    """What speaks for a known layout."""

    known: Known
    tensor: TensorLayout
    """As known, but for the length of names, which a build may choose."""
    is_whole: bool
    """Whether the graph's nodes stand where one that is as long as this one would have them."""
    count: int
    """Tensors that were looked at."""


def agree(known: Known, tables: dict[str, Any], memory: Memory, cgraph: int) -> Agreement:
    """Reads the graph at that address by that layout; Disagreement when there is none."""
    return _Trial(known, tables, memory).run(cgraph)


class _Trial:
    def __init__(self, known: Known, tables: dict[str, Any], memory: Memory) -> None:
        self._known = known
        self._tables = tables
        self._memory = memory
        self._seen: dict[int, Tensor] = {}
        self._shapes = 0
        """Operators whose shape follows from that of their sources."""

    def run(self, cgraph: int) -> Agreement:
        where = self._known.cgraph
        head = self._memory.read(cgraph, max(where.n_nodes + 4, where.nodes + 8), "the graph")
        [count] = struct.unpack_from("<i", head, where.n_nodes)
        [nodes] = struct.unpack_from("<Q", head, where.nodes)
        if not 0 < count <= _MAX_NODES:
            _no(f"a graph of {count} nodes")
        looked = min(count, _NODES)
        list_ = self._memory.read(nodes, 8 * count, "the list of nodes")
        addresses = struct.unpack_from(f"<{looked}Q", list_)
        if len(set(addresses)) != looked:
            _no("a node is twice in a graph")
        for address in [*addresses, *struct.unpack_from("<Q", list_, 8 * count - 8)]:
            self._check_node(self._tensor(address))
        self._check_evidence()
        tensor = self._sized()
        is_whole = nodes == cgraph + self._known.cgraph_size
        return Agreement(self._known, tensor, is_whole, len(self._seen))

    def _check_evidence(self) -> None:
        names = [tensor.name for tensor in self._seen.values() if tensor.name]
        if 2 * len(names) < len(self._seen):
            _no("most tensors have no name")
        if not self._shapes:
            _no("no operator in the graph whose shape could be checked")

    # ---- Tensors

    def _tensor(self, address: int) -> Tensor:
        if address not in self._seen:
            self._seen[address] = tensor = self._read(address)
            self._check(tensor)
        return self._seen[address]

    def _read(self, address: int) -> Tensor:
        where = self._known.tensor
        if address % 8:
            _no("a tensor's address is odd")
        header = self._memory.read(address - _OBJECT.size, _OBJECT.size, "a tensor's object")
        raw = self._memory.read(address, where.size, "a tensor")
        _, size, _, kind = _OBJECT.unpack(header)
        if kind != _TENSOR_KIND:
            _no("what stands before a tensor is not ggml's")
        ops: Sequence[str] = self._tables["ops"]

        def word(at: int | None) -> int:
            return 0 if at is None else int(struct.unpack_from("<Q", raw, at)[0])

        [op] = struct.unpack_from("<I", raw, where.op)
        if op >= len(ops):
            _no(f"operator {op} of {len(ops)}")
        if where.flags is not None and struct.unpack_from("<I", raw, where.flags)[0] >= 1 << 16:
            _no("flags that are none")
        # A pointer, whose last bytes are 0, precedes the name.
        text, end, _ = raw[where.name : where.name + where.name_size].partition(b"\0")
        if not end or raw[where.name - 1] or not text.decode("utf-8", "replace").isprintable():
            _no("a name that is no text")
        [number] = struct.unpack_from("<I", raw, where.type)
        ne, nb = struct.unpack_from("<4q", raw, where.ne), struct.unpack_from("<4Q", raw, where.nb)
        return Tensor(
            address=address, type=number, op=ops[op], ne=ne, nb=nb,
            op_params=raw[where.op_params : where.op_params + where.op_params_size],
            src=struct.unpack_from(f"<{where.max_src}Q", raw, where.src),
            view_src=word(where.view_src), view_offs=word(where.view_offs), data=word(where.data),
            buffer=word(where.buffer), name=text, object_size=size,
        )  # fmt: skip

    def _check(self, tensor: Tensor) -> None:
        """A tensor by itself."""
        types: Sequence[dict[str, Any] | None] = self._tables["types"]
        kind = types[tensor.type] if tensor.type < len(types) else None
        if kind is None:
            _no(f"type {tensor.type}, which is none")
        if min(tensor.ne) < 0 or math.prod(tensor.ne) > _MAX_ELEMENTS:
            _no("implausible dimensions")
        block, size = kind["block_size"], kind["type_size"]
        if size not in tensor.nb:
            _no("nb does not go with the type")
        row = size * (tensor.ne[0] // block)
        dense = (size, row, row * tensor.ne[1], row * tensor.ne[1] * tensor.ne[2])
        # What is computed has no gaps; a view, or a copy of one, may have some.
        if tensor.op != "NONE" and not tensor.view_src and tensor.nb != dense:
            _no("nb does not go with ne")
        for address in (*tensor.src, tensor.view_src, tensor.data, tensor.buffer):
            if address and address not in _ADDRESSES:
                _no("a pointer that is none")
        if tensor.view_offs and not tensor.view_src:
            _no("an offset into no view")

    def _check_node(self, tensor: Tensor) -> None:
        """A tensor and what it is made of."""
        sources = [self._tensor(address) if address else None for address in tensor.src]
        for item in (tensor, *sources):
            self._check_view(item)
        first, second = sources[0], sources[1]
        if tensor.op in _SAME_SHAPE:
            if not first or first.ne != tensor.ne:
                _no(f"{tensor.op} of another shape than its source")
            self._shapes += 1
        if tensor.op == "MUL_MAT":
            if not first or not second or not _is_product(tensor, first, second):
                _no("MUL_MAT of another shape than its sources give")
            self._shapes += 1
        self._check_parameters(tensor)

    def _check_view(self, tensor: Tensor | None) -> None:
        if not tensor or not tensor.view_src:
            if tensor and tensor.op in _VIEWS:
                _no(f"{tensor.op} of nothing")
            return
        origin = self._tensor(tensor.view_src)
        if origin.view_src:
            _no("a view of a view")
        if tensor.data and origin.data and tensor.data != origin.data + tensor.view_offs:
            _no("a view's data is not in what it is a view of")

    def _check_parameters(self, tensor: Tensor) -> None:
        [number] = struct.unpack_from("<i", tensor.op_params)
        [epsilon] = struct.unpack_from("<f", tensor.op_params)
        kinds = {"UNARY": "unary_ops", "GLU": "glu_ops"}.get(tensor.op)
        if kinds and self._tables[kinds] and number not in range(len(self._tables[kinds])):
            _no(f"{tensor.op} of a kind that is none")
        if tensor.op in ("NORM", "RMS_NORM") and not 0 <= epsilon < 1:
            _no(f"{tensor.op} with an implausible epsilon")

    def _sized(self) -> TensorLayout:
        """With names as long as this build has them: what is set aside for a tensor is the struct
        alone, or the struct and right behind it the data."""
        where = self._known.tensor
        [size, *others] = {tensor.struct_size for tensor in self._seen.values()}
        longer = size - where.size
        if others or longer % 16 or not 32 <= where.name_size + longer <= 1024:
            _no(f"tensors of {size} bytes")
        return replace(where, size=size, name_size=where.name_size + longer)


def _is_product(product: Tensor, a: Tensor, b: Tensor) -> bool:
    return a.ne[0] == b.ne[0] and product.ne == (a.ne[1], *b.ne[1:])


def _no(reason: str) -> NoReturn:
    raise Disagreement(reason)
