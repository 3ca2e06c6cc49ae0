"""The trend of `scripts/soak`: noise is flat, growth is found."""

from __future__ import annotations

import random

import pytest

from soak_testing.trend import report, trend


def series(growth: float, noise: float = 50.0, peak: float = 0.0) -> list[tuple[float, float]]:
    """An hour of samples around 90,000 kB, one of them with a peak."""
    rng = random.Random(5)
    values = [90_000 + growth * minute + rng.gauss(0, noise) for minute in range(60)]
    values[30] += peak
    return [(float(minute), value) for minute, value in enumerate(values)]


@pytest.mark.parametrize("growth", [0.0, -40.0])
def test_noise_and_shrinking_are_flat(growth: float):
    assert trend(series(growth)).flat


def test_growth_is_found_within_its_interval():
    found = trend(series(40.0))
    assert not found.flat
    assert found.low < 40 < found.high
    assert found.slope == pytest.approx(40, abs=2)


def test_a_single_peak_is_no_growth():
    assert trend(series(0.0, noise=5.0, peak=1e6)).slope == pytest.approx(0, abs=1)


def test_the_warm_up_does_not_count():
    warming = [(float(minute), min(minute, 6) * 1000.0) for minute in range(60)]
    assert trend(warming).slope == 0
    assert trend(warming).flat


def test_growth_below_what_is_allowed_is_flat():
    assert trend(series(5.0, noise=0.0)).flat
    assert not trend(series(15.0, noise=0.0)).flat


def test_too_few_samples_are_refused():
    with pytest.raises(ValueError, match="3 samples after the warm-up are too few"):
        trend([(0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (3.0, 1.0)])


def test_the_report_has_a_line_for_each_series_and_one_verdict():
    table, flat = report({"memory": series(40.0), "threads": series(0.0)}, "minute")
    assert [line.split()[-1] for line in table.splitlines()[1:]] == ["GROWS", "flat"]
    assert not flat
