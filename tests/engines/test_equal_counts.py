"""Recording stubs, probed stubs and direct probes count the same, and what a second tracer does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.engines.engine import Engine, functions
from tests.engines.measure import ENVIRONMENT, TIMEOUT, Measured
from tests.engines.model import make_model
from tests.engines.packages import node_llama_cpp, xllamacpp
from tests.recording.counter import Counter, counting
from tests.support import Engine as Double
from tests.support import double_fixture, first_line

__all__ = ["double_fixture"]

WAYS = ("recording", "stub", "direct")
PROFINFER = (sys.executable, "-m", "profinfer")
RECORD = (*PROFINFER, "record", "--level", "barrier", "--scheduler", "off", "--force")
VIA = """
INCLUDE PERFETTO MODULE profinfer.recording.handlers;
SELECT DISTINCT via FROM profinfer_handler
WHERE handler IN ('on_operator', 'on_fused', 'on_barrier') AND hits > 0"""


@dataclass(frozen=True)
class Case:
    """An engine, and the same that computes when it is given a line."""

    engine: Engine
    waits: tuple[str, ...]
    line: str = "go"


@pytest.fixture(scope="module")
def cases(double: Double, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    model = make_model(tmp_path_factory.mktemp("model") / "wide.gguf")
    schedule = ("--threads", "3", "--layers", "3", "--decode", "20", "--work-us", "5")
    known = Engine(
        "known", "", "", "", (double.program(), *schedule), functions([double.library]), None
    )
    python, node = xllamacpp(model), node_llama_cpp(model)
    python = replace(python, command=(*python.command[:3], "--context", "512", "--prompt", "x",
                                      "--predict", "5"))  # fmt: skip
    return {
        "known": Case(known, (*known.command, "--wait", "0")),
        "xllamacpp": Case(
            python, (*python.command, "--serve"), '{"prompt": "xxxxxxx", "predict": 5}'
        ),
        "node-llama-cpp": Case(node, (*node.command, "wait")),
    }


@pytest.fixture(scope="module")
def counter(cases: dict[str, Case]) -> Iterator[Counter]:
    with counting([place for case in cases.values() for place in case.engine.places]) as found:
        yield found


def launched(case: Case, way: str, trace: Path, counter: Counter) -> dict[int, dict[str, int]]:
    """Records the engine's command; what the second tracer has counted meanwhile."""
    before = set(counter.totals())
    command = [*RECORD, "--probes", way, "-o", str(trace), "--", *case.engine.command]
    done = subprocess.run(
        command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False, timeout=TIMEOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {pid: found for pid, found in counter.totals().items() if pid not in before}


def attached(case: Case, way: str, trace: Path, counter: Counter) -> dict[int, dict[str, int]]:
    """Records it by its PID."""
    line = subprocess.run([*PROFINFER, "env"], env=ENVIRONMENT, capture_output=True, text=True,
                          check=True).stdout.strip()  # fmt: skip
    command = ("env", line, "sh", "-c", 'exec "$@" 2>&1', "sh", *case.waits)
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        try:
            assert any(said.startswith("ready") for said in process.stdout)
            before = counter.totals().get(process.pid, {})
            with subprocess.Popen(
                [*RECORD, "--probes", way, "-o", str(trace), "--pid", str(process.pid)],
                env=ENVIRONMENT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            ) as recorder:  # fmt: skip
                assert f"({process.pid}), " in (said := first_line(recorder)), said
                process.communicate(case.line + "\n", timeout=TIMEOUT)
                _, said = recorder.communicate(timeout=TIMEOUT)
                assert recorder.returncode == 0, said
        finally:
            process.kill()
    after = counter.totals()[process.pid]
    return {process.pid: {what: n - before.get(what, 0) for what, n in after.items()}}


Start = Callable[[Case, str, Path, Counter], dict[int, dict[str, int]]]


@pytest.mark.parametrize("start", [launched, attached])
@pytest.mark.parametrize("name", ["known", "xllamacpp", "node-llama-cpp"])
def test_each_way_counts_the_same(
    name: str, start: Start, cases: dict[str, Case], counter: Counter, tmp_path: Path
) -> None:
    case = cases[name]
    found = []
    for way in WAYS:
        trace = tmp_path / f"{way}.pftrace"
        truth = start(case, way, trace, counter)
        measured = Measured(case.engine, trace, "", None)
        counts = measured.counts()
        # What others do with the same files is counted as well.
        assert counts == {pid: truth[pid] for pid in counts}
        assert measured.losses() == []
        assert measured.session.query(VIA).rows() == [(way,)]
        measured.close()
        [only] = counts.values()
        found.append(only)
    assert found[0] == found[1] == found[2]
    assert min(found[0].values()) > 3
