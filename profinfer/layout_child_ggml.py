"""Experiments on ggml: where its structs keep what, and what it calls its operators and types.

Each makes objects with values that occur nowhere else and looks for those values in the bytes.
Only for the throw-away process of `layout_child`.
"""

from __future__ import annotations

import ctypes
import re
import struct
from typing import Any

from profinfer.layout_engine import Engine, Ptr, Unfit, peek, peek_all, peek_text, slots

I32, I64, U64, F32 = ctypes.c_int32, ctypes.c_int64, ctypes.c_uint64, ctypes.c_float

#: The functions these experiments may call; the first are indispensable.
REQUIRED = ("ggml_init", "ggml_new_tensor_4d", "ggml_mul_mat", "ggml_op_name", "ggml_type_name")
WANTED = (
    *REQUIRED, "ggml_set_name", "ggml_add", "ggml_view_1d", "ggml_rms_norm", "ggml_norm",
    "ggml_silu", "ggml_get_data", "ggml_set_input", "ggml_set_output", "ggml_new_graph",
    "ggml_build_forward_expand", "ggml_graph_n_nodes", "ggml_graph_next_uid",
    "ggml_unary_op_name", "ggml_glu_op_name", "ggml_op_symbol", "ggml_type_size",
    "ggml_blck_size", "ggml_validate_row_data", "ggml_version", "ggml_commit",
    "ggml_backend_cpu_buffer_type", "ggml_backend_alloc_ctx_tensors_from_buft",
    "ggml_backend_cpu_init", "ggml_backend_load_all", "ggml_backend_load_all_from_path",
    "ggml_backend_dev_count", "ggml_backend_dev_get", "ggml_backend_dev_name",
    "ggml_backend_dev_init", "ggml_backend_name", "ggml_backend_guid",
    "ggml_backend_get_device", "ggml_backend_graph_compute_async", "ggml_backend_sched_new",
    "ggml_backend_sched_graph_compute", "ggml_backend_sched_reset",
)  # fmt: skip

_MAX_ENUM = 512
_GAP = 16


class _InitParams(ctypes.Structure):
    _fields_ = (("mem_size", U64), ("mem_buffer", Ptr), ("no_alloc", ctypes.c_bool))


def _context(engine: Engine, *, no_alloc: bool = True) -> Ptr:
    context = engine.call("ggml_init", Ptr, _InitParams(16 << 20, None, no_alloc))
    if not context:
        raise Unfit("ggml_init refused a context")
    return Ptr(context)


def _tensor(engine: Engine, context: Ptr, kind: int, *ne: int) -> int:
    made = engine.call("ggml_new_tensor_4d", Ptr, context, I32(kind), *map(I64, ne))
    if not made:
        raise Unfit("ggml_new_tensor_4d made nothing")
    return int(made)


def _op(engine: Engine, name: str, context: Ptr, *arguments: Any) -> int:
    arguments = tuple(Ptr(a) if isinstance(a, int) else a for a in arguments)
    made = engine.call(name, Ptr, context, *arguments)
    if not made:
        raise Unfit(f"{name} made nothing")
    return int(made)


def names(engine: Engine) -> dict[str, Any]:
    """Names by enum value: lists `ops`, `unary_ops`, `glu_ops`, `types`, and `version`."""
    tables = ("ggml_op_name", "ggml_unary_op_name", "ggml_glu_op_name", "ggml_op_symbol")
    calls = {t: engine.fn(t, Ptr, I32) for t in tables if engine.has(t)}
    # The library indexes its tables unchecked, so the one that follows in memory would go on.
    starts = {table: call(0) for table, call in calls.items()}

    def enum(table: str) -> list[str]:
        found: list[str] = []
        for value in range(_MAX_ENUM if table in calls else 0):
            address = calls[table](value)
            text = peek_text(address)
            other = any(address == start for t, start in starts.items() if t != table)
            if other or text in found or not re.fullmatch("[A-Z][A-Z0-9_]{1,60}", text or ""):
                break
            found.append(text or "")
        return found

    version = [
        peek_text(engine.call(name, Ptr)) for name in ("ggml_version", "ggml_commit")
        if engine.has(name)
    ]  # fmt: skip
    return {
        "ops": enum("ggml_op_name"),
        "unary_ops": enum("ggml_unary_op_name"),
        "glu_ops": enum("ggml_glu_op_name"),
        "types": engine.attempt("types", lambda: _types(engine)) or [],
        "version": " ".join(v for v in version if v and v != "unknown") or None,
    }


