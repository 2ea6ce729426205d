"""What an engine's structures look like: plain data, checked whenever it is read back.

Nothing here is computed; `profinfer.describing.describe` finds the values by experiment. The JSON
comes from a process that ran a stranger's code, or from a file, so `from_json` believes nothing.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from profinfer.errors import ProbeError

#: Raised with every change of these classes, so that an old cache is not misread.
FORMAT = 1

DESCRIBED = "described"

MAX_JSON = 1 << 20
_MAX_STRUCT = 4096
_MAX_LIST = 1024
_MAX_NOTES = 64
_NAME = re.compile(r"[\x21-\x7e]{1,64}")


@dataclass(frozen=True)
class TensorLayout:
    """Byte offsets in `struct ggml_tensor`; None where the library has no such field.

    `ne` and `nb` are 4 x 8 bytes, `op_params` is `op_params_size` bytes, `src` is `max_src`
    pointers, `name` is `name_size` bytes with its NUL; `size` is that of the whole struct.
    """

    type: int
    ne: int
    nb: int
    op: int
    op_params: int
    op_params_size: int
    src: int
    max_src: int
    data: int
    name: int
    name_size: int
    size: int
    flags: int | None = None
    view_src: int | None = None
    view_offs: int | None = None
    buffer: int | None = None


@dataclass(frozen=True)
class CgraphLayout:
    """Byte offsets in `struct ggml_cgraph`: `n_nodes` (int32), `nodes` (pointer to `n_nodes`
    tensor pointers), and `uid` (uint64, a new value whenever a scheduler splits a graph anew)."""

    n_nodes: int
    nodes: int
    uid: int | None = None


@dataclass(frozen=True)
class BackendLayout:
    """Byte offsets in `struct ggml_backend`: `guid` (pointer to 16 bytes), the functions
    `get_name` and `graph_compute`, and `device`; `cpu_guid` is the CPU's 16 bytes in hex."""

    guid: int | None = None
    get_name: int | None = None
    graph_compute: int | None = None
    device: int | None = None
    cpu_guid: str | None = None


@dataclass(frozen=True)
class UbatchLayout:
    """Byte offsets in `llama_ubatch`, which argument `arg` (from 0) of `process_ubatch` points to.

    Counts are uint32: `n_tokens`, `n_seq_tokens` (tokens per sequence set), `n_seqs` (sequence
    sets), `n_seqs_unq` (different sequences). The others point to `n_tokens` entries: `pos`,
    `token` and `n_seq_id` int32, `seq_id` pointers to int32, `output` int8.
    """

    arg: int
    n_tokens: int
    pos: int
    seq_id: int
    n_seq_tokens: int | None = None
    n_seqs: int | None = None
    n_seqs_unq: int | None = None
    n_seq_id: int | None = None
    output: int | None = None
    token: int | None = None


@dataclass(frozen=True)
class TypeInfo:
    """A tensor type: `block_size` elements take `type_size` bytes."""

    name: str
    block_size: int
    type_size: int


@dataclass(frozen=True)
class Layout:
    """All of it for one engine; `ops`, `unary_ops`, `glu_ops` and `types` are indexed by the
    engine's own enum values (`types` has None where a value is not in use), and `notes` says
    what could not be found and why. `source`: "described", by the engine itself, or "inferred: "
    and from what."""

    tensor: TensorLayout
    cgraph: CgraphLayout
    backend: BackendLayout | None
    ubatch: UbatchLayout | None
    ops: tuple[str, ...]
    unary_ops: tuple[str, ...]
    glu_ops: tuple[str, ...]
    types: tuple[TypeInfo | None, ...]
    version: str | None
    notes: tuple[str, ...]
    source: str = DESCRIBED

    def to_json(self) -> str:
        """One line of JSON that `from_json` turns into an equal Layout."""
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Layout:
        """The Layout of that JSON. ProbeError when it is not one, down to overlapping fields."""
        if len(text) > MAX_JSON:
            _refuse("too long")
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            _refuse("not JSON")
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            _refuse("another format")
        return cls.from_dict(data)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Layout:
        """The Layout of untrusted parsed JSON; unknown keys are ignored. ProbeError as above."""
        layout = cls(
            tensor=_required(TensorLayout, data.get("tensor"), "ggml_tensor"),
            cgraph=_required(CgraphLayout, data.get("cgraph"), "ggml_cgraph"),
            backend=_offsets(BackendLayout, data.get("backend"), "ggml_backend"),
            ubatch=_offsets(UbatchLayout, data.get("ubatch"), "llama_ubatch"),
            ops=_names(data.get("ops"), "ops"),
            unary_ops=_names(data.get("unary_ops"), "unary_ops"),
            glu_ops=_names(data.get("glu_ops"), "glu_ops"),
            types=tuple(_type_info(item) for item in _list(data.get("types"), "types")),
            version=None if data.get("version") is None else clean(data["version"], 128),
            notes=tuple(clean(n, 400) for n in _list(data.get("notes"), "notes")[:_MAX_NOTES]),
            source=clean(data.get("source", DESCRIBED), 200),
        )
        _check_tensor(layout.tensor)
        if "MUL_MAT" not in layout.ops or not any(layout.types):
            _refuse("no names of operators or types")
        return layout


