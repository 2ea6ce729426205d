"""A real engine without llama.cpp, in Python: its graphs and operators are whole, and as many as a
tracer counts that shares no code with ProfInfer."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from profinfer.binaries.elf import Elf
from tests.conftest import REPO, require
from tests.recording.helpers import BAD_STATS, number, record, rows
from tests.recording.own_probes import LINK, counters

_OPERATORS = ("ggml_cpu_extra_compute_forward", "ggml_compute_forward_rms_norm_mul_fused")
_COUNTED = (*_OPERATORS, "ggml_barrier", "ggml_graph_compute")
_EVERYBODY = 0
"""Of a link: all processes."""

pytestmark = pytest.mark.usefixtures("root")


@pytest.fixture(scope="module")
def root() -> None:
    """Whatever records."""
    require("root and BPF", Path("/sys/kernel/tracing/events").is_dir())


@pytest.fixture(scope="module")
def command() -> list[str]:
    """whisper.cpp hears something."""
    engines = sorted(REPO.glob("build/engines/x86_64/pywhispercpp-*"))
    models = sorted(REPO.glob("build/models/pywhispercpp-*"))
    require("pywhispercpp and its model", engines and models)
    require("Python 3.11, which the wheel is for", sys.version_info[:2] == (3, 11))
    driver = Path(__file__).with_name("hear.py")
    model, speech = models[-1] / "for-tests-ggml-tiny.bin", models[-1] / "jfk.wav"
    return [sys.executable, *map(str, (driver, engines[-1], model, speech))]


def test_it_is_recorded_from_its_first_graph(command: list[str], tmp_path: Path) -> None:
    trace = tmp_path / "t.pftrace"
    library = next(Path(command[2]).glob("pywhispercpp.libs/libggml-cpu-*"))
    elf = Elf(library)
    with counters(LINK) as counted:
        for name in _COUNTED:
            symbol = elf.symbols.get(name)
            if symbol:
                counted.attach(name, library, elf.file_offset(symbol.value), _EVERYBODY)
        done = record(trace, ["--strict", "--level", "barrier"], command)
        truth = counted.runs()
    assert done.stdout.splitlines()[-1] == "0"
    assert "left out" not in done.stderr
    graphs, operators, hits, barriers, bad = rows(
        trace,
        "INCLUDE PERFETTO MODULE profinfer.graphs.runs;"
        "INCLUDE PERFETTO MODULE profinfer.recording.handlers;"
        "INCLUDE PERFETTO MODULE profinfer.operators.runs;"
        "SELECT count(), min(complete) FROM profinfer_graph WHERE backend = 'CPU'",
        "SELECT count(), min(complete) FROM profinfer_operator_slice",
        "SELECT count(DISTINCT op) FROM profinfer_operator",
        "SELECT hits FROM profinfer_handler WHERE handler = 'on_barrier'",
        BAD_STATS,
    )
    assert bad == []
    assert truth["ggml_graph_compute"] >= 4, "three of the encoder, and some of the decoder"
    assert graphs == [(truth["ggml_graph_compute"], 1)]
    assert operators == [(sum(truth.get(name, 0) for name in _OPERATORS), 1)]
    assert number(hits[0][0]) > 5
    assert barriers == [(truth["ggml_barrier"],)]

    _assert_steps(trace, done.stderr)


def _assert_steps(trace: Path, said: str) -> None:
    """As many as the engine says of itself (0 as 1)."""
    timings = {
        what: int(count) for what, count in re.findall(r"(\w+) time = .* / +(\d+) runs", said)
    }
    counted, steps, requests, outside = rows(
        trace,
        "INCLUDE PERFETTO MODULE profinfer.graphs.runs;"
        "INCLUDE PERFETTO MODULE profinfer.tokens.requests;"
        "SELECT sum(phase = 'encode'), sum(tokens = 1),"
        " sum(iif(tokens BETWEEN 2 AND 15, tokens, 0)),"
        " sum(iif(tokens > 15, tokens, 0)) FROM profinfer_ubatch",
        "SELECT phase, count(), sum(tokens), count(DISTINCT context), min(complete)"
        " FROM profinfer_ubatch GROUP BY phase ORDER BY phase",
        "SELECT prompt_tokens, verified_tokens, ttft > 0, complete FROM profinfer_request",
        "SELECT count() FROM profinfer_graph WHERE ubatch_id IS NULL",
    )
    names = ("encode", "decode", "batchd", "prompt")
    assert [max(1, number(count)) for count in counted[0]] == [timings[name] for name in names]
    assert steps == [("decode", 2, 2, 1, 1), ("encode", 1, None, 1, 1), ("prefill", 1, 3, 1, 1)]
    assert requests == [(3, 2, 1, 1)]
    assert outside == [(0,)], "each graph belongs to a step"
