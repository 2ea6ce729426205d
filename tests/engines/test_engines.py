"""Engines that people run, recorded from outside with the default options: whole traces, as many
operators and barriers as a second tracer counts, and tokens and speed as the engines tell them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.engines.built import static
from tests.engines.engine import Engine
from tests.engines.measure import Measured, measure, record
from tests.engines.model import make_model
from tests.engines.packages import PACKAGES
from tests.recording.counter import counting
from tests.support import require_recording


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "wide.gguf")


ENGINES: dict[str, Callable[[Path], Engine]] = {
    **{make.__name__: make for make in PACKAGES},
    "static": partial(static, "gcc-static-pie", "stripped"),
}


@pytest.fixture(scope="module", params=ENGINES)
def measured(
    request: pytest.FixtureRequest, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Measured]:
    """Each engine, once for all tests."""
    require_recording()
    engine = ENGINES[request.param](model)
    with counting(engine.places) as counter:
        found = measure(engine, tmp_path_factory.mktemp("measured") / "t.pftrace", counter)
    yield found
    found.close()


def test_the_trace_is_whole(measured: Measured) -> None:
    assert measured.losses() == []
    assert ", 0 lost (" in measured.said


def test_each_process_has_what_a_second_tracer_counts(measured: Measured) -> None:
    assert measured.truth
    assert measured.counts() == measured.truth


def test_tokens_are_the_engines_own(measured: Measured) -> None:
    if measured.own is None:
        assert "level token is left out" in measured.said
        return
    prompt, decode, _ = measured.request()
    assert (prompt, decode) == (measured.own.prompt, measured.own.decode)


def test_speed_is_the_engines_own(measured: Measured, tmp_path: Path) -> None:
    if measured.own is None:
        return
    *_, milliseconds = measured.request()
    wanted = measured.own.decode_ms
    for attempt in range(2):
        if milliseconds == pytest.approx(wanted, rel=0.02):
            break
        # Whoever shares the machine may take it between a step and the engine's clock.
        again = record(measured.engine, tmp_path / f"{attempt}.pftrace")
        *_, milliseconds = again.request()
        again.close()
        assert again.own
        wanted = again.own.decode_ms
    assert milliseconds == pytest.approx(wanted, rel=0.02)
