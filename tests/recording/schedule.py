"""The schedule of tests/double as its README tells it, written down independently of profinfer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

EMBD, FF, VOCAB = 256, 512, 1024
VIEWS = ("VIEW", "RESHAPE")


@dataclass(frozen=True)
class Case:
    """One recording: the level and the engine's options."""

    program: str
    level: str
    threads: int = 2
    layers: int = 3
    prompt: int = 13
    decode: int = 11
    sequences: int = 1
    ubatch: int = 5
    rebuild: int = 7
    work_us: int = 23
    sleep: bool = False
    backend2: bool = False
    no_fused: bool = False
    final_barrier: bool = False
    start_delay: int = 0
    probes: str = "auto"
    """Of the recorder's options."""

    def command(self) -> list[str]:
        """The program and its arguments, with stamps of every node."""
        words = [self.program, "--samples", "1009"]
        for name, value in vars(self).items():
            flag = "--" + name.replace("_", "-")
            if value is True:
                words.append(flag)
            elif name not in ("program", "level", "probes") and value is not False:
                words += [flag, str(value)]
        return words

    def has(self, level: str) -> bool:
        """Whether a level is among those recorded."""
        levels = ("token", "graph", "operator", "barrier")
        return levels.index(level) <= levels.index(self.level)


class Span(NamedTuple):
    """The tokens of one sequence in one ubatch."""

    sequence: int
    position: int
    tokens: int
    outputs: int
    phase: str


def ubatches(case: Case) -> list[list[Span]]:
    """What each ubatch holds: one llama_decode per sequence's prompt, one per decode step."""
    found = []
    for sequence in range(case.sequences if case.prompt else 0):
        for at in range(0, case.prompt, case.ubatch):
            tokens = min(case.ubatch, case.prompt - at)
            last = at + tokens == case.prompt
            found.append([Span(sequence, at, tokens, int(last), "prefill")])
    for step in range(case.decode):
        spans = [Span(s, case.prompt + step, 1, 1, "decode") for s in range(case.sequences)]
        found += [spans[i : i + case.ubatch] for i in range(0, len(spans), case.ubatch)]
    return found


class Node(NamedTuple):
    """A node or a leaf of a graph."""

    name: str
    op: str
    type: str
    ne: tuple[int, int]
    sources: tuple[str, ...] = ()
    layer: int | None = None


def _norm(x: str, weight: str, name: str, il: int, n: int) -> list[Node]:
    # The number in "norm-7" is a layer's, whatever the graph's end makes of it.
    layer = il if name.endswith(f"-{il}") else None
    return [
        Node(f"norm-{il}", "RMS_NORM", "f32", (EMBD, n), (x,), il),
        Node(name, "MUL", "f32", (EMBD, n), (f"norm-{il}", weight), layer),
    ]


def cpu_nodes(layers: int, n: int, kv: int) -> list[Node]:
    """The CPU graph's nodes in order, for `n` tokens and `kv` in the cache."""
    nodes: list[Node] = []
    x = "inp_embd"
    for i in range(layers):

        def node(
            name: str, op: str, ne: tuple[int, int], *sources: str, kind: str = "f32", i: int = i
        ) -> Node:
            return Node(name, op, kind, ne, sources, i)

        k, v = f"cache_k_l{i}", f"cache_v_l{i}"
        blk = f"blk.{i}"
        nodes += [
            *_norm(x, f"{blk}.attn_norm.weight", f"attn_norm-{i}", i, n),
            node(f"Qcur-{i}", "MUL_MAT", (EMBD, n), f"{blk}.attn_q.weight", f"attn_norm-{i}"),
            node(f"Qcur-{i} (reshaped)", "RESHAPE", (EMBD, n), f"Qcur-{i}"),
            node(f"{v} (view)", "VIEW", (EMBD * kv, 1), v, kind="f16"),
            node(f"{v} (view) (reshaped)", "RESHAPE", (kv, EMBD), f"{v} (view)", kind="f16"),
            node(f"{k} (view)", "VIEW", (EMBD * kv, 1), k, kind="f16"),
            node(f"{k} (view) (reshaped)", "RESHAPE", (EMBD, kv), f"{k} (view)", kind="f16"),
            node(f"kq-{i}", "MUL_MAT", (kv, n), f"{k} (view) (reshaped)", f"Qcur-{i} (reshaped)"),
            node(f"kqv-{i}", "MUL_MAT", (EMBD, n), f"{v} (view) (reshaped)", f"kq-{i}"),
            node(f"attn_out-{i}", "MUL_MAT", (EMBD, n), f"{blk}.attn_output.weight", f"kqv-{i}"),
            node(f"ffn_inp-{i}", "ADD", (EMBD, n), f"attn_out-{i}", x),
            *_norm(f"ffn_inp-{i}", f"{blk}.ffn_norm.weight", f"ffn_norm-{i}", i, n),
            node(f"ffn_gate-{i}", "MUL_MAT", (FF, n), f"{blk}.ffn_gate.weight", f"ffn_norm-{i}"),
            node(f"ffn_silu-{i}", "SILU", (FF, n), f"ffn_gate-{i}"),
            node(f"ffn_out-{i}", "MUL_MAT", (EMBD, n), f"{blk}.ffn_down.weight", f"ffn_silu-{i}"),
            node(f"l_out-{i}", "ADD", (EMBD, n), f"ffn_out-{i}", f"ffn_inp-{i}"),
        ]  # fmt: skip
        x = f"l_out-{i}"
    nodes += _norm(x, "output_norm.weight", "result_norm", layers, n)
    nodes.append(
        Node("result_output", "MUL_MAT", "f32", (VOCAB, n), ("output.weight", "result_norm"))
    )
    assert len(nodes) == 18 * layers + 3
    return nodes


def fake_nodes(n: int) -> list[Node]:
    """The nodes of the second backend's graph."""
    return [
        Node("fake_add", "ADD", "f32", (EMBD, n), ("inp_embd", "inp_embd")),
        Node("fake_out", "SILU", "f32", (EMBD, n), ("fake_add",)),
    ]


class Dispatch(NamedTuple):
    """One operator as every thread executes it."""

    name: str
    """Of the node that is written."""
    op: str
    node: int
    """Index of its first node."""
    inside: int
    """Barriers inside it."""


def dispatched(case: Case) -> list[Dispatch]:
    """What each thread executes of one CPU graph, in order."""
    return list(_dispatched(cpu_nodes(case.layers, 1, 1), fuse=not case.no_fused))


def _dispatched(nodes: list[Node], *, fuse: bool) -> Iterator[Dispatch]:
    skip = False
    for i, node in enumerate(nodes):
        if skip or node.op in VIEWS:
            skip = False
        elif fuse and node.op == "RMS_NORM":
            skip = True
            yield Dispatch(nodes[i + 1].name, "RMS_NORM+MUL", i, 0)
        else:
            yield Dispatch(node.name, node.op, i, int(node.op == "MUL_MAT"))
