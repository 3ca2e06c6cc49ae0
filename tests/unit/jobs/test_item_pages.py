"""Items are paged by number, all of them once, while they are written and whatever the file holds."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.errors import InvalidInput, JobNotFound
from python_mcp_server.items import INDEX, INDEX_STEP_BYTES, ITEMS, PAIR, ItemLog
from python_mcp_server.jobs.item_pages import (
    PAGE_BYTES,
    ItemPage,
    WantedItems,
    count_items,
    read_items,
    whole_bytes,
)
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.model import JobState
from python_mcp_server.runner.output import LineReader
from tests.helpers.records import a_job

ID = "1m8nz3jxg4"


def fill(folder: Path, items: list[Any]) -> ItemLog:
    log = ItemLog(str(folder))
    log.begin()
    for item in items:
        log.add(item)
    return log


def page(folder: Path, *wanted: Any, ended: bool = True, **more: Any) -> ItemPage:
    return read_items(folder, WantedItems(*wanted, **more), ID, ended=ended)


def all_of(folder: Path, limit: int = 100, **filters: Any) -> list[Any]:
    """Page through all items, as a reader does."""
    found, at = list[Any](), ItemPage([], 0, 0, eof=False)
    while not at.eof:
        before, at = at, page(folder, at.next_offset, limit, **filters)
        assert at.next_offset > before.next_offset
        found += at.items
    return found


def test_a_job_without_items_has_an_empty_page(tmp_path: Path):
    assert page(tmp_path) == ItemPage([], 0, 0, eof=True)
    assert page(tmp_path, ended=False) == ItemPage([], 0, 0, eof=False)
    assert (count_items(tmp_path), whole_bytes(tmp_path)) == (0, 0)


def test_pages_lead_from_one_to_the_next_by_number(tmp_path: Path):
    fill(tmp_path, list(range(10)))
    assert page(tmp_path, 0, 4) == ItemPage([0, 1, 2, 3], 4, 10, eof=False)
    assert page(tmp_path, 8, 4) == ItemPage([8, 9], 10, 10, eof=True)
    assert page(tmp_path, 8, 4, ended=False) == ItemPage([8, 9], 10, 10, eof=False)
    assert page(tmp_path, -3) == ItemPage([7, 8, 9], 10, 10, eof=True)
    assert page(tmp_path, -30, 1) == ItemPage([0], 1, 10, eof=False)
    assert page(tmp_path, 12, ended=False) == ItemPage([], 12, 10, eof=False)
    assert count_items(tmp_path) == 10


def test_a_line_that_a_kill_has_torn_is_no_item(tmp_path: Path):
    fill(tmp_path, ["whole"])
    size = (tmp_path / ITEMS).stat().st_size
    for torn in (b'{"torn', b"x" * 3 * INDEX_STEP_BYTES):
        with (tmp_path / ITEMS).open("ab") as file:
            file.write(torn)
        assert page(tmp_path) == ItemPage(["whole"], 1, 1, eof=True)
        assert page(tmp_path, pattern="o|x").items == ["whole"]
        assert (count_items(tmp_path), whole_bytes(tmp_path)) == (1, size)
    (tmp_path / ITEMS).write_bytes(b"nothing but a torn one")
    assert page(tmp_path) == ItemPage([], 0, 0, eof=True)


def test_a_page_is_bounded_and_a_larger_item_comes_alone(tmp_path: Path):
    items = ["x" * 20_000, "y" * 20_000, "z" * (2 * PAGE_BYTES), "w"]
    fill(tmp_path, items)
    assert page(tmp_path) == ItemPage(items[:2], 2, 4, eof=False)
    assert page(tmp_path, 2) == ItemPage(items[2:3], 3, 4, eof=False)
    assert all_of(tmp_path) == items


def test_an_item_that_is_too_large_to_show_says_how_it_is_read(tmp_path: Path):
    fill(tmp_path, [0, {"kind": "big", "data": "x" * 600_000}, 2])
    told = page(tmp_path).items[1]["left_out"]
    assert told.startswith("item 1 has 60")
    assert f'py_job_output(job_id="{ID}", stream="items", raw=true, line=2) reads its text in pages' in told
    assert page(tmp_path, where={"kind": "big"}).items == [{"left_out": told}]


@pytest.mark.parametrize("line", [b"{torn", b"\xff", b"[" * 100_000])
def test_a_line_that_is_no_json_costs_only_itself(tmp_path: Path, line: bytes):
    (tmp_path / ITEMS).write_bytes(b"1\n" + line + b"\n3\n")
    first, second, third = all_of(tmp_path)
    assert (first, third) == (1, 3)
    assert "item 1 is not JSON" in second["left_out"]


def test_a_filter_names_fields_and_pages_go_on_behind_it(tmp_path: Path):
    rows = [{"n": n, "file": {"ok": n % 3 > 0, "name": f"f{n}"}, "size": n % 2} for n in range(300)]
    fill(tmp_path, [*rows, "text", [1], None])
    assert all_of(tmp_path, 7, where={"file.ok": False}) == rows[::3]
    assert all_of(tmp_path, 7, where={"file.ok": False, "size": 1}) == rows[3::6]
    assert all_of(tmp_path, where={"file.name": "f17"}) == [rows[17]]
    assert all_of(tmp_path, where={"no.such": None}) == []
    assert all_of(tmp_path, where={"size": True}) == [], "true is not 1"
    assert all_of(tmp_path, where={"size": 1.0}) == rows[1::2]


@pytest.mark.parametrize("value", ["ä", 'a "b"\n', "a/b\\c", "", "\x7f", True, False, None, 0, -1.5, 1e300])
@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_a_filter_finds_a_value_however_it_is_written(tmp_path: Path, value: Any, ensure_ascii: bool):
    items = [{"a": value}, {"b": value}, {"a": [value]}, {"a": "other"}]
    lines = [json.dumps(item, ensure_ascii=ensure_ascii) for item in items]
    (tmp_path / ITEMS).write_text("\n".join(lines) + "\n", "utf-8")
    assert page(tmp_path, where={"a": value}).items == items[:1]


def test_a_filter_that_finds_nothing_looks_at_a_part_of_many_items(tmp_path: Path):
    (tmp_path / ITEMS).write_bytes(b'{"a": 1}\n' * 500_000)
    found = page(tmp_path, where={"a": 2})
    assert found.items == []
    assert 0 < found.next_offset < found.total == 500_000
    assert not found.eof


def test_a_pattern_names_items_and_pages_go_on_behind_it(tmp_path: Path):
    rows = [{"n": n, "text": f"ä\u2028\n{n % 10}"} for n in range(300)]
    fill(tmp_path, rows)
    assert all_of(tmp_path, 7, pattern='ä.*7"}$') == rows[7::10]
    assert page(tmp_path, 100, 2, pattern="7").items == [rows[107], rows[117]]
    assert page(tmp_path, -20, 5, pattern='7"}$').items == [rows[287], rows[297]]
    assert all_of(tmp_path, pattern="no such") == []


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"limit": 0}, "limit is 0; it must be between 1 and 10000 items"),
        ({"where": {"a": [1]}}, r"where has '\[1\]' for 'a'; give a text, a number, true, false or null"),
        ({"where": {"a": 1}, "pattern": "b"}, "where and pattern .'b'. are both given"),
        ({"pattern": ""}, "pattern has 0 characters"),
    ],
)
def test_a_request_that_is_not_valid_is_refused(wanted: dict[str, Any], sentence: str):
    with pytest.raises(InvalidInput, match=sentence):
        WantedItems(**wanted).check()


@pytest.mark.parametrize("index", [None, b"", b"\x00" * 7, b"\xff" * 48, b"\x00" * 8 + b"\x00" * 7 + b"\x03"])
def test_a_missing_or_damaged_index_changes_no_page(tmp_path: Path, index: bytes | None):
    items = [[n, "x" * 40_000] for n in range(40)]
    fill(tmp_path, items)
    assert (tmp_path / INDEX).stat().st_size
    (tmp_path / INDEX).unlink()
    if index is not None:
        (tmp_path / INDEX).write_bytes(index)
    assert [item[0] for item in all_of(tmp_path)] == list(range(40))
    assert page(tmp_path, 33, 1).items[0][0] == 33


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_an_index_that_is_no_file_changes_no_page(tmp_path: Path):
    fill(tmp_path, [1, 2])
    (tmp_path / INDEX).unlink()
    os.mkfifo(tmp_path / INDEX)
    assert page(tmp_path).items == [1, 2]


def test_something_else_in_the_place_of_the_items_counts_as_none(tmp_path: Path):
    (tmp_path / ITEMS).mkdir()
    assert count_items(tmp_path) == 0


def test_any_of_a_million_items_is_found_within_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    count, each = 1_000_000, INDEX_STEP_BYTES // 16 + 1
    lines = [b"%015d\n" % number for number in range(10**14, 10**14 + count)]
    (tmp_path / ITEMS).write_bytes(b"".join(lines))
    pairs = [PAIR.pack(number, 16 * number) for number in range(each, count, each)]
    (tmp_path / INDEX).write_bytes(b"".join(pairs))  # as `ItemLog` makes it, which `test_items` tests
    read = _counted(monkeypatch)
    for number in (0, 1, 4_999, 500_000, 999_990):
        read.clear()
        found = page(tmp_path, number, 10)
        assert found.items == list(range(10**14 + number, 10**14 + number + 10))
        assert found.total == count
        assert sum(read) < 3 * INDEX_STEP_BYTES


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the sizes of all that is read from now on to count lines."""
    read, plain = list[int](), LineReader.read

    def counting(self: LineReader, begin: int, end: int) -> bytes:
        data = plain(self, begin, end)
        read.append(len(data))
        return data

    monkeypatch.setattr(LineReader, "read", counting)
    return read


