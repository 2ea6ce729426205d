"""What the real engine's routers choose for given tokens, as its own eval callback sees it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import REPO, require

DECODE = Path(__file__).parent / "decode.py"
VOCABULARY = 1024

Place = tuple[int, int, int, int]
"""Sequence, position, layer, rank."""
Batches = list[list[list[int]]]
"""One list per llama_decode: token, position, sequence."""


def library() -> Path:
    """The engine that the tests record."""
    spec = importlib.util.find_spec("xllamacpp")
    require("the xllamacpp wheel", spec and spec.origin)
    return next(Path(str(spec and spec.origin)).parent.glob("xllamacpp*.so"))


def model(name: str) -> Path:
    """A model that set-up has made."""
    path = REPO / f"build/models/moe-{name}.gguf"
    require(f"the model {path.relative_to(REPO)}", path.is_file())
    return path


def number_tokens(batches: list[list[tuple[int, int]]]) -> Batches:
    """Batches of (position, sequence), with tokens of which there are no two."""
    numbers = iter(range(3, VOCABULARY))
    return [[[next(numbers), *place] for place in batch] for batch in batches]


def command(name: str, batches: Batches, *options: object) -> list[str]:
    """What decodes them."""
    return [
        sys.executable, str(DECODE), str(library()), str(model(name)), json.dumps(batches),
        *map(str, options),
    ]  # fmt: skip


@dataclass
class Truth:
    """What the callback saw."""

    ids: dict[Place, int]
    weights: dict[Place, float]
    readings: list[tuple[int, int, int]]
    """Layer, tokens and experts for each, of each ids tensor and graph in order of execution."""

    def records(self, size: int) -> int:
        """How many records of `size` values it takes."""
        return sum(-(-tokens * used // size) for _, tokens, used in self.readings)


def ask(name: str, batches: Batches, *options: object) -> Truth:
    """Decodes the batches with the callback."""
    done = subprocess.run(
        command(name, batches, "--dump", *options),
        check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.stderr == ""
    places = {token: (sequence, p) for batch in batches for token, p, sequence in batch}
    truth = Truth({}, {}, [])
    for layer, kind, rows, values in _rows(map(json.loads, done.stdout.splitlines())):
        if not values:  # no logits asked for: nothing comes to the last layer
            continue
        if kind == "ids":
            truth.readings.append((layer, len(rows), len(values[0])))
        found: dict[Place, Any] = truth.ids if kind == "ids" else truth.weights
        for token, row in zip(rows, values, strict=True):
            for rank, value in enumerate(row):
                place = (*places[token], layer, rank)
                assert place not in found
                found[place] = value
    return truth


def _rows(lines: Iterator[Any]) -> Iterator[tuple[int, str, list[int], list[Any]]]:
    """Layer, what, the token of each row, and the rows."""
    tokens: list[int] = []
    outputs: list[int] = []
    for line in lines:
        if line.get("input") == "inp_tokens":
            tokens, outputs = line["values"], []
        elif line.get("input") == "out_ids":
            outputs = [tokens[i] for i in line["values"]]
        elif "layer" in line:
            kind = "ids" if "ids" in line else "weights"
            values = line[kind]
            yield line["layer"], kind, tokens if len(values) == len(tokens) else outputs, values
