"""The log goes to stderr and to a private file that several servers share, and names jobs."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from python_mcp_server.context import JobContext, enter_job, leave_job
from python_mcp_server.server.serve import configure_logging
from python_mcp_server.settings import Settings

log = logging.getLogger("a.part.of.us")


@pytest.fixture(autouse=True)
def root_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in ("mcp", "httpx", "asyncio", "uvicorn.access")}
    yield
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:], root.level = handlers, level
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def configure(home: Path, *, debug: bool = False) -> Path:
    configure_logging(Settings.from_environ({}, home=home, debug=debug))
    return home / "logs" / "server.log"


def test_a_line_is_on_stderr_and_in_a_private_file(home: Path, capsys: pytest.CaptureFixture[str]):
    path = configure(home)
    log.info("it happened")
    assert "it happened" in capsys.readouterr().err
    assert "INFO" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_line_names_its_job(home: Path):
    path = configure(home)
    token = enter_job(JobContext("j-1", "a job", "", lambda _progress: None), whole_process=False)
    log.info("one")
    leave_job(token)
    log.info("two")
    one, two = path.read_text().splitlines()
    assert one.endswith("job j-1: one")
    assert two.endswith("a.part.of.us: two")


def test_details_are_there_only_when_asked_for(home: Path):
    path = configure(home)
    log.debug("a detail")
    logging.getLogger("mcp.server").info("a message came")
    assert path.read_text() == ""
    configure(home, debug=True)
    log.debug("a detail")
    assert "a detail" in path.read_text()


def test_the_file_is_followed_when_another_server_has_rotated_it(home: Path):
    path = configure(home)
    log.info("old")
    path.rename(path.with_suffix(".log.1"))
    log.info("new")
    assert "new" in path.read_text()
    assert "new" not in path.with_suffix(".log.1").read_text()


def test_a_file_that_can_no_longer_be_written_costs_one_line(home: Path, capsys: pytest.CaptureFixture[str]):
    path = configure(home)
    path.unlink()
    path.mkdir()
    for number in range(3):
        log.info("record %s", number)
    errors = capsys.readouterr().err
    assert errors.count("cannot be written") == 1
    assert "Traceback" not in errors
    assert "record 2" in errors
    path.rmdir()
    log.info("again")
    assert "again" in path.read_text()


def test_without_a_place_for_the_file_stderr_has_it_all(home: Path, capsys: pytest.CaptureFixture[str]):
    home.mkdir()
    (home / "logs").write_text("in the way")
    configure(home)
    log.info("still here")
    errors = capsys.readouterr().err
    assert "cannot be written" in errors
    assert "still here" in errors


@pytest.mark.skipif(os.name != "posix", reason="only POSIX has such files")
def test_a_pipe_in_the_place_of_the_log_does_not_hold_the_start(
    home: Path, capsys: pytest.CaptureFixture[str]
):
    (home / "logs").mkdir(parents=True)
    os.mkfifo(home / "logs" / "server.log")
    configure(home)
    assert "it is a named pipe, no regular file" in capsys.readouterr().err
