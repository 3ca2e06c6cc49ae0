"""The files of a benchmark, in its job's folder: the plot, and every run as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from python_mcp_server.context import current_job
from python_mcp_server.model import MB
from python_mcp_server.runner.benchmark import Run
from python_mcp_server.settings import Settings
from python_mcp_server.tools.benchmark_measure import Benchmark
from python_mcp_server.tools.benchmark_plot import Series, picture
from python_mcp_server.tools.benchmark_results import BenchmarkResult
from python_mcp_server.tools.benchmark_turns import seconds
from python_mcp_server.tools.results import ShownPicture

KERNEL: Final = {
    "user_s": ("user_seconds", 1.0),
    "system_s": ("system_seconds", 1.0),
    "minor_faults": ("minor_faults", 1.0),
    "major_faults": ("major_faults", 1.0),
    "voluntary_switches": ("voluntary_switches", 1.0),
    "involuntary_switches": ("involuntary_switches", 1.0),
    "rchar": ("io_read_mb", 1e-6),
    "wchar": ("io_written_mb", 1e-6),
    "read_bytes": ("disk_read_mb", 1e-6),
    "write_bytes": ("disk_written_mb", 1e-6),
    "waited_ns": ("waited_seconds", 1e-9),
}
"""What the launcher writes down, how it is called in the result, and in which unit."""


def add_files(result: BenchmarkResult, benchmark: Benchmark) -> None:
    """Write the plot and every run into the job's folder, and let the result tell of them."""
    job = current_job()
    if job is None:  # the folder of the call is gone by now
        return
    job.keep_record()
    measured = benchmark.measured
    series = [Series("script", measured.script)]
    if measured.other:
        series.append(Series("compare_with", measured.other))
    plot, data = job.folder / "benchmark.png", job.folder / "benchmark.json"
    runs = "1 run" if result["runs"] == 1 else f"{result['runs']} runs"
    _write(plot, picture(series, f"median {seconds(result['wall']['median'])}, {runs}"))
    everything = {
        "script": [_plain(run) for run in measured.script],
        "compare_with": [_plain(run) for run in measured.other],
        "startup": [_plain(run) for run in measured.start],
        "noise": benchmark.noise,
    }
    _write(data, json.dumps(everything, indent=1).encode())
    _show_first(result, plot)
    result["data_path"] = str(data)


def _show_first(result: BenchmarkResult, plot: Path) -> None:
    """Put the plot before the pictures of the script, of which one less is sent where they are many."""
    settings = Settings.from_environ()
    size = plot.stat().st_size
    attached = settings.max_pictures > 0 and size <= settings.max_picture_bytes
    first = ShownPicture(path=str(plot), mime_type="image/png", size_bytes=size, attached=attached)
    result["pictures"] = [first, *result.get("pictures", ())]
    sent = [each for each in result["pictures"] if each["attached"]]
    for each in sent[settings.max_pictures :]:
        each["attached"] = False


def _plain(run: Run) -> dict[str, Any]:
    return {
        "wall_seconds": run.wall_s,
        "cpu_seconds": run.cpu_s,
        "peak_rss_mb": run.peak_bytes / MB,
        "process_peak_rss_mb": run.process_peak_bytes / MB,
        **{
            shown: run.figures[name] * factor
            for name, (shown, factor) in KERNEL.items()
            if name in run.figures
        },
        "course": [[look.at_s, look.rss_bytes / MB, look.cpu_s, look.processes] for look in run.looks],
    }


def _write(path: Path, data: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(data)
