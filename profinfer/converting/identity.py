"""What an operator is, whatever it is called.

The engine's own names ("ffn_gate-3") say where in a model an operator stands. Those of the library
("node_152", "leaf_7") say the how manieth of its graph it is: another graph has another operator of
that name. So an operator is told by its op, its layer and the weights or caches that it takes; one
without any by the engine's name for it, or by what it is results from. Batch and context are no
part of it: the same operator of a model is the same at any of their sizes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence, Set
from dataclasses import dataclass

_COPY = re.compile(r"^[^#]+#(.+)#\d+$")
"""What a scheduler calls a tensor that it copied to another backend: "CUDA0#l_out-3#0"."""
_GENERATED = re.compile(r"(node|leaf)_\d+|tensor 0x[0-9a-f]+|")
_LAYER = re.compile(r"^blk\.(\d+)\.|^[^ ]*-(\d+)(?: |$)|^cache_\w+_l(\d+)(?: |$)")
_ADAPTER = re.compile(r"\.lora_[ab]$")
_ADDS = {"ADD", "ADD1", "ADD_ID"}
_INHERITED: set[str | None] = {"attention", "ffn", "experts"}
_MODULES = tuple(
    (module, re.compile(pattern))
    for module, pattern in (
        ("experts", r"ffn_moe_|ffn_\w+_exps\b|ffn_gate_inp\b|exp_probs_b\b"),
        ("output", r"result_|output\b|output_norm\b"),
        ("embedding", r"token_embd\b|inp_embd\b|inp_scaled\b|position_embd\b|token_types\b"),
        ("attention", r"[QKV]cur\b|kqv?\b|kqv?_|attn_|post_attention_norm\b|cache_[kv]_"),
        ("ffn", r"ffn_(?!inp\b)|post_ffw_norm\b"),
    )
)
"""By the beginning of a weight's name in its layer, or of the engine's name for a result."""


@dataclass(frozen=True)
class Identity:
    """What a tensor, or the operator that computes it, is."""

    key: int
    """The same for the same operator of the same model, and for nothing else. 63 bits."""
    label: str
    """Name for people: the engine's own, else that of the weight or of what it is results from."""
    is_named: bool
    """Whether that is the engine's own name for it."""
    layer: int | None
    module: str | None
    """attention, ffn, experts, embedding, output or adapter; None where that is not certain."""
    home: str | None
    """The same, were it not for an adapter: the module that the adapter adapts."""
    read_as: int
    """`key`; of what an adapter is added to, that of what it is without."""
    anchor: int = 0
    """Key of a weight or cache that it hangs on: models are told apart by these. 0: none."""
    is_data: bool = False
    is_held: bool = False
    """Data that stays from graph to graph: a weight or cache, not an input."""
    is_sum: bool = False
    """The sum of two results: the residual, which the next layer reads."""
    is_delta: bool = False
    """What an adapter adds, before it is added."""


@dataclass(frozen=True)
class Source:
    """An operand: what it is, and whether it is taken whole, not by a view."""

    identity: Identity
    is_whole: bool


def layer_of(name: str) -> int | None:
    """The layer number in a tensor's name ("ffn_out-3", "blk.3.ffn_up.weight"), or None."""
    match = _LAYER.search(name)
    return int(next(g for g in match.groups() if g)) if match else None


def own_name(name: str) -> str:
    """The name that the engine gave, or ''."""
    copied = _COPY.match(name)
    text = (copied[1] if copied else name).split(" (")[0]
    return "" if _GENERATED.fullmatch(text) else text


def of_data(name: str, shape: str, content: bytes, *, is_held: bool) -> Identity:
    """A weight, cache, input or constant. `content` tells those that stay from one another."""
    own = own_name(name)
    label = own or (f"{name} {shape}" if is_held else name)
    key = _hash("data", own, content if is_held else b"")
    module = _module(own)
    is_anchor = is_held and not _ADAPTER.search(own)
    return Identity(
        key, _short(label), bool(own), layer_of(own), module, module, key,
        key if is_anchor else 0, is_data=True, is_held=is_held,
    )  # fmt: skip


def of_view(name: str, base: Identity) -> Identity:
    """A part or another shape of `base`: it is that, unless the engine calls it otherwise."""
    own = own_name(name)
    if not own or own == base.label:
        return base
    layer = layer_of(own)
    return Identity(
        _hash("view", own, base.key), own, is_named=True,
        layer=base.layer if layer is None else layer, module=_module(own) or base.module,
        home=_module(own) or base.home, read_as=_hash("view", own, base.read_as),
        anchor=base.anchor, is_data=base.is_data,
        is_held=base.is_held, is_sum=base.is_sum, is_delta=base.is_delta,
    )  # fmt: skip


