"""The command line where stdout is full, closed or no longer read, and where its directory is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.store.files import FileJobStore
from tests.helpers import environment
from tests.helpers.marks import thorough

PRINTING = [
    ("run", "-c", "print(1)"),
    ("jobs", "list"),
    ("jobs", "list", "--json"),
    ("doctor",),
    ("clean",),
    ("--help",),
    ("--version",),
    ("demo",),
]


@pytest.fixture(autouse=True)
def made_home(home: Path) -> None:
    FileJobStore(home)


def through_shell(script: str, *words: str, **changes: str | None) -> subprocess.CompletedProcess[str]:
    """Run the command line as "$@" of a script of the shell."""
    command = ["sh", "-c", script, "sh", sys.executable, "-m", "python_mcp_server", *words]
    return subprocess.run(
        command, env=environment(**changes), capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("unbuffered", [None, thorough("1")])
@pytest.mark.parametrize(
    ("redirected", "why"), [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")]
)
@pytest.mark.parametrize("words", PRINTING)
def test_a_stdout_that_takes_nothing_is_one_sentence_and_exit_code_1(
    words: tuple[str, ...], redirected: str, why: str, unbuffered: str | None
) -> None:
    told = through_shell(f'exec "$@" {redirected}', *words, PYTHONUNBUFFERED=unbuffered)
    assert (told.returncode, told.stderr) == (1, f"python-mcp-server: stdout cannot be written: {why}\n")


@pytest.mark.parametrize("redirected", [">/dev/full 2>&1", ">&- 2>&-", "2>/dev/full"])
def test_a_stderr_that_takes_nothing_changes_no_exit_code(redirected: str) -> None:
    told = through_shell(f'exec "$@" {redirected}', "jobs", "show", "nobody", PYTHONUNBUFFERED=None)
    assert (told.returncode, told.stdout, told.stderr) == (1, "", "")


@pytest.mark.parametrize("words", [("run", "-c", "1"), ("run", "-"), ("clean",), ("jobs", "list")])
def test_a_closed_stdin_is_an_empty_one(words: tuple[str, ...]) -> None:
    told = through_shell('exec "$@" <&-', *words)
    assert (told.returncode, told.stderr) == (0, "")


@pytest.mark.parametrize("words", [("jobs", "list"), ("jobs", "list", "--json")])
def test_a_stdout_of_few_letters_is_no_traceback(words: tuple[str, ...], home: Path) -> None:
    FileJobStore(home).create(Job(new_job_id(), "one → two", JobState.PENDING, utc_now()))
    told = through_shell('exec "$@"', *words, PYTHONIOENCODING="latin-1")
    assert told.returncode == 0, told
    assert "→" not in told.stdout
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize(
    "words",
    [("run", "-c", "1"), ("bench", "slow.py"), ("jobs", "list", "--home", "h"), ("clean", "--home", "h")],
)
def test_a_working_directory_that_is_gone_is_one_sentence(words: tuple[str, ...], tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    told = through_shell(f'cd "{gone}"; rmdir "{gone}"; exec "$@"', *words)
    sentence = "python-mcp-server: the working directory is gone; change to one that exists\n"
    assert (told.returncode, told.stderr) == (1, sentence)


@pytest.mark.parametrize(
    "words", [["jobs", "list", "--json"], ["jobs", "prune"], ["--help"], ["run", "-c", "print(1)"], ["demo"]]
)
def test_a_reader_who_leaves_ends_it_without_a_traceback(words: list[str]) -> None:
    command = [sys.executable, "-m", "python_mcp_server", *words]
    closed, out = os.pipe()
    os.close(closed)
    try:
        told = subprocess.run(
            command, stdout=out, stderr=subprocess.PIPE, env=environment(), timeout=60, check=False
        )
    finally:
        os.close(out)
    assert (told.returncode, told.stderr) == (141, b"")
