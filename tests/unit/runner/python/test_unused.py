"""Environments that nothing has used for long go; those that are used, in whatever way, stay."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from python_mcp_server.runner.python import unused as module
from python_mcp_server.runner.python.unused import mark_used, remove_unused, unused

LONG_S = 1000.0


def environment(home: Path, name: str, *, age_s: float = 2 * LONG_S) -> Path:
    venv = home / "environments" / name
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    then = time.time() - age_s
    os.utime(venv, (then, then))
    return venv


def test_an_environment_stays_while_it_is_used_now_and_then(tmp_path: Path) -> None:
    old, young = environment(tmp_path, "a"), environment(tmp_path, "b", age_s=0)
    used = environment(tmp_path, "c")
    mark_used(used)
    mark_used(tmp_path / "environments" / "none")
    assert unused(tmp_path, LONG_S) == [old]
    assert remove_unused(tmp_path, LONG_S) == [old]
    assert [old.exists(), young.exists(), used.exists()] == [False, True, True]
    assert unused(tmp_path / "no home", LONG_S) == []


@pytest.mark.skipif(os.name == "nt", reason="an interpreter is no link there")
def test_an_environment_stays_while_a_script_runs_in_it(tmp_path: Path) -> None:
    venv = environment(tmp_path, "a")
    command = [str(venv / "bin" / "python"), "-c", "print(1, flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as script:
        assert script.stdout is not None
        assert script.stdout.readline() == b"1\n"
        assert remove_unused(tmp_path, LONG_S) == []
        script.communicate(b"\n")
    assert remove_unused(tmp_path, LONG_S) == [venv]


@pytest.mark.skipif(os.name == "nt", reason="an account may not make links there")
def test_an_environment_stays_in_a_home_with_two_names(tmp_path: Path) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    venv = environment(home, "a")
    other.symlink_to(home)
    command = [str(venv / "bin" / "python"), "-c", "print(1, flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as script:
        assert script.stdout is not None
        assert script.stdout.readline() == b"1\n"
        assert unused(other, LONG_S) == []
        script.communicate(b"\n")
    assert unused(other, LONG_S) == [other / "environments" / "a"]


def test_an_environment_that_is_being_made_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    venv = environment(tmp_path, "a")
    with FileLock(f"{venv}.lock"):
        assert remove_unused(tmp_path, LONG_S) == []
    assert "stays, although" in caplog.text
    assert venv.exists()


def test_a_use_at_the_last_moment_keeps_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv = environment(tmp_path, "a")

    def use_it_meanwhile(_folder: Path) -> set[str]:
        mark_used(venv)
        return set()

    monkeypatch.setattr(module, "_running", use_it_meanwhile)
    assert remove_unused(tmp_path, LONG_S) == []
    assert (venv / "bin" / "python").exists()


def test_an_environment_that_a_call_has_just_found_stays_for_its_start(tmp_path: Path) -> None:
    venv = environment(tmp_path, "a", age_s=1)
    assert (unused(tmp_path, 0), remove_unused(tmp_path, 0)) == ([], [])
    assert venv.exists()


def test_what_a_killed_removal_left_is_removed(tmp_path: Path) -> None:
    left = environment(tmp_path, "a.unused", age_s=0)
    venv = environment(tmp_path, "a", age_s=0)
    assert remove_unused(tmp_path, LONG_S) == [left]
    assert venv.exists()


def test_a_link_among_the_environments_leads_nowhere(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "environments").mkdir()
    (tmp_path / "environments" / "a").symlink_to(elsewhere)
    assert remove_unused(tmp_path, 0) == []
    assert elsewhere.exists()
