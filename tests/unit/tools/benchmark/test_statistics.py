"""The statistics of benchmarks, against values that are known and against their own promise."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from python_mcp_server.tools.benchmark.statistics import (
    Interval,
    interval_of_median,
    interval_of_ratio,
    outliers,
    ratio_of_pairs,
    spread,
)


def test_a_spread_is_that_of_the_standard_library() -> None:
    values = [random.Random(1).lognormvariate(0, 1) for _ in range(21)]
    found = spread(values)
    quartiles = statistics.quantiles(values, method="inclusive")
    assert [found["q1"], found["median"], found["q3"]] == pytest.approx(quartiles, abs=1e-6)
    expected = statistics.fmean(values), statistics.stdev(values)
    assert (found["mean"], found["stddev"]) == pytest.approx(expected, abs=1e-6)
    assert (found["min"], found["max"]) == pytest.approx((min(values), max(values)), abs=1e-6)


def test_one_value_is_a_spread_without_width_and_without_an_interval() -> None:
    found = spread([3.0])
    assert found == {"min": 3.0, "q1": 3.0, "median": 3.0, "q3": 3.0, "max": 3.0, "mean": 3.0, "stddev": 0.0}
    assert interval_of_median([3.0]) is None
    assert interval_of_ratio([3.0], [2.0]) is None


@pytest.mark.parametrize(
    ("count", "low", "high", "confidence"),
    [(2, 1, 2, 0.5), (5, 1, 5, 0.9375), (6, 1, 6, 0.95), (10, 2, 9, 0.95), (100, 40, 61, 0.95)],
)
def test_the_interval_of_a_median_is_that_of_the_sign_test(
    count: int, low: float, high: float, confidence: float
) -> None:
    assert interval_of_median([float(n + 1) for n in range(count)]) == Interval(low, high, confidence)


def test_the_signed_ranks_leave_out_as_many_averages_as_the_tables_say() -> None:
    turns = [float(n) for n in range(10)]
    interval = interval_of_ratio([math.exp(turn) for turn in turns], [1.0] * 10)
    averages = sorted((a + b) / 2 for place, a in enumerate(turns) for b in turns[place:])
    assert interval is not None
    assert math.log(interval.low) == pytest.approx(averages[8])  # the critical value for ten pairs is 8
    assert math.log(interval.high) == pytest.approx(averages[-9])


@pytest.mark.parametrize(("runs", "trials"), [(6, 300), (10, 300), (60, 60)])
def test_the_intervals_hold_what_they_are_to_hold_as_often_as_they_say(runs: int, trials: int) -> None:
    dice = random.Random(7)

    def run_time() -> float:  # skewed, and slow now and then
        return dice.lognormvariate(0, 0.02) + dice.expovariate(40) + (dice.random() < 0.07) * 0.5

    middle = statistics.median([run_time() for _ in range(20_000)])
    medians = ratios = 0
    for _ in range(trials):
        ours, theirs = ([factor * run_time() for _ in range(runs)] for factor in (1.0, 1.83))
        median, ratio = interval_of_median(ours), interval_of_ratio(theirs, ours)
        assert median
        assert ratio
        medians += median.low <= middle <= median.high
        ratios += ratio.low <= 1.83 <= ratio.high
    assert medians / trials >= 0.92
    assert ratios / trials >= 0.92


def test_a_ratio_of_turns_does_not_mind_a_machine_that_gets_slower() -> None:
    drift = [1 + 0.1 * turn for turn in range(20)]
    assert ratio_of_pairs([2 * slow for slow in drift], drift) == pytest.approx(2)
    interval = interval_of_ratio([2 * slow for slow in drift], drift)
    assert interval
    assert (interval.low, interval.high) == pytest.approx((2, 2))


def test_outliers_are_named_by_their_place_and_by_how_far_they_are() -> None:
    found = outliers([1.0, 1.1, 1.2, 1.3, 1.7, 9.0, 1.1, 1.2, 0.2])
    assert [(each["run"], each["kind"], each["far"]) for each in found] == [
        (5, "slow", False),
        (6, "slow", True),
        (9, "fast", True),
    ]
    assert outliers([1.0, 1.0, 1.0]) == []
