"""`schedules`, in this process, without a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.jobs.manager import JobManager
from tests.helpers.command_line import command


def call(*words: str | Path) -> Any:
    """Return what `schedules` answers as JSON."""
    told = command("schedules", words[0], "--json", *words[1:])
    assert told.returncode == 0, told
    return json.loads(told.stdout)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "report.py"
    path.write_text("print('report')")
    return path


def test_a_script_is_scheduled_listed_and_removed(script: Path) -> None:
    how = ("--cron", "30 2 * * *", "--tz", "Europe/Berlin", "--name", "nightly")
    made = call("add", *how, script, "--year", "2025")["schedule"]
    assert (made["name"], made["cron"], made["tz"]) == ("nightly", "30 2 * * *", "Europe/Berlin")
    assert made["ran"] == "report.py --year 2025"
    assert [each["id"] for each in call("list")["schedules"]] == [made["id"]]
    assert len(call("next", "nightly", "-n", "3")["next"]) == 3
    assert call("pause", made["id"])["schedule"]["next"] is None
    assert call("resume", "nightly")["schedule"]["next"] == made["next"]
    assert call("rm", "nightly")["schedule"]["id"] == made["id"]
    assert call("list") == {"schedules": []}


def test_a_job_says_which_schedule_made_it(script: Path) -> None:
    call("add", "--every", "60", "--name", "often", script)
    job = call("run", "often")["job"]
    assert job["schedule"]["name"] == "often"
    assert JobManager().store.get(job["id"]) is not None
    assert "(schedule often)" in command("jobs", "list").stdout
    assert json.loads(command("jobs", "list", "--json").stdout)["jobs"][0]["schedule"] == "often"
    assert "often" in command("jobs", "show", job["id"]).stdout


def test_the_list_for_people_has_a_line_for_each(script: Path) -> None:
    assert command("schedules", "list").stdout == "no schedules\n"
    told = command("schedules", "add", "--every", "60", "-c", "print(1)").stdout
    assert told.startswith("print(1): next at ")
    command(
        "schedules", "add", "--at", "2100-01-01T09:00", "--tz", "Asia/Tokyo", "--name", "new year", script
    )
    lines = command("schedules", "list").stdout.splitlines()
    assert [line[:8].strip() for line in lines] == ["NAME", "new year", "print(1)"]
    assert command("schedules", "next", "new year").stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--every", "5", "--env", "KEY=secret"), "--env looks like a secret"),
        (("--every", "5", "--cron", "* * * * *"), "exactly one"),
        ((), "exactly one"),
        (("--at", "soon"), "--at is 'soon'"),
        (("--delay", "-5"), "--delay is -5"),
        (("--delay", "inf"), "--delay is inf"),
        (("--cron", "* * * * *", "--tz", "Berlin"), "'Berlin'"),
    ],
)
def test_what_cannot_be_scheduled_is_refused(script: Path, words: tuple[str, ...], told: str) -> None:
    done = command("schedules", "add", *words, script)
    assert done.returncode == 2
    assert told in done.stderr
    assert call("list") == {"schedules": []}


def test_a_schedule_that_is_not_there_is_named() -> None:
    for name in ("pause", "resume", "rm", "next", "run"):
        done = command("schedules", name, "nothing")
        assert (done.returncode, "'nothing'" in done.stderr) == (2, True)


def test_a_schedule_without_a_server_warns(script: Path) -> None:
    told = command("schedules", "add", "--every", "60", script)
    assert (told.returncode, "no server of this home is up" in told.stderr) == (0, True)
    assert "no server of this home is up" in command("schedules", "list").stderr


def test_a_name_that_is_made_or_given_is_no_option(script: Path) -> None:
    made = call("add", "--every", "5", "-m", "nosuchmod")["schedule"]
    assert made["name"] == "nosuchmod"
    assert call("rm", "nosuchmod")["schedule"]["id"] == made["id"]
    told = command("schedules", "add", "--every", "5", "--name", "-x", script)
    assert (told.returncode, "--name is '-x'" in told.stderr) == (2, True)


def test_errors_name_the_options(script: Path) -> None:
    told = command("schedules", "add", "--at", "2020-01-01T09:00", script)
    assert "--at is 2020" in told.stderr
    for times in ((), ("--every", "5", "--delay", "5")):
        told = command("schedules", "add", *times, script)
        assert "give exactly one of --cron, --every, --at and --delay" in told.stderr
    assert "--window is" in command("jobs", "stats", "--window", "0").stderr