def test_readers_see_every_item_once_while_it_is_written(tmp_path: Path):
    count, over = 4_000, threading.Event()
    log = fill(tmp_path, [])

    def write() -> None:
        for number in range(count):
            log.add({"n": number, "data": "x" * (number % 700)})
        over.set()

    def read(into: list[Any]) -> None:
        at = ItemPage([], 0, 0, eof=False)
        while not at.eof:
            ended = over.is_set()
            at = page(tmp_path, at.next_offset, 300, ended=ended)
            into += at.items

    seen: list[list[Any]] = [[] for _ in range(3)]
    threads = [threading.Thread(target=write)]
    threads += [threading.Thread(target=read, args=(into,)) for into in seen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for into in seen:
        assert [item["n"] for item in into] == list(range(count))


async def test_the_manager_and_its_blocking_twin_page_alike(home: Path):
    made = JobManager()
    job = a_job(JobState.COMPLETED)
    made.store.create(job)
    folder = made.store.folder(job.id)
    folder.mkdir(parents=True, exist_ok=True)
    fill(folder, [{"n": n} for n in range(5)])
    expected = ItemPage([{"n": 3}, {"n": 4}], 5, 5, eof=True)
    assert await made.items(job.id, 3) == made.blocking.items(job.id, 3) == expected
    assert await made.items(job.id, where={"n": 2}) == made.blocking.items(job.id, where={"n": 2})
    assert (await made.items(job.id, pattern="4")).items == [{"n": 4}]
    with pytest.raises(JobNotFound):
        await made.items("no-such-job")
    with pytest.raises(InvalidInput):
        await made.items(job.id, limit=0)
    await made.close()


def test_a_wait_for_items_ends_with_the_job_or_its_time(home: Path):
    made = JobManager()
    running, ended = a_job(JobState.PENDING), a_job(JobState.COMPLETED)
    for job in (running, ended):
        made.store.create(job)
    started = time.monotonic()
    assert made.blocking.items(running.id, wait_s=0.3) == ItemPage([], 0, 0, eof=False)
    assert time.monotonic() - started >= 0.3
    assert made.blocking.items(running.id, wait_s=float("nan")).items == []
    assert made.blocking.items(ended.id, wait_s=60) == ItemPage([], 0, 0, eof=True)


def test_pages_are_plain_json(tmp_path: Path):
    fill(tmp_path, [{"a": {1: 2}}])
    assert json.dumps(page(tmp_path).items) == '[{"a": {"1": 2}}]'
