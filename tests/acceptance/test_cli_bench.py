"""`bench`: a real command line with real contenders."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from python_mcp_server import processes
from python_mcp_server.jobs.manager import JobManager
from tests.helpers import environment, python
from tests.helpers.command_line import command
from tests.helpers.waiting import eventually

BENCH = ("-m", "python_mcp_server", "bench")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slow.py").write_text("import sys, time\ntime.sleep(0.2 if len(sys.argv) < 2 else 0.3)\n")
    (tmp_path / "fast.py").write_text("print('nobody reads this')\n")
    return tmp_path


def test_contenders_are_compared_shown_written_and_drawn(here: Path) -> None:
    told = subprocess.run(
        [sys.executable, *BENCH, "slow.py", "slow.py x", "fast.py", "--runs", "3", "--name", "the slow one",
         "--quiet", "--export-json", "all.json", "--plot", "plot.png"],
        cwd=here, env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (told.returncode, told.stderr) == (0, "")
    lines = told.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[1:4]] == ["the slow one", "slow.py x", "fast.py"]
    assert lines[5].startswith("fast.py is the fastest of 3: ")
    assert told.stdout.replace("\n", "").isprintable()
    document = json.loads((here / "all.json").read_bytes())
    assert [len(each["times"]) for each in document["results"]] == [3, 3, 3]
    assert [each["command"] for each in document["results"]] == ["the slow one", "slow.py x", "fast.py"]
    assert min(document["results"][1]["times"]) > 0.3
    with Image.open(here / "plot.png") as image:
        image.verify()
    jobs, _ = JobManager().blocking.list()
    assert [(job.tool, job.label, job.status) for job in jobs] == [
        ("bench", "the slow one, slow.py x, fast.py", "completed")
    ]


def test_snippets_run_in_loops_and_json_is_all_that_stdout_gets() -> None:
    told = command(
        "bench", "-s", "x = [3, 1, 2]", "-c", "sorted(x)", "--snippet", "x[0]", "-r", "3", "--json"
    )
    document = json.loads(told.stdout)
    first, second = document["results"]
    assert (first["command"], second["command"]) == ("sorted(x)", "x[0]")
    assert second["loops"] > first["loops"] > 1
    assert first["ratio"] > second["ratio"] == 1
    assert document["summary"].startswith("x[0] is ")


def test_a_pipe_is_told_on_stderr_which_round_runs() -> None:
    told = command("bench", "slow.py", "-r", "2", "--json")
    assert json.loads(told.stdout)["results"][0]["command"] == "slow.py"
    assert re.match(r"(warm-up 1 of 1|run [12] of at most 2)\n", told.stderr)


def test_arguments_after_two_dashes_are_those_of_every_contender(here: Path) -> None:
    (here / "show.py").write_text("import sys\nopen('seen', 'a').write(f'{sys.argv[1:]}\\n')\n")
    told = command("bench", "show.py own", "-m", "show", "-r", "1", "-w", "0", "--", "--runs", "--", "-c")
    assert told.returncode == 0, told.stderr
    seen = (here / "seen").read_text().splitlines()
    assert seen == ["['own', '--runs', '--', '-c']", "['--runs', '--', '-c']"]


def test_a_contender_that_fails_ends_it_with_its_last_words(here: Path) -> None:
    (here / "bad.py").write_text("raise SystemExit('not today')\n")
    told = command("bench", "fast.py", "bad.py", "--quiet", "--export-json", "all.json")
    assert told.returncode == 1
    assert (
        told.stderr
        == "python-mcp-server: bad.py ended with exit code 1, which ended the benchmark\n  not today\n"
    )


@pytest.mark.parametrize(
    ("words", "right"),
    [
        ((), "nothing to measure"),
        (("no.py",), "SCRIPT is 'no.py'"),
        (("fast.py 'x",), "No closing quotation"),
        (("-c", "1", "--", "x"), "arguments after --"),
        (("fast.py", "-s", "1"), "--setup is for snippets"),
        (("fast.py", "-n", "a", "-n", "b"), "2 names"),
        (("fast.py", "--max-runs", "0"), "--max-runs is 0"),
        (("fast.py", "--plot", "a.gif"), ".png, .svg or .pdf"),
        (("fast.py", "--export-csv", "no/a.csv"), "--export-csv is 'no/a.csv'"),
        (("fast.py", "--json", "--export-csv", "-"), "one document"),
        (("fast.py", "--nice", "77"), "--nice is 77"),
        (("-c", "1", "--runs", "99999999999"), "--runs is 99999999999; it must be a whole number from 1 to"),
        (("-c", "1", "--max-seconds", "inf"), "--max-seconds is inf"),
        (("-c", ""), "--snippet is ''"),
        (("-c", "1", "-n", "\x1b"), "--name is '\\x1b'"),
        (("-c", "1", "--plot", ""), "--plot is ''"),
        (("-c", "1", "--with", "?"), "'?' is no requirement"),
        (("-c", "# /// script\n# dependencies = 1\n# ///"), "it must list texts"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(words: tuple[str, ...], right: str, home: Path) -> None:
    told = command("bench", *words)
    assert (told.returncode, told.stdout) == (2, "")
    assert right in told.stderr.splitlines()[-1]
    assert not home.exists()


def test_ctrl_c_leaves_neither_a_process_nor_a_table(here: Path) -> None:
    (here / "long.py").write_text(
        "import os, time\nopen('pid', 'w').write(f'{os.getpid()} {os.getppid()} ')\ntime.sleep(120)\n"
    )
    with python(*BENCH, "fast.py", "long.py") as process:
        pids = eventually(lambda: Path("pid").read_text() if os.path.exists("pid") else "").split()
        family = [processes.identify(int(pid)) for pid in pids]
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=60)
    assert (process.returncode, out) == (128 + signal.SIGINT, "")
    assert "Traceback" not in said
    assert not any(member is None or processes.is_alive(member) for member in family)
    assert JobManager().blocking.list()[0][0].status == "cancelled"
