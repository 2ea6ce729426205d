"""How ggml's structs have looked: known_layouts.json, which tools/known_layouts.py makes of its
history."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from profinfer.describing.layout import BackendLayout, CgraphLayout, TensorLayout


@dataclass(frozen=True)
class Known:
    """From one day of ggml's history to another."""

    since: str
    until: str
    tensor: TensorLayout
    cgraph: CgraphLayout
    cgraph_size: int
    """Bytes of the struct: an array of nodes that is made with a graph stands right behind it."""
    backend: BackendLayout | None


@cache
def known_layouts() -> tuple[Known, ...]:
    """All of them, the oldest first."""
    text = (Path(__file__).with_name("known_layouts.json")).read_text()
    return tuple(known_of(item) for item in json.loads(text))


def known_of(item: dict[str, Any]) -> Known:
    """One of the file's objects. ValueError when it is none that a struct could have: where fields
    overlap each other, or what else is in the struct."""
    tensor, cgraph, backend = item["tensor"], item["cgraph"], item["backend"]
    sizes = {"ne": 32, "nb": 32, "src": 8 * tensor["max_src"], "name": tensor["name_size"],
             "op_params": tensor["op_params_size"], "type": 4, "op": 4, "flags": 4}  # fmt: skip
    _check(tensor, sizes, ("size", "rest", "op_params_size", "name_size", "max_src"))
    _check(cgraph, {"n_nodes": 4}, ("size", "rest"))
    if backend:
        _check(backend, {}, ("size", "rest"))
    return Known(
        item["since"], item["until"],
        TensorLayout(**{name: value for name, value in tensor.items() if name != "rest"}),
        CgraphLayout(cgraph["n_nodes"], cgraph["nodes"], cgraph.get("uid")), cgraph["size"],
        BackendLayout(guid=backend["guid"], get_name=backend["get_name"]) if backend else None,
    )  # fmt: skip


def _check(struct: dict[str, Any], sizes: dict[str, int], others: tuple[str, ...]) -> None:
    """Fields take eight bytes unless `sizes` says otherwise; `others` are no fields."""
    places = [(at, sizes.get(name, 8)) for name, at in struct.items() if name not in others]
    end = 0
    for at, size in sorted([*places, *map(tuple, struct["rest"])]):
        if at < end:
            raise ValueError(f"fields overlap at {at}")
        end = at + size
    if end > struct["size"]:
        raise ValueError("a field lies outside its struct")
