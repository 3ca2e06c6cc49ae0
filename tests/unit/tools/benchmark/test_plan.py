"""How often a benchmark runs what, and what is told of it: with runs that are made up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import pytest

from python_mcp_server.runner.child import ChildExit
from python_mcp_server.tools.benchmark.measured_run import Run
from python_mcp_server.tools.benchmark.plan import (
    Benchmark,
    Candidates,
    Measured,
    Rounds,
    RunPlan,
    Series,
    lone,
)
from python_mcp_server.tools.benchmark.ranking import seconds
from python_mcp_server.tools.benchmark.statistics import Interval, Machine, assess_noise, timeline, typical
from python_mcp_server.tools.benchmark.tool import report, sentence
from python_mcp_server.tools.results import DependencyResult
from tests.helpers.made_up_runs import run_of

NOISY = (1.0, 1.3, 0.8, 1.1, 0.9)


class Bench:
    """Candidates whose runs are made up, and a clock that only they move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []
        self.told: list[str] = []

    def candidate(self, name: str, runs: Iterator[Run]) -> Callable[[], Run]:
        def run_next() -> Run:
            run = next(runs)
            self.order.append(name)
            self.now += run.wall_s
            return run

        return run_next

    def steady(self, name: str, *walls: float) -> Callable[[], Run]:
        return self.candidate(name, (run_of(wall) for wall in cycle(walls)))

    def take(
        self,
        plan: RunPlan,
        *contenders: Callable[[], Run],
        start: Callable[[], Run] | None = None,
        **more: Any,
    ) -> Measured:
        candidates = Candidates(contenders, start, **more)
        return Rounds(plan, candidates, self.told.append, lambda: self.now).run()


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_steady_runs_are_enough_at_the_first_look(bench: Bench) -> None:
    measured = bench.take(RunPlan(min_runs=10, max_seconds=100), bench.steady("script", 0.100, 0.1001))
    assert (len(measured.script.runs), measured.warmups, measured.stopped) == (10, 1, "certain")


def test_uncertain_runs_go_on_until_the_most_there_may_be(bench: Bench) -> None:
    measured = bench.take(RunPlan(max_runs=30, max_seconds=100), bench.steady("script", *NOISY))
    assert (len(measured.script.runs), measured.stopped) == (30, "max_runs")
    assert bench.told[0] == "warm-up 1 of 1"
    assert bench.told[-1].startswith("run 30 of at most 30: 1.00 s +- 10.0 %")


def test_no_run_begins_after_the_time_is_spent(bench: Bench) -> None:
    measured = bench.take(RunPlan(max_seconds=7), bench.steady("script", *NOISY))
    assert measured.stopped == "max_seconds"
    assert 7 <= bench.now < 8.3


def test_a_long_first_run_counts_where_nobody_asked_for_a_warm_up(bench: Bench) -> None:
    measured = bench.take(RunPlan(max_seconds=10), bench.steady("script", 6.0))
    assert (len(measured.script.runs), measured.warmups) == (2, 0)
    asked = Bench()
    measured = asked.take(RunPlan(warmup=1, max_seconds=10), asked.steady("script", 6.0))
    assert (len(measured.script.runs), measured.warmups) == (1, 1)


@pytest.mark.parametrize("plan", [RunPlan(max_runs=1), RunPlan(warmup=0, max_runs=1)])
def test_one_run_is_one_start(bench: Bench, plan: RunPlan) -> None:
    measured = bench.take(plan, bench.steady("script", 0.1), start=bench.steady("start", 0.01))
    assert bench.order == ["script", "start"]
    assert (measured.stopped, measured.warmups) == ("max_runs", 0)


def test_all_take_turns_and_the_first_one_moves_on(bench: Bench) -> None:
    names = ("script", "other", "start")
    *contenders, start = (bench.steady(name, *NOISY) for name in names)
    measured = bench.take(RunPlan(warmup=0, max_runs=3), *contenders, start=start)
    assert bench.order == [*names, "other", "start", "script", "start", "script", "other"]
    assert len(measured.script.runs) == len(measured.other.runs) == len(measured.start) == 3


