"""What comes of times that were measured with recording on and off in turn."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from bench_turns import Phase, durations, interval, logarithms, ratio, tokens

SECOND = 1_000_000_000


def alternating(count: int) -> list[Phase]:
    return [Phase(i * SECOND, (i + 1) * SECOND, bool(i % 2)) for i in range(count)]


def test_an_interval_holds_the_median_in_95_of_100_cases() -> None:
    draw = np.random.default_rng(18).normal
    for count in (6, 7, 20, 101):
        found = [interval(draw(3, 1, count).tolist()) for _ in range(2000)]
        assert sum(x.low <= 3 <= x.high for x in found) >= 0.94 * len(found)
        assert all(math.isfinite(x.width) for x in found)
    assert 0.3 < interval(draw(3, 1, 100).tolist()).width < 0.8, "and is no wider than that"
    assert math.isinf(interval([1.0] * 5).width)


def test_what_lies_in_a_phase_counts_for_it_alone() -> None:
    ends = np.array([1, 25, 30, 60, 99, 101, 130, 160]) * SECOND // 100
    means = durations(ends[:-1], ends[1:], alternating(2))
    assert means == [pytest.approx(SECOND * (5 + 30 + 39) / 3 / 100), None]


def test_tokens_of_two_requests_are_no_pair() -> None:
    starts, ends = tokens([[1, 2, 4], [10, 15]])
    assert (starts.tolist(), ends.tolist()) == ([1, 2, 10], [2, 4, 15])


@pytest.mark.parametrize("cost", [0.9, 1.0, 1.05])
def test_a_drift_of_the_machine_is_no_cost(cost: float) -> None:
    phases = alternating(60)
    # Each phase is a hundredth slower than the one before.
    means: list[float | None] = [
        1.01**i / (cost if phase.is_on else 1) for i, phase in enumerate(phases)
    ]
    found = ratio(logarithms(means, phases))
    assert [found.middle, found.low, found.high] == pytest.approx([cost] * 3)
    assert all(b > a for a, b in pairwise(m for m in means[::2] if m))
    means[4] = None
    assert len(logarithms(means, phases)) == 19, "what has a gap is left out"