def clean(value: object, limit: int) -> str:
    """Printable ASCII of untrusted text, at most `limit` characters: safe on a terminal."""
    if not isinstance(value, str):
        _refuse("a text is not a text")
    return "".join(c if " " <= c <= "~" else "?" for c in value[:limit])


def printable(name: str) -> str:
    """A name as it is, where no character of it could do anything to a terminal; else clean."""
    return name if name.isprintable() else clean(name, len(name))


def _refuse(reason: str) -> NoReturn:
    raise ProbeError(f"the layout data is not usable: {reason}")


_T = TypeVar("_T", TensorLayout, CgraphLayout, BackendLayout, UbatchLayout)
# The handlers read 8 bytes of `op_params` and 32 of `name`, which must not be of what lies behind.
_LIMITS = {
    "arg": (1, 2), "max_src": (1, 64), "op_params_size": (8, _MAX_STRUCT), "name_size": (32, 1024),
    "size": (64, _MAX_STRUCT),
}  # fmt: skip


def _required(kind: type[_T], value: object, what: str) -> _T:
    found = _offsets(kind, value, what)
    if found is None:
        _refuse(f"no {what}")
    return found


def _offsets(kind: type[_T], value: object, what: str) -> _T | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        _refuse(f"{what} is not an object")
    found: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        item = value.get(field.name)
        if item is None and field.default is None:
            found[field.name] = None
        elif field.name == "cpu_guid":
            if not isinstance(item, str) or not re.fullmatch("[0-9a-f]{32}", item):
                _refuse(f"{what}.cpu_guid is not 16 bytes")
            found[field.name] = item
        else:
            found[field.name] = _integer(
                item, *_LIMITS.get(field.name, (0, _MAX_STRUCT)), f"{what}.{field.name}"
            )
    return kind(**found)


def _integer(value: object, low: int, high: int, what: str) -> int:
    if type(value) is not int or not low <= value <= high:
        _refuse(f"{what} not found" if value is None else f"{what} is out of range")
    return value


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > _MAX_LIST:
        _refuse(f"{what} is not a list of at most {_MAX_LIST}")
    return value


def _names(value: object, what: str) -> tuple[str, ...]:
    names = _list(value, what)
    if not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
        _refuse(f"{what} holds something that is no name")
    return tuple(names)


def _type_info(value: object) -> TypeInfo | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        _refuse("a type is not an object")
    return TypeInfo(
        _names([value.get("name")], "a type")[0],
        _integer(value.get("block_size"), 1, 1 << 16, "a block size"),
        _integer(value.get("type_size"), 1, 1 << 16, "a type size"),
    )


def _check_tensor(t: TensorLayout) -> None:
    """Fields lie inside the struct, aligned as C aligns them, and do not overlap."""
    fields = [
        (t.type, 4, 4), (t.ne, 32, 8), (t.nb, 32, 8), (t.op, 4, 4), (t.src, 8 * t.max_src, 8),
        (t.op_params, t.op_params_size, 4), (t.data, 8, 8), (t.name, t.name_size, 1),
        (t.flags, 4, 4), (t.view_src, 8, 8), (t.view_offs, 8, 8), (t.buffer, 8, 8),
    ]  # fmt: skip
    end = 0
    for offset, size, alignment in sorted((o, s, a) for o, s, a in fields if o is not None):
        if offset < end or offset % alignment:
            _refuse(f"fields of ggml_tensor overlap at {offset}")
        end = offset + size
    if end > t.size:
        _refuse("fields of ggml_tensor lie outside it")
