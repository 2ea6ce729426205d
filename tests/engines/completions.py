"""What llama-cpp-python says of its completions, and what a trace of it says. `make test-engines`,
which builds it, runs this."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from profinfer.trace_processor import Session, Value, open_trace
from tests.conftest import REPO
from tests.engines.built import llama_cpp_python_folder
from tests.engines.measure import recording
from tests.engines.model import make_model
from tests.recording.helpers import number
from tests.requests.served import near
from tests.sql.harness import ready
from tests.support import require_recording

CACHED = {"again": 19, "longer": 20, "restored": 40}
"""By name: tokens that need not be computed anew, of one that begins as another did."""
_REQUESTS = """
INCLUDE PERFETTO MODULE profinfer.tokens.requests;
SELECT r.*, (
  SELECT sum(s.dur) FROM slice AS s
  WHERE s.category = 'call' AND s.name = 'decode'
  AND s.ts BETWEEN r.first_token_ts AND r.ts + r.dur
) AS steps_dur
FROM profinfer_request AS r"""


class Asked:
    """One recording, with the default options."""

    def __init__(self, folder: Path) -> None:
        trace = folder / "t.pftrace"
        done = recording(
            trace, sys.executable, REPO / "tests/engines/llama_cpp_python/complete.py",
            llama_cpp_python_folder("newer"), make_model(folder / "wide.gguf"),
        )  # fmt: skip
        self.told: list[dict[str, Any]] = list(map(json.loads, done.stdout.splitlines()))
        self.session: Session = open_trace(trace)
        found = self.session.query(_REQUESTS)
        self.requests = [dict(zip(found.columns, row, strict=True)) for row in found]

    def pairs(self) -> Iterator[tuple[dict[str, Any], dict[str, Value]]]:
        """What was asked, and the only request meanwhile."""
        for told in self.told:
            [request] = [
                row for row in self.requests if told["begin"] <= number(row["ts"]) < told["end"]
            ]
            yield told, request


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    require_recording()
    found = Asked(tmp_path_factory.mktemp("completions"))
    with found.session:
        yield found


def test_each_completion_is_one_request_of_as_many_tokens(asked: Asked) -> None:
    for told, request in asked.pairs():
        # What was computed one by one it counts together, a prompt with one new token as well.
        is_one = told["prompt_ms"] == 0
        prompt, steps = (1, told["decode"] - 1) if is_one else (told["prompt"], told["decode"])
        is_embedded = told["name"].startswith("embedded")
        steps = 0 if is_embedded else steps
        expected = {
            "kind": "request", "certain": 1, "complete": 1, "prompt_tokens": prompt,
            "cached_tokens": CACHED.get(told["name"], 0), "steps": steps,
            "tokens": None if is_embedded else 1 + steps,
        }  # fmt: skip
        assert {name: request[name] for name in expected} == expected, told
        assert (request["ttft"] is None) == is_embedded
    assert len(asked.requests) == len(asked.told)


def test_each_took_as_long_as_it_says(asked: Asked) -> None:
    """Once at least: who gets the CPU between its look at a clock and ours makes them differ."""
    # Without a time for its prompt the prompt's token is among the others.
    pairs = [(told, request) for told, request in asked.pairs() if told["prompt_ms"]]
    prefills = [(number(row["prefill_dur"]) / 1e6, told["prompt_ms"]) for told, row in pairs]
    assert any(ours == near(expected) for ours, expected in prefills), prefills
    steps = [
        (number(row["steps_dur"]) / 1e6, told["decode_ms"]) for told, row in pairs if row["steps"]
    ]
    assert any(ours == near(expected) for ours, expected in steps), steps


def test_its_contexts_come_and_go(asked: Asked) -> None:
    sql = "SELECT name, count() FROM slice WHERE category = 'call' AND name IN {} GROUP BY 1"
    found = asked.session.query(sql.format(("create", "free"))).rows()
    assert found == [("create", 3), ("free", 3)]


def test_its_embeddings_have_a_reason_to_have_no_first_token(asked: Asked) -> None:
    gaps = ready(asked.session, "requests")["What cannot be told, and why"]
    [gap] = [row for row in gaps if row["requests"] is not None]
    assert "an embedding" in str(gap["reason"])
    assert gap["requests"] == 2
