"""What a real server was asked, recorded: the engine's own account of each answer, and ours."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import make_dense_gguf
import pytest

from profinfer.trace_processor import Value, open_trace
from tests.conftest import REPO
from tests.recording.helpers import record

SIZE = [
    "--layers", "4", "--embd", "1024", "--ff", "4096", "--heads", "16", "--kv-heads", "4",
    "--vocab", "2000",
]  # fmt: skip
"""Of a model whose caches hold every position, so that a server keeps all of a prompt but its last
token; fast enough for hundreds of tokens, slow enough to be timed."""

Round = list[dict[str, Any]]


def prompt(tokens: int, variant: int = 0) -> list[int]:
    """So many tokens; two variants begin differently."""
    return [300 + (index * 79 + variant * 101) % 1600 for index in range(tokens)]


def make_dense(folder: Path) -> Path:
    """The model."""
    path = folder / "dense.gguf"
    assert make_dense_gguf.main([str(path), *SIZE]) == 0
    return path


@dataclass(frozen=True)
class Answer:
    """One answer as the engine tells of it, and when the client asked and had heard all."""

    slot: int
    sent: int
    ended: int
    cached: int
    prompt: int
    prompt_ms: float
    predicted: int
    predicted_ms: float
    drafted: int
    accepted: int


Request = dict[str, Value]
"""A row of profinfer_request."""


class Served:
    """A recording of tools/serve.py."""

    def __init__(
        self, model: Path, folder: Path, rounds: Sequence[Round], *options: object,
        record_options: Sequence[object] = ("--level", "token"),
    ) -> None:  # fmt: skip
        load = folder / "load.json"
        load.write_text(json.dumps(rounds))
        self.trace = folder / "served.pftrace"
        # One thread: two that wait for each other are no clock where others use the CPUs, too.
        done = record(
            self.trace, record_options,
            [sys.executable, REPO / "tools/serve.py", model, load, "--threads", 1, *options],
            timeout=200,
        )  # fmt: skip
        (folder / "told.json").write_text(done.stdout)
        self.told = [json.loads(line) for line in done.stdout.splitlines() if line[0] == "{"]
        self.session = open_trace(self.trace)
        self.requests = self.rows("profinfer.tokens.requests", "SELECT * FROM profinfer_request")

    def rows(self, module: str, sql: str) -> list[Request]:
        """Rows of a query of one of ProfInfer's modules, by column."""
        result = self.session.query(f"INCLUDE PERFETTO MODULE {module}; {sql}")
        return [dict(zip(result.columns, row, strict=True)) for row in result]

    def asked(self, name: str) -> list[list[Answer]]:
        """Each time that this was asked, what the engine says of the answers."""
        return [
            [
                Answer(
                    found["slot"], told["sent"], told["ended"], found["cache_n"],
                    found["prompt_n"], found["prompt_ms"], found["predicted_n"],
                    found["predicted_ms"], found.get("draft_n", 0),
                    found.get("draft_n_accepted", 0),
                )
                for found in told["answers"]
            ]
            for told in self.told
            if told["name"] == name
        ]  # fmt: skip

    def answers(self, name: str) -> list[Answer]:
        """The same, of what has one answer each time."""
        return [answer for [answer] in self.asked(name)]

    def one(self, name: str) -> Request:
        """The request when it was asked last."""
        return self.request_of(self.answers(name)[-1])

    def request_of(self, answer: Answer) -> Request:
        """The only request in its slot while its client waited."""
        [found] = self.between(answer.slot, answer.sent, answer.ended)
        return found

    def between(self, sequence: int, begin: int, end: int) -> list[Request]:
        """Requests that began in that time."""
        return [
            row
            for row in self.requests
            if row["sequence"] == sequence and begin <= integer(row["ts"]) < end
        ]


def integer(value: Value) -> int:
    """A value that must be one."""
    assert isinstance(value, int), value
    return value


def near(milliseconds: float) -> Any:
    """Within 2 %; and half a millisecond, which is what it takes to put a batch together."""
    return pytest.approx(milliseconds, rel=0.02, abs=0.5)


def assert_as_told(served: Served, answers: Sequence[Answer]) -> None:
    """The trace says of requests what the engine says of them."""
    counts = ("kind", "certain", "complete", "prompt_tokens", "cached_tokens", "tokens")
    requests = [served.request_of(answer) for answer in answers]
    for request, answer in zip(requests, answers, strict=True):
        expected = ("request", 1, 1, answer.prompt, answer.cached, answer.predicted)
        assert tuple(request[name] for name in counts) == expected
    assert_timed(
        [
            (request, answer.prompt_ms, answer.predicted_ms)
            for request, answer in zip(requests, answers, strict=True)
        ]
    )


def assert_timed(timed: Sequence[tuple[Request, float, float]]) -> None:
    """Requests took as long to the first token, and from there to the last, as is said: once
    at least, for who gets the CPU between its look at a clock and ours makes them differ."""
    ttfts = [(integer(request["ttft"]) / 1e6, expected) for request, expected, _ in timed]
    assert any(ours == near(expected) for ours, expected in ttfts), ttfts
    rests = [(rest(request), expected) for request, _, expected in timed]
    assert any(ours == near(expected) for ours, expected in rests), rests


def rest(request: Request) -> float:
    """Milliseconds from the first token to the last."""
    end = integer(request["ts"]) + integer(request["dur"])
    return (end - integer(request["first_token_ts"])) / 1e6
