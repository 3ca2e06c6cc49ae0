"""What `bench` shows and writes, of figures that are made up."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from python_mcp_server.cli.figures import Exports, Report, show, unit_for, warnings
from python_mcp_server.errors import InvalidInput, StoreError
from python_mcp_server.tools.benchmark.contenders import ContendersResult, _figures
from python_mcp_server.tools.benchmark.ranking import headline, standings
from python_mcp_server.tools.results import Noise
from tests.helpers.made_up_runs import runs_of

STEADY = [0.0213 * (1 + 0.01 * (n % 5)) for n in range(20)]
NAME = "a name | of a contender that is far too long for a terminal of eighty columns and that goes on"


def found(**walls: list[float]) -> ContendersResult:
    standing = standings(walls)
    return ContendersResult(
        summary=headline(standing),
        contenders=[_figures(each, runs_of(walls[each.name])) for each in standing],
        warmup_runs=1,
        stopped="certain",
        elapsed_seconds=1.0,
        noise=Noise(noisy=False, reasons=[], other_cpu_percent=1.0, cores=2),
    )


@pytest.fixture
def two() -> ContendersResult:
    return found(**{"fast.py": STEADY, NAME: [2 * wall for wall in STEADY]})


def shown(result: ContendersResult, width: int, encoding: str = "utf-8") -> list[str]:
    out = io.TextIOWrapper(io.BytesIO(), encoding, write_through=True)
    Report(result, {}, Console(file=out, width=width)).show()
    return out.buffer.getvalue().decode(encoding).splitlines()  # type: ignore[attr-defined]


def test_the_table_fits_on_eighty_columns_and_only_names_are_cut(two: ContendersResult) -> None:
    lines = shown(two, 80)
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == [
        "median",
        "[ms]",
        "mean",
        "±",
        "stddev",
        "x",
        "fastest",
        "95",
        "%",
        "interval",
    ]
    assert lines[1].split() == ["fast.py", "21.73", "21.73", "±", "0.31", "1", "fastest"]
    assert lines[2].startswith(NAME[:20])
    assert lines[2].split("…")[1].split() == ["43.45", "43.45", "±", "0.62", "2.00", "2.00", "to", "2.00"]


def test_a_pipe_gets_all_columns_uncut_and_no_control_characters(two: ContendersResult) -> None:
    lines = shown(two, 100_000)
    assert "min … max  CPU [ms]  peak [MB]" in lines[0]
    assert lines[2].startswith(NAME)
    assert lines[4] == f"fast.py is 2.00 times as fast as {NAME} (95 % interval 2.00 to 2.00)."
    assert lines[5] == "20 runs each, in turns, after 1 to warm up: all is known within 1 %."
    assert all(line == line.rstrip() and line.isprintable() for line in lines)


def test_a_stream_without_our_letters_gets_others(two: ContendersResult) -> None:
    text = "\n".join(shown(two, 80, "ascii"))
    assert "21.73 +- 0.31" in text
    assert "?" not in text


def test_the_heading_says_how_certain_an_interval_is() -> None:
    lines = shown(found(a=STEADY[:3], b=[2 * wall for wall in STEADY[:3]]), 80)
    assert lines[0].endswith("x fastest  75 % interval")
    lines = shown(found(a=STEADY[:1], b=[2 * wall for wall in STEADY[:1]]), 80)
    assert [line.split()[-1] for line in lines[1:3]] == ["fastest", "none"]


def test_a_lone_contender_shows_its_range_and_no_ratio() -> None:
    lines = shown(found(alone=STEADY), 80)
    assert lines[0].endswith("min … max  CPU [ms]  peak [MB]")
    assert "fastest" not in "".join(lines)
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("least", "unit"),
    [(12.0, ("s", 2)), (0.5, ("ms", 1)), (2e-5, ("us", 2)), (4e-9, ("ns", 3)), (0.0, ("ns", 3))],
)
def test_the_unit_gives_the_fastest_four_digits(least: float, unit: tuple[str, int]) -> None:
    name, _, digits = unit_for(found(a=[least + 1e-12] * 3)["contenders"])
    assert (name, digits) == unit


def test_doubts_are_said_in_sentences() -> None:
    result = found(a=[0.9, *STEADY], b=[0.1])
    result["noise"] = Noise(noisy=True, reasons=["a reason"], other_cpu_percent=50.0, cores=2)
    first = "the first is one of them, so try a larger --warmup"
    assert warnings(result) == [
        "there are fewer than 6 runs, too few for a 95 % interval; --runs 6 asks for more.",
        f"1 of 21 runs of a took much longer, up to 900 ms (run 1); {first}.",
        "the machine is noisy: a reason.",
    ]


@dataclass
class Ended:
    result: Any


def exported(result: ContendersResult, folder: Path, **files: str) -> int:
    given = {f"export_{form}": None for form in ("json", "csv", "markdown")} | {
        "plot": None,
        "as_json": False,
    }
    return show(Ended(result), {}, Exports.given(given | files))  # type: ignore[arg-type]


def test_files_hold_all_figures_and_can_be_read_back(two: ContendersResult, tmp_path: Path) -> None:
    names = {form: str(tmp_path / form) for form in ("json", "csv", "markdown")}
    assert exported(two, tmp_path, **{f"export_{form}": name for form, name in names.items()}) == 0
    slow = json.loads((tmp_path / "json").read_bytes())["results"][1]
    assert slow["command"] == NAME
    assert slow["times"] == [2 * wall for wall in STEADY]
    assert slow["ratio_low"] <= slow["ratio"] <= slow["ratio_high"]
    assert {"mean", "stddev", "user", "system", "min", "max", "exit_codes"} <= slow.keys()
    with open(names["csv"], newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["command"] for row in rows] == ["fast.py", NAME]
    assert float(rows[1]["ratio"]) == pytest.approx(2)
    assert rows[0]["ratio_low"] == ""
    head, rule, *lines = (tmp_path / "markdown").read_text().splitlines()
    assert {line.replace("\\|", "").count("|") for line in (head, rule, *lines)} == {8}
    assert lines[1].endswith("| 2.00 (2.00 to 2.00) |")


def test_stdout_takes_one_document_and_the_table_moves_to_stderr(
    two: ContendersResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported(two, tmp_path, export_json="-")
    said = capsys.readouterr()
    assert json.loads(said.out)["summary"] in said.err
    with pytest.raises(InvalidInput, match="one document"):
        exported(two, tmp_path, export_json="-", export_csv="-")


def test_a_file_that_cannot_be_there_is_refused_before_or_named_after(
    two: ContendersResult, tmp_path: Path
) -> None:
    for wrong in (str(tmp_path), str(tmp_path / "no" / "file")):
        with pytest.raises(InvalidInput, match="--export-csv is"):
            exported(two, tmp_path, export_csv=wrong)
    with pytest.raises(StoreError, match="cannot be written: File name too long"):
        exported(two, tmp_path, export_csv=str(tmp_path / ("x" * 300)))
