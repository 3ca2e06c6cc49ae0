"""Emitted items are whole lines in the job's folder, each once, whatever interrupts their writer."""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server import context
from python_mcp_server.context import JobContext, emit
from python_mcp_server.errors import InvalidInput, NotInJob, StoreError
from python_mcp_server.items import INDEX, INDEX_STEP_BYTES, ITEMS, MOST_ITEM_BYTES, PAIR, ItemLog
from tests.helpers import run_python


def items_in(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / ITEMS).read_bytes().splitlines()]


def pairs_in(folder: Path) -> list[tuple[Any, ...]]:
    return list(PAIR.iter_unpack((folder / INDEX).read_bytes()))


@pytest.fixture
def job(tmp_path: Path) -> Any:
    made = JobContext("a", "a", str(tmp_path / "job"), lambda _progress: None)
    token = context.enter_job(made, whole_process=True)
    yield made
    context.leave_job(token)


def test_an_item_is_a_line_of_json_in_a_private_file(job: JobContext):
    emit({"row": 1, "text": "ä\n"})
    emit(None)
    path = job.folder / ITEMS
    assert path.read_bytes() == '{"row": 1, "text": "ä\\n"}\nnull\n'.encode()
    assert os.name == "nt" or path.stat().st_mode & 0o777 == 0o600
    assert job.wants_record, "the caller of a fast call could not read them otherwise"


def test_a_job_that_emits_nothing_has_no_file_and_no_record(job: JobContext, tmp_path: Path):
    assert not job.wants_record
    assert not (tmp_path / "job").exists()


@pytest.mark.parametrize(
    ("item", "shown"),
    [
        ({3, 1}, [1, 3]),
        (float("nan"), None),
        (ValueError("no"), "no"),
        ("half \ud800", "half \ud800"),
        (b"\xff", "/w=="),
    ],
)
def test_an_item_becomes_json_as_a_result_does(job: JobContext, item: Any, shown: Any):
    emit(item)
    assert items_in(job.folder) == [shown]


def test_what_json_leaves_out_is_told_once(job: JobContext, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        emit(float("nan"))
        emit(float("inf"))
    assert [record.getMessage() for record in caplog.records] == [
        (
            "an emitted item is not all JSON, and others may be so too: "
            "JSON has no NaN and no infinity, so null stands for it"
        )
    ]


def test_an_item_that_is_too_large_is_refused_and_the_next_one_taken(job: JobContext):
    emit("x" * (MOST_ITEM_BYTES - 2))
    with pytest.raises(
        InvalidInput, match=r"emit got an item of 10000001 bytes of JSON; it may have 10000000; "
    ):
        emit("x" * (MOST_ITEM_BYTES - 1))
    emit(1)
    assert items_in(job.folder)[1:] == [1]


def test_outside_a_job_emit_says_so():
    with pytest.raises(NotInJob, match="no job runs in this process; call the decorated function"):
        emit(1)


def test_a_thread_that_outlives_its_body_emits_no_more(tmp_path: Path):
    made = JobContext("a", "a", str(tmp_path), lambda _progress: None)
    token = context.enter_job(made, whole_process=True)
    emit(1)
    context.leave_job(token)
    with pytest.raises(NotInJob, match="once the body has ended"):
        made.emit(2)
    assert items_in(tmp_path) == [1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
def test_a_forked_child_of_the_body_is_told_to_return_its_items(tmp_path: Path):
    code = f"""
import os
from python_mcp_server import context
job = context.JobContext("a", "a", {str(tmp_path)!r}, print)
context.enter_job(job, whole_process=True)
if os.fork():
    os.wait()
    context.emit("of the parent")
else:
    try:
        context.emit("of the child")
    except context.NotInJob as error:
        print(error)
"""
    assert "let a child process return its items to the body" in run_python("-c", code).stdout
    assert items_in(tmp_path) == ["of the parent"]


def test_threads_emit_at_once_and_every_line_is_whole(job: JobContext):
    def work(name: int) -> None:
        for number in range(200):
            emit([name, number, "x" * number])

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = items_in(job.folder)
    assert len(found) == 8 * 200
    for name in range(8):
        assert [number for who, number, _ in found if who == name] == list(range(200))


def test_the_index_leads_to_the_beginning_of_lines(job: JobContext):
    for number in range(40):
        emit([number, "x" * 50_000])
    data = (job.folder / ITEMS).read_bytes()
    pairs = pairs_in(job.folder)
    assert len(pairs) == len(data) // (INDEX_STEP_BYTES + 50_000)
    for count, offset in pairs:
        assert data.count(b"\n", 0, offset) == count
        assert json.loads(data[offset:].partition(b"\n")[0])[0] == count
    assert all(after[1] - before[1] >= INDEX_STEP_BYTES for before, after in pairwise(pairs))


def test_other_code_that_writes_to_the_file_ends_the_index(job: JobContext):
    emit("x" * INDEX_STEP_BYTES)
    with (job.folder / ITEMS).open("ab") as file:
        file.write(b"1\n2\n")
    for _ in range(3):
        emit("x" * INDEX_STEP_BYTES)
    assert [count for count, _ in pairs_in(job.folder)] == [1]


def test_items_that_were_removed_are_an_error_and_do_not_come_back(job: JobContext):
    emit(1)
    (job.folder / ITEMS).unlink()
    with pytest.raises(StoreError):
        emit(2)
    assert not (job.folder / ITEMS).exists()


def test_the_next_start_begins_anew_and_cuts_what_a_kill_left(tmp_path: Path):
    first = ItemLog(str(tmp_path))
    for _ in range(3):
        first.append(b"x" * INDEX_STEP_BYTES + b"\n")
    with (tmp_path / ITEMS).open("ab") as file:
        file.write(b'{"torn')
    ItemLog(str(tmp_path)).append(b"1\n")
    assert (tmp_path / ITEMS).read_bytes() == b"1\n"
    assert pairs_in(tmp_path) == []


def test_an_item_for_which_the_disk_has_no_room_leaves_no_part(
    job: JobContext, monkeypatch: pytest.MonkeyPatch
):
    emit("first")
    write, left = os.write, [5]

    def full(descriptor: int, data: Any) -> int:
        taken = min(left[0], len(data))
        if not taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left[0] -= taken
        return write(descriptor, data[:taken])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(StoreError, match="free space on the disk"):
            emit("second")
    emit("third")
    assert items_in(job.folder) == ["first", "third"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_in_the_place_of_the_file_is_not_followed(job: JobContext, tmp_path: Path):
    (tmp_path / "other").write_text("kept")
    (job.folder / ITEMS).symlink_to(tmp_path / "other")
    with pytest.raises(StoreError, match="symbolic link"):
        emit(1)
    assert (tmp_path / "other").read_text() == "kept"