def of_operator(name: str, op: str, sources: Sequence[Source]) -> Identity:
    """A tensor that is results."""
    own = own_name(name)
    held = [s for s in sources if s.identity.is_held]
    weights = [s.identity for s in held]
    inputs = [s.identity for s in sources if s.identity.is_data and not s.identity.is_held]
    results = [s.identity for s in sources if not s.identity.is_data]
    # An adapter changes neither what it is added to nor who reads that.
    bases = [r for r in results if not r.is_delta]
    is_addition = op in _ADDS and not held
    adapts = is_addition and 0 < len(bases) < len(results)
    is_delta = any(_ADAPTER.search(w.label) for w in weights) or (not bases and bool(results))
    homes = {r.home for r in (bases or results)} | ({None} if is_addition and inputs else set())
    home = _home(own, op, weights, homes)
    is_sum = is_addition and not adapts and (len(homes) > 1 or None in homes)
    layer = layer_of(own)
    # A sum to which the engine gives a name without a layer may be in none.
    if layer is None and not (own and is_sum):
        layer = _layer(weights, results)
    anchor = next((a.anchor for a in (*weights, *results) if a.anchor), 0)
    traits = _traits(op, own, held, inputs, results, anchor)
    key = _hash(op, -1 if layer is None else layer, *traits)
    return Identity(
        key,
        own or _borrowed(held, inputs, results) or name,
        bool(own),
        layer,
        "adapter" if adapts or is_delta else home,
        home,
        bases[0].read_as if adapts else key,
        anchor,
        is_sum=is_sum,
        is_delta=is_delta,
    )


def _traits(
    op: str, own: str, held: Sequence[Source], inputs: Sequence[Identity],
    results: Sequence[Identity], anchor: int,
) -> list[object]:  # fmt: skip
    """By what an operator is told from others with its op and layer."""
    traits: list[object] = [s.identity.key for s in held]
    if any(s.identity.layer is not None for s in held):
        return traits
    # An embedding may be looked up for several inputs.
    traits += [i.label for i in inputs if i.is_named]
    if op.startswith("MUL_MAT") and any(s.is_whole for s in held):
        return traits
    # Weights without a layer may be everybody's, as frequencies are.
    if own:
        return [*traits, own, anchor, *(c.label for c in results)]
    return traits + [c.read_as for c in results]


def _layer(held: Sequence[Identity], results: Sequence[Identity]) -> int | None:
    """The layer of what takes these."""
    layers = [h.layer for h in held if h.layer is not None]
    if not layers and not any(h.is_named for h in held):
        # Of a sum nobody knows which layer reads it.
        layers = [r.layer for r in results if r.layer is not None and not r.is_sum]
    return max(layers, default=None)


def _home(own: str, op: str, held: Sequence[Identity], results: Set[str | None]) -> str | None:
    modules = [h.home for h in held if h.home]
    if modules:
        # Where the output layer's weights are the embedding's.
        is_output = (
            modules[0] == "embedding" and op == "MUL_MAT" and not held[0].label.count("lora")
        )
        return "output" if is_output else modules[0]
    module = _module(own)
    if module:
        return module
    if op in ("FLASH_ATTN_EXT", "MUL_MAT_ID"):
        return "attention" if op == "FLASH_ATTN_EXT" else "experts"
    return next(iter(results)) if len(results) == 1 and results <= _INHERITED else None


def _module(own: str) -> str | None:
    text = re.sub(r"^blk\.\d+\.", "", own)
    return next((module for module, pattern in _MODULES if pattern.match(text)), None)


def _borrowed(
    held: Sequence[Source], inputs: Sequence[Identity], results: Sequence[Identity]
) -> str:
    """A name for what has none of its own."""
    weights = [s.identity for s in held if s.is_whole]
    return next((i.label for i in (*weights, *results, *inputs)), "")


def _short(name: str) -> str:
    """A weight's name without saying that it is one: "blk.3.attn_q.lora_a"."""
    return re.sub(r"\.weight(?=$|\.)", "", name)


def _hash(*parts: object) -> int:
    digest = hashlib.blake2b(repr(parts).encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
