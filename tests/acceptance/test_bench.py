"""`scripts/bench`, on its cheapest rows: it measures, prints what it found, and always ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from benchmarks.against import Pair
from benchmarks.queue_depth import Depth, out_of_order
from tests.helpers import ROOT, environment, eventually, python, run_python


def bench(home: Path, *arguments: str, program: tuple[str, ...] = ("-m", "benchmarks")):
    path = ":".join(str(ROOT / part) for part in ("src", "scripts", ""))
    env = environment(PYTHONPATH=path, TMPDIR=str(home), HANGING_ROW=str(home))
    return run_python(*program, *arguments, env=env, deadline_s=120)


def test_a_quick_row_prints_the_table_and_leaves_no_file(tmp_path: Path):
    done = bench(tmp_path, "--quick", "progress")
    assert done.returncode == 0, done.stderr
    machine, headings, *lines = done.stdout.splitlines()
    assert machine.startswith("python ")
    assert headings.split() == ["row", "what", "ours", "peer", "ratio", "aim"]
    assert [line.split()[0] for line in lines] == ["progress"] * 3
    assert "report_progress, each" in lines[0]
    assert lines[0].split()[-1] in {"holds", "misses"}
    assert not list(tmp_path.glob("bench-*"))


def test_the_same_row_as_json_carries_its_aim_and_its_verdict(tmp_path: Path):
    done = bench(tmp_path, "--repeats", "1", "--json", "progress")
    assert done.returncode == 0, done.stderr
    each, *_ = json.loads(done.stdout)["figures"]
    assert (each["unit"], each["limit"], each["repeats"]) == ("us", 10.0, 1)
    assert each["verdict"] == ("holds" if each["value"] <= each["limit"] else "misses")


def test_a_row_that_does_not_exist_is_refused_by_name(tmp_path: Path):
    done = bench(tmp_path, "nope")
    assert done.returncode == 2
    assert "'nope' is no row; there are noop, " in done.stderr


def test_a_checkout_beside_itself_is_measured_in_turns_and_is_not_slower(tmp_path: Path):
    done = bench(tmp_path, "--against", "HEAD", "--quick", "--turns", "2", "progress")
    headings, *lines = done.stdout.splitlines()
    assert headings.split() == ["row", "what", "here", "HEAD", "ratio", "interval"]
    assert [line.split()[0] for line in lines] == ["progress"] * 3
    slower = any(line.endswith("slower") for line in lines)  # on a machine this noisy it may be
    assert (done.returncode, "slower:" in done.stderr) == (int(slower), slower)
    assert not list(tmp_path.glob("bench-*"))


def test_the_depth_of_a_queue_is_measured_and_its_order_checked(tmp_path: Path):
    done = bench(tmp_path, "FileJobStore", "12", "6", program=("-m", "benchmarks.queue_depth"))
    assert done.returncode == 0, done.stderr
    depth = Depth(**json.loads(done.stdout))
    assert len(depth.submit_s) == 12
    assert depth.next_start_s
    assert depth.out_of_order == 0


def test_a_job_that_passes_over_a_slotful_of_others_is_out_of_order():
    promised = {name: float(place) for place, name in enumerate("abcdefgh")}
    assert out_of_order(list("bcdaef"), promised) == 0
    assert out_of_order(list("eabcd"), promised) == 1
    assert out_of_order(list("hgfe"), promised) == 4


@pytest.mark.skipif(os.name != "posix", reason="SIGTERM is a signal of POSIX")
def test_a_comparison_that_is_ended_leaves_no_process_and_no_file(tmp_path: Path):
    path = ":".join(str(ROOT / part) for part in ("src", "scripts", ""))
    env = environment(PYTHONPATH=path, TMPDIR=str(tmp_path))
    arguments = ("-m", "benchmarks", "--against", "HEAD", "--repeats", "1000000", "progress")
    with python(*arguments, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as bench:
        eventually(lambda: any("benchmarks.row_process" in child.cmdline() for child in tree(bench.pid)))
        started = tree(bench.pid)
        bench.terminate()
        assert bench.wait(60) == 128 + signal.SIGTERM
    assert [child for child in started if child.is_running()] == []
    assert not list(tmp_path.glob("bench-*"))


def tree(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def test_a_commit_that_does_not_exist_is_named(tmp_path: Path):
    done = bench(tmp_path, "--against", "no-such-commit", "--quick", "progress")
    assert done.returncode == 2
    assert "no-such-commit" in done.stderr
    assert "Traceback" not in done.stderr


def test_only_what_is_surely_slower_than_allowed_fails():
    assert Pair("ms", [2.0] * 6, [1.0] * 6).verdict == "slower"
    assert Pair("ms", [1.05] * 6, [1.0] * 6).verdict == ""
    assert Pair("ms", [1.0, 3.0, 1.0, 3.0, 1.0, 3.0], [1.0] * 6).verdict == ""
    assert Pair("ms", [1.0] * 6, [2.0] * 6).verdict == "faster"
    assert Pair("ms", [9.0], [1.0]).verdict == ""


HANGS = """
import sys
from benchmarks.__main__ import main
from benchmarks.rows import Row

where = "tests.helpers.hanging_row"
sys.exit(main(rows=[Row("hangs", "", 2, 2, where), Row("ends", "", 1, 1, where)]))
"""


def test_a_row_that_hangs_is_reported_and_the_others_go_on(tmp_path: Path):
    done = bench(tmp_path, "--patience", "15", program=("-c", HANGS))
    assert done.returncode == 1
    assert "hangs made no progress for 15 s and was given up" in done.stderr
    assert "could not be measured: hangs" in done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[2:]] == ["ends"]
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) > 4
    assert [pid for pid in pids if psutil.pid_exists(int(pid))] == []
    assert not list(tmp_path.glob("bench-*"))


def test_a_row_that_fails_shows_its_traceback_and_costs_no_other(tmp_path: Path):
    program = HANGS.replace('"hangs", "", 2, 2, where', '"fails", "", 1, 1, "tests.helpers.no_such_row"')
    done = bench(tmp_path, program=("-c", program))
    assert done.returncode == 1
    assert "no_such_row" in done.stderr
    assert "could not be measured: fails" in done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[2:]] == ["ends"]
