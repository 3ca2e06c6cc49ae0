"""`scripts/chaos`, for seconds instead of minutes: the promises hold, and it leaves nothing itself."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.helpers import ROOT, environment, run_python
from tests.helpers.programs import python
from tests.helpers.waiting import eventually


def chaos_environment(folder: Path) -> dict[str, str]:
    return environment(PYTHONPATH=f"{ROOT / 'src'}:{ROOT / 'scripts'}", TMPDIR=str(folder))


@pytest.mark.thorough
def test_a_short_run_kills_processes_and_breaks_no_promise(tmp_path: Path):
    words = ("-m", "chaos_testing", "--seconds", "3", "--seed", "11", "--servers", "1")
    done = run_python(*words, env=chaos_environment(tmp_path), deadline_s=170)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = dict(re.findall(r"^(\S.*?) {2,}(.*)$", done.stdout, re.MULTILINE))
    assert figures["breaches"] == "0"
    assert int(figures["kills"].partition(":")[0]) > 0
    assert int(figures["ids returned"]) > 0
    assert not list(tmp_path.glob("chaos-*"))


def test_ctrl_c_ends_a_run_with_everything_it_started(tmp_path: Path):
    words = ("-m", "chaos_testing", "--seconds", "600", "--servers", "1")
    with python(*words, env=chaos_environment(tmp_path)) as process:
        eventually(lambda: list(tmp_path.glob("chaos-*/home/jobs/format.json")))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.splitlines()[-1:]) == (130, ["scripts/chaos: stopped"])
    assert "Traceback" not in errors
    assert not list(tmp_path.glob("chaos-*"))


def test_a_home_that_is_not_empty_is_refused(tmp_path: Path):
    (tmp_path / "mine").write_text("precious")
    done = run_python("-m", "chaos_testing", "--home", tmp_path, env=chaos_environment(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert "is not empty" in done.stderr
    assert (tmp_path / "mine").read_text() == "precious"


def test_strangers_hostile_calls_and_odd_files_disturb_nobody(tmp_path: Path):
    words = ("-m", "chaos_testing", "--hostile", "--seconds", "4", "--seed", "3")
    done = run_python(*words, env=chaos_environment(tmp_path), deadline_s=170)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = dict(re.findall(r"^(\S.*?) {2,}(.*)$", done.stdout, re.MULTILINE))
    assert figures["breaches"] == "0"
    assert int(figures["peaceful: 200"]) > 0
    assert int(figures["hostile: 200"]) > 0
    assert int(figures["stranger: 401"]) > 0
    assert int(figures["odd files in the home"]) > 0
