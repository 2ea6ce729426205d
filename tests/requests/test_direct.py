"""Programs that ask an engine by its C interface, timed by themselves."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from profinfer.trace_processor import open_trace
from tests.conftest import REPO
from tests.recording.helpers import record
from tests.requests.served import Request, assert_timed, integer
from tests.requests.t5 import make

PROMPT, ENCODED, PREDICT = 300, 100, 9


def ask(folder: Path, *arguments: object) -> list[tuple[Request, float, float]]:
    """The requests of direct.py, and how long it took to the first token of each and from there to
    the last, in milliseconds."""
    trace = folder / "t.pftrace"
    program = REPO / "tests/requests/direct.py"
    done = record(trace, ["--level", "token"], [sys.executable, program, *arguments, PREDICT])
    told = [json.loads(line) for line in done.stdout.splitlines()]
    with open_trace(trace) as session:
        found = session.query(
            "INCLUDE PERFETTO MODULE profinfer.tokens.requests; SELECT * FROM profinfer_request"
        )
        requests = [dict(zip(found.columns, row, strict=True)) for row in found]
    return [
        (request, times["first_ms"], sum(times["steps_ms"]))
        for request, times in zip(requests, told, strict=True)
    ]


def assert_told(timed: list[tuple[Request, float, float]], prompt: int) -> None:
    """All tokens, when they came."""
    for request, _, _ in timed:
        counts = ("kind", "certain", "complete", "prompt_tokens", "tokens", "steps")
        expected = ("request", 1, 1, prompt, PREDICT, PREDICT - 1)
        assert tuple(request[name] for name in counts) == expected
    assert_timed(timed)


def test_logits_of_a_whole_prompt_are_no_decoding(dense: Path, tmp_path: Path) -> None:
    assert_told(ask(tmp_path, dense, "all-logits", PROMPT), PROMPT)


def test_what_is_encoded_belongs_to_what_is_decoded_from_it(tmp_path: Path) -> None:
    model = tmp_path / "t5.gguf"
    make(model)
    timed = ask(tmp_path, model, "encode", ENCODED)
    # Of the decoder's tokens the first is no answer, but what answers begin with.
    assert_told(timed, ENCODED + 1)
    assert all(integer(request["encode_dur"]) > 0 for request, _, _ in timed)
