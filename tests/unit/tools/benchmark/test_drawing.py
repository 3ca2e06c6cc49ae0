"""The plot of a benchmark, drawn by the real program."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from python_mcp_server.errors import ToolchainError
from python_mcp_server.tools.benchmark import drawing
from python_mcp_server.tools.benchmark.drawing import draw
from python_mcp_server.tools.results import Noise
from tests.helpers.made_up_runs import runs_of

SPREAD = [1 + 0.01 * (n % 7) for n in range(60)]
ALONE = {"script": runs_of([2e-6])}
FEW = {"script": runs_of([1.0, 2.0]), "compare_with": runs_of([0.02, 0.03])}
MANY = {f"contender {n} with a long $name$": runs_of([n * each for each in SPREAD]) for n in range(1, 10)}
FAR = {"a": runs_of([*SPREAD, 40.0]), "b": runs_of([1.0] * 61)}
NOISY = Noise(noisy=True, reasons=["others were at work " * 9], other_cpu_percent=50.0, cores=2)


@pytest.mark.parametrize("runs", [ALONE, FEW, MANY, FAR], ids=["alone", "few", "many", "far"])
def test_a_plot_shows_any_number_of_runs_and_contenders(runs: dict, tmp_path: Path) -> None:
    with Image.open(io.BytesIO(draw(runs, tmp_path, noise=NOISY))) as image:
        assert image.width == 1280
        assert image.width > image.height or len(runs) > 6
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
        assert len(image.convert("RGB").getcolors(1 << 20) or ()) > 50, "something is drawn"


def test_a_plot_may_be_a_drawing_or_a_page(tmp_path: Path) -> None:
    loops = {name: [replace(run, figures={"loops": 9}) for run in runs] for name, runs in FEW.items()}
    picture = draw(loops, tmp_path, form="svg").decode()
    assert picture.rstrip().endswith("</svg>")
    assert not re.search(r"\bnan\b", picture)
    page = draw(FEW, tmp_path, form="pdf")
    assert page.startswith(b"%PDF")
    assert b"/TrueType" in page or b"/Type0" in page, "letters are letters"


def test_why_there_is_no_plot_is_said_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "plot.py"
    program.write_text("raise SystemExit('no font is there')")
    monkeypatch.setattr(drawing, "_PROGRAM", program)
    with pytest.raises(ToolchainError, match=r"^matplotlib failed: no font is there$"):
        draw(ALONE, tmp_path)
    monkeypatch.setattr(drawing, "find_spec", {}.get)
    with pytest.raises(ToolchainError, match=r"install python-mcp-server\[plots\]"):
        draw(ALONE, tmp_path)
