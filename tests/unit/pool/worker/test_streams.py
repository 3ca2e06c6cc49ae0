"""Logs of a worker: on a full disk, and where the file system has no links."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from python_mcp_server.errors import StoreError
from python_mcp_server.pool.worker.streams import flush_output, link_logs, open_log_stream
from tests.helpers.programs import run_python
from tests.unit.test_odd_files_to_write import KINDS


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is always full")
def test_a_full_disk_loses_output_and_a_note_says_so_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fd, full, log = os.open(os.devnull, os.O_WRONLY), os.open("/dev/full", os.O_WRONLY), tmp_path / "log"
    room = os.open(log, os.O_WRONLY | os.O_CREAT)
    try:
        stream = open_log_stream(fd)
        monkeypatch.setattr("sys.stdout", stream)
        os.dup2(full, fd)
        print("lost")
        flush_output(None)
        os.dup2(room, fd)
        flush_output(None)
        print("kept")
        assert log.read_text() == "\n[5 bytes are missing here: the disk was full]\nkept\n"
    finally:
        for one in (fd, full, room):
            os.close(one)


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_source: Path, target: Path) -> NoReturn:
        raise FileExistsError(target) if target.exists() else PermissionError(target)

    monkeypatch.setattr(os, "link", refuse)


@pytest.fixture
def hand(tmp_path: Path) -> Callable[[], None]:
    (tmp_path / "worker").mkdir()
    (tmp_path / "worker" / "stdout").write_text("one\n")
    (tmp_path / "worker" / "stderr").write_text("")
    return lambda: link_logs(tmp_path / "worker", tmp_path / "job")


@pytest.mark.usefixtures("no_links")
def test_a_copy_of_a_log_gets_what_is_printed_later(tmp_path: Path, hand: Callable[[], None]):
    hand()
    with (tmp_path / "worker" / "stdout").open("a") as file:
        file.write("two\n")
    hand()
    hand()
    assert (tmp_path / "job" / "stdout").read_text() == "one\ntwo\n"


@pytest.mark.usefixtures("no_links")
def test_a_file_of_the_jobs_own_is_left_alone(tmp_path: Path, hand: Callable[[], None]):
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "stdout").write_text("own")
    hand()
    assert (tmp_path / "job" / "stdout").read_text() == "own"
    assert (tmp_path / "job" / "stderr").read_text() == ""


@pytest.mark.skipif(os.name != "posix", reason="only POSIX has such files")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("linked", [True, False])
def test_an_odd_file_of_the_jobs_own_is_left_alone(
    tmp_path: Path, request: pytest.FixtureRequest, hand: Callable[[], None], kind: str, linked: bool
):
    if not linked:
        request.getfixturevalue("no_links")
    (precious := tmp_path / "precious").write_text("o")
    (tmp_path / "job").mkdir()
    KINDS[kind](tmp_path / "job" / "stdout")
    hand()
    hand()
    assert precious.read_text() == "o"
    assert not (tmp_path / "made").exists()
    assert (tmp_path / "job" / "stderr").read_text() == ""


def test_no_output_is_put_behind_a_link(tmp_path: Path, hand: Callable[[], None]):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "job").symlink_to("elsewhere")
    with pytest.raises(StoreError, match="job is a symbolic link, which is not followed"):
        hand()
    assert list((tmp_path / "elsewhere").iterdir()) == []


ATTEMPTS = """
import os, sys
from pathlib import Path
from python_mcp_server.pool.worker.streams import WorkerLogs, link_logs
folder, has_links = Path(sys.argv[1]), sys.argv[2] == "links"
def refuse(_source, target):
    raise FileExistsError(target) if Path(target).exists() else PermissionError(target)
if not has_links:
    os.link = refuse
for name in ("first", "second", "second"):
    (folder / name).mkdir(exist_ok=True)
    logs = WorkerLogs(str(folder / name))
    logs.refresh()
    logs.go_on(str(folder / "job"))
    os.write(1, b"out of " + name.encode() + bytes([10]))
    link_logs(folder / name, folder / "job")
    link_logs(folder / name, folder / "job")
logs.refresh()
os.write(1, b"of another job")
"""


@pytest.mark.parametrize("links", ["links", "copies"])
def test_a_log_goes_on_with_the_output_of_earlier_attempts(tmp_path: Path, links: str):
    told = run_python("-c", ATTEMPTS, str(tmp_path), links)
    assert told.returncode == 0, told.stderr
    assert (tmp_path / "job" / "stdout").read_text() == "out of first\nout of second\nout of second\n"
    assert (tmp_path / "second" / "stdout").read_text() == "of another job"
