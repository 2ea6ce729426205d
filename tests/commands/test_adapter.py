"""An engine that nobody knows is recorded at every level with a file that says what it is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from profinfer.trace_processor import Session, open_trace
from tests.commands.command import REPO, TIMEOUT, Ran, fails, profinfer, written

pytestmark = pytest.mark.usefixtures("root")

_ADAPTER = """
family: toy
marks: [toy_decode]
work: [toy_decode]
levels:
  token:
    - records: decode
      functions:
        - {0}
"""
_DECODE = "toy_decode: {context: 1, tokens: 3, position: 4}"


@pytest.fixture(scope="module")
def toy(engine_without_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program."""
    built = tmp_path_factory.mktemp("toy") / "toy"
    where = [f"-L{engine_without_llama}", "-lknown", f"-Wl,-rpath,{engine_without_llama}"]
    source = REPO / "tests/double/toy.c"
    flags = ("-std=gnu11", "-O2", "-DWITHOUT_LLAMA")
    subprocess.run(["gcc", *flags, source, "-o", built, *where], check=True, timeout=TIMEOUT)
    return built


def _record(cwd: Path, *args: object) -> Ran:
    options = ("--scheduler", "off", "--adapter", "toy.yaml", "-o", "t.pftrace")
    return profinfer("record", *options, *args, cwd=cwd)


def _ask(session: Session, sql: str) -> list[tuple[object, ...]]:
    for module in ("graphs.runs", "tokens.requests", "recording.metadata"):
        session.query(f"INCLUDE PERFETTO MODULE profinfer.{module}")
    return [tuple(row) for row in session.query(sql)]


def test_its_requests_and_tokens_are_counted(toy: Path, tmp_path: Path) -> None:
    written(tmp_path / "toy.yaml", _ADAPTER.format(_DECODE))
    ran = _record(tmp_path, "--strict", "--level", "barrier", "--", toy, 9, 5, 5)
    assert ran.code == 0, ran.err
    assert json.loads(ran.out) == {"calls": 6, "tokens": 14}
    with open_trace(tmp_path / "t.pftrace", trace_processor="wasm") as session:
        ubatches = _ask(
            session,
            "SELECT phase, count(), sum(tokens), count(DISTINCT context)"
            " FROM profinfer_ubatch GROUP BY phase ORDER BY phase",
        )
        assert ubatches == [("decode", 5, 5, 1), ("prefill", 1, 9, 1)]
        requests = _ask(
            session,
            "SELECT prompt_tokens, verified_tokens, ttft > 0, complete FROM profinfer_request",
        )
        assert requests == [(9, 5, 1, 1)]
        graphs = "SELECT count(DISTINCT ubatch_id), count() FROM profinfer_graph"
        assert _ask(session, f"{graphs} WHERE backend = 'CPU'") == [(6, 6)]


def test_without_the_file_its_tokens_are_left_out(toy: Path, tmp_path: Path) -> None:
    """What is known of its files with an adapter does not stay without."""
    ran = profinfer("record", "--scheduler", "off", "--", toy, 2, 1, 5, cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert "level token is left out" in ran.err


def test_a_function_that_is_never_called_is_replaced(toy: Path, tmp_path: Path) -> None:
    alternatives = f"toy_decode_batch: {{context: 1, tokens: 2}}\n        - {_DECODE}"
    written(tmp_path / "toy.yaml", _ADAPTER.format(alternatives))
    said = "toy_decode_batch is not called, so toy_decode is probed"
    ran = _record(tmp_path, "--level", "operator", "--", toy, 2, 3000, 60)
    assert ran.code == 0, ran.err
    assert "has not called toy_decode_batch once" in ran.err
    assert said in ran.err
    calls = json.loads(ran.out)["calls"]
    with open_trace(tmp_path / "t.pftrace", trace_processor="wasm") as session:
        ((steps, unknown),) = _ask(
            session,
            "SELECT count(), (SELECT count() FROM profinfer_graph WHERE ubatch_id IS NULL)"
            " FROM profinfer_ubatch",
        )
        assert isinstance(steps, int)
        assert isinstance(unknown, int)
        assert steps > 100
        # From then on each is seen; the one that is under way when its probe comes is not.
        assert steps + unknown in (calls, calls + 1)
        notes = "SELECT value FROM profinfer_recording WHERE key GLOB 'notes*'"
        assert any(said in str(note) for (note,) in _ask(session, notes))
        assert _ask(session, "SELECT 1 FROM profinfer_recording WHERE key = 'silent'") == []


def test_doctor_and_plan_know_it_by_that(
    toy: Path, engine_without_llama: Path, tmp_path: Path
) -> None:
    written(tmp_path / "toy.yaml", _ADAPTER.format(_DECODE))
    files = (toy, engine_without_llama / "libknown.so", "--adapter", "toy.yaml")
    for command in (("plan", "--target"), ("doctor",)):
        ran = profinfer(*command, *files, cwd=tmp_path)
        assert ran.code == 0, ran.err
        assert "toy_decode" in ran.out
        assert "not available" not in ran.out
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["steps"][0]["name"] == "decode"
    assert plan["steps"][0]["tokens"] == 3


@pytest.mark.parametrize("command", ["record", "plan", "doctor"])
def test_a_wrong_file_is_a_usage_error(command: str, tmp_path: Path) -> None:
    written(tmp_path / "wrong.yaml", "family: x\nmarks: [toy_decode]\nlevel: {}\n")
    rest = {"record": ("--pid", 1), "plan": ("--target", "x"), "doctor": ()}[command]
    ran = profinfer(command, "--adapter", "wrong.yaml", *rest, cwd=tmp_path)
    fails(ran, 2, "wrong.yaml", "'level'")
    assert "did you mean 'levels'?" in ran.err
