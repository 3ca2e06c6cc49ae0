"""What a benchmark found, in sentences: the part of the result that is read first."""

from __future__ import annotations

from typing import Final

from python_mcp_server.tools.benchmark_results import BenchmarkResult
from python_mcp_server.tools.benchmark_turns import Measured, seconds

_FEW: Final = 6
"""Fewer runs give no interval with 95 %."""


def summary(result: BenchmarkResult, measured: Measured) -> str:
    """Return the figures that matter, the comparison, and what speaks against trusting them."""
    sentences = [_figures(result), *_ending(result, measured)]
    if "comparison" in result:
        sentences.append(f"Beside compare_with: {result['comparison']['sentence']}.")
    if result["noise"]["noisy"]:
        quickest = f"the quickest run took {seconds(result['wall']['min'])}"
        sentences.append(f"Noisy machine: {'; '.join([*result['noise']['reasons'], quickest])}.")
    return " ".join(sentences)


def _figures(result: BenchmarkResult) -> str:
    wall, runs = result["wall"], result["runs"]
    text = (
        f"{seconds(wall['median'])} over {runs} runs" if runs > 1 else f"{seconds(wall['median'])} in one run"
    )
    if "confidence" in wall:
        low, high = seconds(wall.get("median_low", 0.0)), seconds(wall.get("median_high", 0.0))
        text += f" (median; {100 * wall['confidence']:.0f} % interval {low} to {high})"
    if "startup_seconds" in result:
        text += f", {seconds(result['startup_seconds'])} of it the interpreter's own start"
    cpu = seconds(result["cpu_time_seconds"])
    return f"{text}; CPU {cpu}, peak memory {result['peak_rss_mb']:.4g} MB."


def _ending(result: BenchmarkResult, measured: Measured) -> list[str]:
    if measured.stopped == "timed_out":
        return ["The time limit of the call ended it."]
    if measured.failed is not None:
        return [f"It was stopped by a run that ended with exit code {measured.failed.ending.exit_code}."]
    if measured.stopped == "max_seconds" and result["runs"] < _FEW:
        return ["max_seconds allowed so few runs."]
    return []