def test_a_comparison_goes_on_until_the_ratio_is_certain(bench: Bench) -> None:
    """Both drift by more than a tenth, so neither median is certain, but their ratio is at once."""
    drift = [1 + 0.02 * n for n in range(10)]
    measured = bench.take(
        RunPlan(warmup=0, max_seconds=1000), bench.steady("script", *drift), bench.steady("other", *drift)
    )
    assert (len(measured.script.runs), measured.stopped) == (10, "certain")


def test_several_go_on_until_each_ratio_to_the_fastest_is_certain(bench: Bench) -> None:
    drift = [1 + 0.02 * n for n in range(10)]
    contenders = [bench.steady("a", *drift), bench.steady("b", *[0.5 * each for each in drift])]
    plan = RunPlan(warmup=0, max_seconds=1000, max_runs=20)
    measured = bench.take(plan, *contenders, bench.steady("c", *drift), names=("a", "b", "c"))
    assert (len(measured.script.runs), measured.stopped) == (10, "certain")
    assert bench.told[2] == "run 3 of at most 20: a 1.01 s +- 1.0 %, b 505 ms +- 1.0 %, c 1.01 s +- 1.0 %"
    measured = bench.take(plan, *contenders, bench.steady("d", *NOISY))
    assert (len(measured.script.runs), measured.stopped) == (20, "max_runs")


def test_the_failure_of_any_of_equals_ends_it(bench: Bench) -> None:
    other = bench.candidate("other", iter([run_of(0.1), run_of(0.1, exit_code=1)]))
    contenders = (bench.steady("script", 0.1), other, bench.steady("third", 0.1))
    measured = bench.take(RunPlan(warmup=0), *contenders, names=("a", "b", "c"))
    assert (measured.stopped, measured.script.failed) == ("failed", None)
    assert measured.other.failed
    assert [len(series.runs) for series in measured.series] == [1, 1, 1]


def test_a_failing_run_ends_it_and_does_not_count(bench: Bench) -> None:
    runs = iter([run_of(0.1), run_of(0.1), run_of(0.2, exit_code=3)])
    measured = bench.take(RunPlan(), bench.candidate("script", runs), bench.steady("other", 1.0))
    assert measured.stopped == "failed"
    assert measured.script.failed
    assert measured.script.failed.ending.exit_code == 3
    assert measured.script.walls == [0.1]


def test_the_other_one_is_not_run_again_after_it_failed(bench: Bench) -> None:
    other = bench.candidate("other", iter([run_of(0.1), run_of(0.1, exit_code=1)]))
    measured = bench.take(RunPlan(max_runs=5), bench.steady("script", 0.1), other)
    assert measured.other.failed
    assert len(measured.script.runs) == 5
    assert bench.order.count("other") == 2


def test_the_end_of_the_calls_time_in_the_other_one_ends_all(bench: Bench) -> None:
    other = bench.candidate("other", iter([run_of(0.1, exit_code=-9, timed_out=True)]))
    measured = bench.take(RunPlan(), bench.steady("script", 0.1), other)
    assert bench.order == ["script", "other"]
    assert (measured.stopped, measured.script.failed, len(measured.script.runs)) == ("timed_out", None, 1)


def test_a_time_limit_that_comes_before_the_first_run_is_told_as_such() -> None:
    benchmark = Benchmark(RunPlan(), 0.05, lone(None))
    benchmark.never_started(ChildExit(-9, 0.0, timed_out=True))
    ended = DependencyResult(
        stdout="", stderr="the time limit came [TIMEOUT]", exit_code=-9, elapsed_seconds=0.0, timed_out=True,
        execution_strategy="uv-run", resolved_dependencies=[], python_version_used="3.11",
    )  # fmt: skip
    result = report(ended, benchmark)
    assert (result["stopped"], result["runs"], result["wall_time_seconds"]) == ("timed_out", 1, 0.0)
    assert result["summary"].endswith("The time limit of the call ended it.")


