"""One recording per way to run a server; a test asks for the one that holds its situation."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.requests.served import Round, Served, make_dense, prompt
from tests.support import require_recording

Folders = pytest.TempPathFactory

TIMES = 3
"""So often all but who leaves is asked."""


def slots_rounds(time: int) -> list[Round]:
    """One after another and side by side, of prompts of this time's own."""
    first = 10 * time
    return [
        *(
            [{"name": f"cached {number}", "prompt": prompt(4, first), "n_predict": 1,
              "cache_prompt": True, "id_slot": 0}]
            for number in range(3)
        ),
        *(
            [{"name": f"cached long {number}", "prompt": prompt(15, first + 1), "n_predict": 16,
              "cache_prompt": True, "id_slot": 1}]
            for number in range(3)
        ),
        *(
            [{"name": f"before {slot}", "prompt": prompt(2, first + slot), "n_predict": 2,
              "id_slot": slot}]
            for slot in range(3)
        ),
        [{"name": "several", "prompt": prompt(15, first + 2), "n_predict": 8, "n_cmpl": 3,
          "temperature": 1.0, "seed": 1}],
        [{"name": "short", "prompt": prompt(2, first), "n_predict": 120, "id_slot": 3},
         {"name": "first long", "prompt": prompt(400, first + 3), "n_predict": 16, "id_slot": 2,
          "at": 0.2},
         {"name": "second long", "prompt": prompt(400, first + 4), "n_predict": 16, "id_slot": 1,
          "at": 0.4}],
    ]  # fmt: skip


SLOTS = [each for time in range(TIMES) for each in slots_rounds(time)]
LEAVING: list[Round] = [
    [{"name": "leaves", "prompt": prompt(1900), "n_predict": 4, "leave": 0.3, "id_slot": 0}],
    *([[{"name": "next", "prompt": prompt(20, 1), "n_predict": 8, "id_slot": 0}]] * TIMES),
]
DRAFTS: list[Round] = [
    [{"name": name, "prompt": prompt(12, variant), "n_predict": 32, "temperature": heat, "seed": 1}]
    for name, variant, heat in (("cold", 0, 0), ("warm", 1, 0.1), ("hot", 2, 1.5))
] * TIMES
GRAMMAR: list[Round] = [
    [{"name": "free", "prompt": "The steam engine", "n_predict": 8}],
    [{"name": "grammar", "prompt": "The steam engine", "n_predict": 8,
      "grammar": "root ::= [x-z ]+"}],
] * TIMES  # fmt: skip
"""What the model would say is hardly ever what it may: then each token it knows is looked at."""
LONG: list[Round] = [[{"name": "long", "prompt": prompt(200), "n_predict": 100}]] * TIMES
"""Past the end of its context, after which the server forgets half of it and goes on."""

EMBEDDED: Round = [{"name": "embedded", "path": "/v1/embeddings", "input": "the cat sat on it"}]
RANKED: Round = [{"name": "ranked", "path": "/v1/rerank", "query": "what is a panda", "documents": [
    "the panda is a bear", "it is a bear that eats bamboo", "hi"]}]  # fmt: skip
SEVERAL: Round = [
    {"name": "several", "path": "/v1/embeddings", "input": ["one two three", "the dog " * 9, "x"]}
]
RANKS = [EMBEDDED, RANKED, SEVERAL, EMBEDDED, [*RANKED, *SEVERAL]]


@pytest.fixture(scope="session")
def dense(tmp_path_factory: Folders) -> Path:
    """The model that is served."""
    require_recording()
    return make_dense(tmp_path_factory.mktemp("dense"))


def _served(
    model: Path, folders: Folders, rounds: list[Round], *options: Any,
    record_options: Sequence[object] = ("--level", "token"),
) -> Iterator[Served]:  # fmt: skip
    folder = folders.mktemp("served")
    served = Served(model, folder, rounds, *options, record_options=record_options)
    with served.session:
        yield served


@pytest.fixture(scope="session")
def slots(dense: Path, tmp_path_factory: Folders) -> Iterator[Served]:
    """Four slots, one after another and side by side."""
    yield from _served(
        dense, tmp_path_factory, SLOTS, "--set", "n_ubatch=128", "--set", "warmup=true"
    )


@pytest.fixture(scope="session")
def leaving(dense: Path, tmp_path_factory: Folders) -> Iterator[Served]:
    """A client that goes away while its prompt is read in small batches."""
    yield from _served(
        dense,
        tmp_path_factory,
        LEAVING,
        "--slots",
        1,
        "--set",
        "n_batch=64",
        "--set",
        "n_ubatch=16",
    )


@pytest.fixture(scope="session")
def drafts(dense: Path, tmp_path_factory: Folders) -> Iterator[Served]:
    """Speculation with a draft model that is the target itself."""
    yield from _served(dense, tmp_path_factory, DRAFTS, "--draft", dense)


@pytest.fixture(scope="session")
def shifted(dense: Path, tmp_path_factory: Folders) -> Iterator[Served]:
    """An answer longer than its context; with the graphs that shift it."""
    settings = ("--slots", 1, "--context", 256, "--set", "ctx_shift=true")
    yield from _served(
        dense, tmp_path_factory, LONG, *settings, record_options=("--level", "graph")
    )


@pytest.fixture(scope="session")
def ranking(dense: Path, tmp_path_factory: Folders) -> Iterator[Served]:
    """Embeddings and ranks; with weights like these any model has some. Computed by twice as many
    threads as there are CPUs, whose turns are recorded."""
    options = ("--threads", 2 * len(os.sched_getaffinity(0)), "--set", "embedding=true",
               "--set", "pooling_type=4")  # fmt: skip
    yield from _served(
        dense, tmp_path_factory, RANKS, *options,
        record_options=("--level", "barrier", "--scheduler", "target"),
    )  # fmt: skip


@pytest.fixture(scope="session")
def constrained(gemma: Path, tmp_path_factory: Folders) -> Iterator[Served]:
    """A model that knows many tokens, and a grammar; with all that may hinder it."""
    require_recording()
    yield from _served(
        gemma, tmp_path_factory, GRAMMAR, "--slots", 1,
        record_options=("--level", "barrier", "--scheduler", "target", "--faults"),
    )  # fmt: skip
