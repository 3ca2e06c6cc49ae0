"""The facts of a plot, and the process that draws it: the same for the tool and the command line.

matplotlib takes 0.9 s of CPU time and 75 MB, so it is loaded in that process only, from the extra `plots`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from python_mcp_server.errors import ToolchainError
from python_mcp_server.model import MB
from python_mcp_server.tools.benchmark.measured_run import Run
from python_mcp_server.tools.benchmark.ranking import Standing, headline, standings
from python_mcp_server.tools.benchmark.statistics import timeline, typical
from python_mcp_server.tools.results import Noise

FORMATS: Final = ("png", "svg", "pdf")
_PROGRAM: Final = Path(__file__).with_name("plot.py")
_STEPS: Final = 200
_LONGEST_S: Final = 60
"""How long drawing may take; guessed: 30 times what it takes on a busy machine."""


def check_drawing() -> None:
    """Raise `ToolchainError` unless plots can be drawn here."""
    if find_spec("matplotlib") is None:
        raise ToolchainError("matplotlib is missing; install python-mcp-server[plots]")


def draw(
    runs: Mapping[str, Sequence[Run]],
    folder: Path,
    *,
    noise: Noise | None = None,
    form: str = "png",
) -> bytes:
    """Return the plot of contenders.

    Args:
        runs: The name of each contender: its runs, at least one; those of a snippet have no course over time.
        folder: Where the process that draws runs.
        noise: What disturbed the runs.
        form: One of `FORMATS`.

    Raises:
        ToolchainError: matplotlib is missing, or cannot draw it; the text says why.
    """
    check_drawing()
    found = standings({name: [run.wall_s for run in each] for name, each in runs.items()})
    facts = {
        "format": form,
        "headline": headline(found),
        "note": f"Noisy machine: {'; '.join(noise['reasons'])}." if noise and noise["noisy"] else "",
        "what": "one loop" if all(_is_loop(each) for each in runs.values()) else "one run",
        "series": [_series(each, runs[each.name], alone=len(found) == 1) for each in found],
    }
    return _drawn(facts, folder)


def _drawn(facts: dict[str, Any], folder: Path) -> bytes:
    # Without the folder of the program in its path, because a module `statistics` lies there.
    command = (sys.executable, "-P", str(_PROGRAM))
    try:
        drawn = subprocess.run(
            command,
            input=json.dumps(facts).encode(),
            capture_output=True,
            cwd=folder,  # matplotlib reads a file of settings in its working directory
            timeout=_LONGEST_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolchainError(f"matplotlib took longer than {_LONGEST_S} s") from error
    if drawn.returncode != 0:
        lines = drawn.stderr.decode("utf-8", errors="replace").strip().splitlines()
        why = lines[-1] if lines else f"its process ended with exit code {drawn.returncode}"
        raise ToolchainError(f"matplotlib failed: {why}")
    return drawn.stdout


def _is_loop(runs: Sequence[Run]) -> bool:
    return "loops" in runs[0].figures


def _series(found: Standing, runs: Sequence[Run], *, alone: bool) -> dict[str, Any]:
    steps = [] if _is_loop(runs) else timeline(typical(runs), _STEPS)
    ends = found.interval
    return {
        "name": found.name,
        "wall_s": [run.wall_s for run in runs],
        "median_s": found.median_s,
        "interval_s": [found.median_s] * 2 if ends is None else [ends.low, ends.high],
        "ratio": "" if alone else found.ratio_words,
        "at_s": [step.at_s for step in steps],
        "rss_mb": [step.rss_bytes / MB for step in steps],
        "cpu_percent": [step.cpu_percent for step in steps],
    }