def test_outliers_that_a_result_has_no_room_for_are_counted() -> None:
    benchmark = Benchmark(RunPlan(), 0.05, lone(None))
    benchmark.measured = Measured([Series([run_of(wall) for wall in (*[1.0] * 60, *[9.0] * 12)])])
    ended = DependencyResult(
        stdout="", stderr="", exit_code=0, elapsed_seconds=1.0,
        execution_strategy="uv-run", resolved_dependencies=[], python_version_used="3.11",
    )  # fmt: skip
    result = report(ended, benchmark)
    assert [each["run"] for each in result["outliers"]] == list(range(61, 71))
    assert result.get("outliers_left_out") == 2


@pytest.mark.parametrize(
    ("ratio", "interval", "said"),
    [
        (1.83, Interval(1.79, 1.88, 0.95), "1.83x faster than compare_with, 95 % interval 1.79 to 1.88"),
        (0.5, Interval(0.4, 0.625, 0.95), "2.00x slower than compare_with, 95 % interval 1.60 to 2.50"),
        (1.02, Interval(0.97, 1.07, 0.95), "no difference was found: the other takes 1.02 times as long"),
        (1.5, Interval(1.1, 2.0, 0.5), "1.50x faster than compare_with, 50 % interval 1.10 to 2.00"),
        (123.4, Interval(99.5, 1234.0, 0.95), "123x faster than compare_with, 95 % interval 99.5 to 1234"),
        (1.5, None, "1.50x faster than compare_with in a single turn"),
    ],
)
def test_a_comparison_is_a_plain_sentence(ratio: float, interval: Interval | None, said: str) -> None:
    assert sentence(ratio, interval).startswith(said)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (123.4, "123 s"),
        (1.5, "1.50 s"),
        (0.0213, "21.3 ms"),
        (0.999, "999 ms"),
        (4e-5, "40.0 us"),
        (2.5e-8, "25 ns"),
    ],
)
def test_durations_are_told_with_three_digits(value: float, text: str) -> None:
    assert seconds(value) == text


def test_a_course_has_equal_steps_and_ends_with_what_the_kernel_says() -> None:
    moments = timeline(run_of(2.0), 5)
    assert [moment.at_s for moment in moments] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
    assert [moment.rss_bytes for moment in moments] == [n * 1_000_000 for n in (1, 3, 5, 7, 9)]
    assert sum(moment.cpu_percent for moment in moments) / 5 == pytest.approx(50)
    blind = Run(ChildExit(0, 1.0), 0.3, 0.2, 7_000_000, (), {}, accounted=True)
    assert [(m.at_s, m.rss_bytes, m.cpu_percent) for m in timeline(blind, 5)] == [(1.0, 7_000_000, 50.0)]
    assert typical([run_of(wall) for wall in (5.0, 1.1, 1.0)]).wall_s == 1.1


def test_a_quiet_machine_is_not_called_noisy_and_a_busy_one_is() -> None:
    before = Machine(0.0, 10.0, 0.0, 1.0, load=0.5)
    cores = assess_noise(before, before, [run_of(1.0)])["cores"]
    quiet = assess_noise(before, Machine(10.0, 20.0, 0.0, 10.9, None), [run_of(1.0)] * 5)
    assert quiet == {
        "noisy": False, "reasons": [], "other_cpu_percent": round(1 / cores, 1),
        "load_average": 0.5, "cores": cores,
    }  # fmt: skip
    runs = [run_of(wall, waited_s=0.4) for wall in NOISY]
    noisy = assess_noise(before, Machine(10.0, 10.0 + 9 * cores, 0.5 * cores, 1.0 + cores, None), runs)
    assert noisy["reasons"] == [
        f"other processes used 80 % of the CPU time of the {cores} cores",
        "other virtual machines took 5 % of the CPU time",
        "the script waited 40 % of its time for a free core",
        "the middle half of the runs is spread over 20 % of the median",
    ]