def _types(engine: Engine) -> list[dict[str, Any] | None]:
    name_of = engine.fn("ggml_type_name", Ptr, I32)
    size_of = engine.fn("ggml_type_size", ctypes.c_size_t, I32)
    block_of = engine.fn("ggml_blck_size", I64, I32)
    valid = None
    if engine.has("ggml_validate_row_data"):
        # Of an empty row it only looks at the type: true for most, false for all beyond the enum.
        valid = engine.fn("ggml_validate_row_data", ctypes.c_bool, I32, Ptr, ctypes.c_size_t)
    found: list[dict[str, Any] | None] = []
    gap = last = 0
    for value in range(_MAX_ENUM):
        name = peek_text(name_of(value), 64)
        sizes = size_of(value), block_of(value) & 0xFFFFFFFF
        good = bool(name) and all(0 < size <= 1 << 16 for size in sizes)
        # "NONE" is what ggml calls a number beyond its enum.
        good = good and name != "NONE" and re.fullmatch(r"\w+", name or "") is not None
        if good and (valid is None or valid(value, None, 0)):
            last = value
        gap = 0 if good else gap + 1
        if gap == _GAP:
            break
        found.append(
            {"name": name, "type_size": sizes[0], "block_size": sizes[1]} if good else None
        )
    return found[: last + 1]


def tensor(engine: Engine, known: dict[str, Any]) -> dict[str, int | None]:
    """Offsets in `struct ggml_tensor`; `known` is what `names` returned."""
    ops, types = known["ops"], known["types"]
    context, filled = _context(engine), _context(engine, no_alloc=False)
    f32 = next((i for i, t in enumerate(types) if t and t["name"] == "f32"), 0)
    one = engine.one

    # Data follows its struct in a context that allocates: that tells the struct's size.
    get_data = engine.fn("ggml_get_data", Ptr, Ptr)
    holders = [_tensor(engine, filled, f32, n, 1, 1, 1) for n in (3, 5)]
    datas = [int(get_data(t) or 0) for t in holders]
    size = datas[0] - holders[0]
    if not 64 <= size <= 4096 or datas[1] - holders[1] != size:
        raise Unfit("the size of ggml_tensor cannot be told")

    def read(*tensors: int) -> list[bytes]:
        return [peek_all(address, size) for address in tensors]

    a = _tensor(engine, context, f32, 101, 103, 1, 1)
    b = _tensor(engine, context, f32, 101, 107, 3, 5)
    c = _tensor(engine, context, f32, 101, 107, 3, 5)
    product = _op(engine, "ggml_mul_mat", context, a, b)
    total = _op(engine, "ggml_add", context, b, c)
    step = 4 * 7
    view = _op(engine, "ggml_view_1d", context, b, I64(61), U64(step))
    inner = _op(engine, "ggml_view_1d", context, Ptr(view), I64(11), U64(3 * step))
    norms = [
        _op(engine, name, context, b, F32(eps))
        for name, eps in (("ggml_rms_norm", 1.25e-5), ("ggml_norm", 3.5e-4))
    ]
    (raw,), products = read(b), read(product, total)

    def find(raws: list[bytes], wants: list[bytes], align: int) -> list[int]:
        return [
            at for at in range(0, size, align)
            if all(r.startswith(w, at) for r, w in zip(raws, wants, strict=True))
        ]  # fmt: skip

    found: dict[str, int | None] = {"size": size}
    kinds = [(i, t["block_size"]) for i, t in enumerate(types) if t]
    typed = read(*[_tensor(engine, context, kind, block, 1, 1, 1) for kind, block in kinds])
    found["type"] = one("type", slots(typed, [kind for kind, _ in kinds], 4))
    found["ne"] = one("ne", find([raw], [struct.pack("<4q", 101, 107, 3, 5)], 8))
    strides = struct.pack("<4q", 4, 4 * 101, 4 * 101 * 107, 4 * 101 * 107 * 3)
    found["nb"] = one("nb", find([raw], [strides], 8))
    expected = {product: "MUL_MAT", total: "ADD", view: "VIEW", b: "NONE",
                norms[0]: "RMS_NORM", norms[1]: "NORM"}  # fmt: skip
    if not set(expected.values()) <= set(ops):
        raise Unfit("ggml_op_name does not know the basic operators")
    found["op"] = one("op", slots(read(*expected), [ops.index(o) for o in expected.values()], 4))
    pairs = [struct.pack("<2Q", a, b), struct.pack("<2Q", b, c)]
    found["src"] = one("src", find(products, pairs, 8))
    found["data"] = one("data", slots(read(*holders), datas, 8))
    views = read(view, inner)
    found["view_src"] = one("view_src", slots(views, [b, b], 8))
    found["view_offs"] = one("view_offs", slots(views, [step, 4 * step], 8))
    epsilons = [struct.pack("<f", 1.25e-5), struct.pack("<f", 3.5e-4)]
    found["op_params"] = one("op_params", find(read(*norms), epsilons, 4))
    unary = known["unary_ops"]
    if "SILU" in unary and found["op_params"] is not None:
        silu = read(_op(engine, "ggml_silu", context, b))
        if found["op_params"] not in slots(silu, [unary.index("SILU")], 4):
            engine.notes.append("op_params: a unary operator's number is not at its start")
    found.update(_name(engine, c, size))
    found["flags"] = engine.attempt("flags", lambda: _flags(engine, a, size))
    found["buffer"] = engine.attempt("buffer", lambda: _buffer(engine, f32, size))
    for field, unit, result in (("src", 8, "max_src"), ("op_params", 1, "op_params_size")):
        start = found[field]
        if start is not None:
            fields = [v for k, v in found.items() if v is not None and k not in _LENGTHS]
            after = min([v for v in fields if v > start], default=size)
            found[result] = (after - start) // unit
    return found


