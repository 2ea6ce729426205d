"""Programs that ask an engine by its C interface, timed by themselves."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from profinfer.trace_processor import open_trace
from tests.conftest import REPO, require
from tests.recorder.test_namespaces import APART
from tests.recording.helpers import record, rows
from tests.requests.direct import TIMES
from tests.requests.served import Request, assert_timed, integer
from tests.requests.t5 import make

PROMPT, ENCODED, PREDICT = 300, 100, 9


def ask(
    folder: Path, *arguments: object, within: Sequence[str] = ()
) -> list[tuple[Request, float, float]]:
    """The requests of direct.py, and how long it took to the first token of each and from there to
    the last, in milliseconds."""
    trace = folder / "t.pftrace"
    program = REPO / "tests/requests/direct.py"
    command = [sys.executable, program, *arguments, PREDICT]
    done = record(trace, ["--level", "token"], command, within=within)
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
    # Each was asked of a context of its own, often where the one before was.
    sql = "SELECT name, count() FROM slice WHERE category = 'call' AND name IN {} GROUP BY 1"
    found = rows(tmp_path / "t.pftrace", sql.format(("create", "free")))
    assert found == [[("create", TIMES + 1), ("free", TIMES)]]


def test_what_is_encoded_belongs_to_what_is_decoded_from_it(tmp_path: Path) -> None:
    """Recorded where processes have numbers of their own."""
    require("unshare (util-linux)", shutil.which("unshare"))
    model = tmp_path / "t5.gguf"
    make(model)
    timed = ask(tmp_path, model, "encode", ENCODED, within=APART)
    # Of the decoder's tokens the first is no answer, but what answers begin with.
    assert_told(timed, ENCODED + 1)
    assert all(integer(request["encode_dur"]) > 0 for request, _, _ in timed)
