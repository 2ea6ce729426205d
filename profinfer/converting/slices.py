"""What a timeline is made of: graphs, ubatches, operator slices. Times are BOOTTIME ns."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from profinfer.converting.structure import Structure
from profinfer.records.columns import I64, Mask
from profinfer.records.dtypes import Records

INF = np.iinfo(np.int64).max
"""The end of what has not ended."""

BARRIER_COUNTS = 8
"""Barriers per operator that are told apart; more are counted as this many less one."""


@dataclass(frozen=True)
class Columns:
    """Per node of a structure, in order of address: what its slices carry."""

    name: npt.NDArray[np.uint32]
    tensor: npt.NDArray[np.uint32]
    op: npt.NDArray[np.int64]
    """A small number per op name, below -1 where the tensor's record was lost."""
    keep: Mask
    """False when the operator filter excludes it."""
    fused_first: I64
    """The node it was last seen fused with, -1 for none, and `fused_tensor`: what the slices of
    the two carry. Filled in as they are met."""
    fused_tensor: npt.NDArray[np.uint32]


@dataclass(eq=False)
class Graph:
    """One graph_compute call. Times in BOOTTIME ns."""

    id: int
    thread: int
    begin: int
    end: int
    """INF while it runs."""
    backend: int
    structure: Structure | None
    lane: int = 0
    """The track of its backend."""
    workers: dict[int, int] = field(default_factory=dict)
    """Thread index to the start of its first operator in this graph."""
    barriers: I64 = field(default_factory=lambda: np.zeros((0, BARRIER_COUNTS), np.int64))
    """Operators between others, by op and number of barriers."""


@dataclass(eq=False)
class Ubatch:
    """One process_ubatch call, or another step of an engine; `runs` are rows of TOKEN_RUN."""

    id: int
    thread: int
    begin: int
    end: int
    tokens: int
    context: int
    runs: Records
    step: int = 0
    """One more than its number in the plan's steps; 0 for process_ubatch."""
    graph_type: int | None = None
    """What process_ubatch was told of its graph (llm_graph_type: 1 an encoder's, 2 a decoder's);
    None where it is not told, or no process_ubatch."""


@dataclass(eq=False)
class Call:
    """One call of the engine's own interface. Times in BOOTTIME ns."""

    name: str
    """What it does, as its adapter says."""
    thread: int
    begin: int
    end: int
    """`begin` of one that is told when it begins, until more is known (calls.py)."""
    arguments: dict[str, int]
    """By role."""
    result: int | None
    """None where the adapter does not say of what kind it is."""
    told: int = 0
    """When it is known to have ended."""
    is_part: bool = False
    """What a step does beside computing: nobody asked the engine for it."""

    def __post_init__(self) -> None:
        self.told = self.told or self.end


@dataclass
class Operators:
    """Finished operator slices, one row per operator and thread."""

    thread: I64
    begin: I64
    end: I64
    name: npt.NDArray[np.uint32]
    tensor: npt.NDArray[np.uint32]
    incomplete: Mask
    """A record of it may have been lost: its end or its name is not certain."""

    def take(self, rows: I64) -> Operators:
        """Some of the rows."""
        return Operators(*(column.take(rows) for column in vars(self).values()))


@dataclass
class Chunk:
    """What became known with one chunk of records, in order of time within each list."""

    operators: Operators
    open_operators: Operators
    """Only when recording has ended: slices whose end was not seen."""
    waits: tuple[I64, I64, I64]
    """Thread, begin, end of the wait at the barrier after an operator."""
    inside: tuple[I64, I64]
    """Thread and time of barriers inside operators."""
    graphs_begun: list[Graph]
    graphs_ended: list[Graph]
    workers: list[tuple[Graph, int, int]]
    """Graph, thread index and time at which a worker thread began to work on it."""
    ubatches_begun: list[Ubatch]
    ubatches_ended: list[Ubatch]
    calls: list[Call] = field(default_factory=list)
    """Those that ended, by when that is known."""
    parts: list[Call] = field(default_factory=list)
    """Likewise."""