_LENGTHS = ("name_size", "max_src", "op_params_size", "size")


def _name(engine: Engine, tensor: int, size: int) -> dict[str, int | None]:
    """Where the name is, and from how it is cut short, how long it can be."""
    long = bytes(ord("a") + i % 23 for i in range(size * 2))
    engine.fn("ggml_set_name", Ptr, Ptr, ctypes.c_char_p)(tensor, long)
    raw = peek_all(tensor, size)
    start = raw.find(long[:8])
    if start < 0 or b"\0" not in raw[start:]:
        raise Unfit("ggml_set_name left no name")
    return {"name": start, "name_size": raw.index(b"\0", start) - start + 1}


def _flags(engine: Engine, tensor: int, size: int) -> int | None:
    changed: list[set[int]] = []
    for setter in ("ggml_set_input", "ggml_set_output"):
        before = peek_all(tensor, size)
        engine.fn(setter, None, Ptr)(tensor)
        after = peek_all(tensor, size)
        changed.append({i & ~3 for i in range(size) if before[i] != after[i]})
    return engine.one("flags", changed[0] & changed[1])


def _buffer(engine: Engine, f32: int, size: int) -> int | None:
    context = _context(engine)
    tensors = [_tensor(engine, context, f32, n, 1, 1, 1) for n in (7, 9)]
    kind = engine.call("ggml_backend_cpu_buffer_type", Ptr)
    made = engine.call("ggml_backend_alloc_ctx_tensors_from_buft", Ptr, context, Ptr(kind))
    if not made:
        raise Unfit("no buffer could be allocated")
    return engine.one("buffer", slots([peek_all(t, size) for t in tensors], [made, made], 8))


def chain(engine: Engine, count: int) -> tuple[int, list[int]]:
    """(graph, its nodes in order) of a graph with that many additions and two leaves."""
    context = _context(engine)
    last, other = (_tensor(engine, context, 0, 3, 1, 1, 1) for _ in range(2))
    nodes = []
    for _ in range(count):
        last = _op(engine, "ggml_add", context, last, other)
        nodes.append(last)
    graph = engine.call("ggml_new_graph", Ptr, context)
    if not graph:
        raise Unfit("ggml_new_graph made nothing")
    engine.call("ggml_build_forward_expand", None, Ptr(graph), Ptr(last))
    return int(graph), nodes


def cgraph(engine: Engine) -> dict[str, int | None]:
    """Offsets in `struct ggml_cgraph`."""
    counts = (13, 29)
    graphs = [chain(engine, count) for count in counts]
    raws = [peek_all(graph, 128) for graph, _ in graphs]
    if engine.has("ggml_graph_n_nodes"):
        count_of = engine.fn("ggml_graph_n_nodes", I32, Ptr)
        if tuple(count_of(graph) for graph, _ in graphs) != counts:
            raise Unfit("ggml_graph_n_nodes does not count what was built")

    def lists_nodes(at: int) -> bool:
        for raw, (_, nodes) in zip(raws, graphs, strict=True):
            (pointer,) = struct.unpack_from("<Q", raw, at)
            want = struct.pack(f"<{len(nodes)}Q", *nodes)
            try:
                if peek(pointer, len(want)) != want:
                    return False
            except Unfit:
                return False
        return True

    return {
        "n_nodes": engine.one("n_nodes", slots(raws, counts, 4)),
        "nodes": engine.one("nodes", [at for at in range(0, 128, 8) if lists_nodes(at)]),
    }
