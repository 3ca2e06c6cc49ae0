"""One line a minute for what is logged again and again, with a count."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial

import pytest

from python_mcp_server.server.log_limit import LogLimit

FOREIGN = logging.getLogger("a.part.of.others")
JOBS = logging.getLogger("python_mcp_server.jobs.of.the.test")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.limit = LogLimit(lambda: self.now)
        self.limit.install()


@pytest.fixture
def clock(caplog: pytest.LogCaptureFixture) -> Iterator[Clock]:
    caplog.set_level(logging.INFO)
    clock = Clock()
    yield clock
    for handler in logging.getLogger().handlers:
        handler.removeFilter(clock.limit)


def test_the_lines_of_a_minute_are_one_line_and_a_count(clock: Clock, caplog: pytest.LogCaptureFixture):
    for number in range(5):
        FOREIGN.warning("it is line %d", number)
    clock.now = 59
    clock.limit.report()
    assert caplog.messages == ["it is line 0"]
    clock.now = 60
    clock.limit.report()
    assert caplog.messages[1:] == ["4 more in the last minute like this: it is line 4"]
    FOREIGN.warning("at another place")
    assert len(caplog.messages) == 3


def test_what_is_quiet_for_a_minute_is_written_again(clock: Clock, caplog: pytest.LogCaptureFixture):
    for now in (0, 61):
        clock.now = now
        clock.limit.report()
        FOREIGN.warning("again")
    assert caplog.messages == ["again", "again"]


def test_kinds_are_told_apart_and_bounded(clock: Clock, caplog: pytest.LogCaptureFixture):
    for number in range(1000):
        FOREIGN.info("refused %d", number, extra={"kind": number})
    assert 64 <= len(caplog.messages) <= 66
    assert caplog.messages[:64] == [f"refused {number}" for number in range(64)]


def test_different_texts_of_one_line_of_code_are_different_kinds(
    clock: Clock, caplog: pytest.LogCaptureFixture
):
    for _ in range(3):
        for text in ("it is full: %d", "it is gone: %d"):
            FOREIGN.log(logging.WARNING, text, 1)
    assert caplog.messages == ["it is full: 1", "it is gone: 1"]


def test_different_exceptions_behind_one_text_are_different_kinds(
    clock: Clock, caplog: pytest.LogCaptureFixture
):
    for fail in (partial(int, "a"), partial(int, "b"), partial({}.__getitem__, "c")):
        try:
            fail()
        except (ValueError, KeyError):
            FOREIGN.exception("an exception of an application\n")
    try:
        int("at another place")
    except ValueError:
        FOREIGN.exception("an exception of an application\n")
    shown = [str(record.exc_info[1])[-5:] for record in caplog.records if record.exc_info]
    assert shown == [": 'a'", "'c'", "lace'"]


def test_an_error_beyond_the_bound_is_not_hidden_by_notes(clock: Clock, caplog: pytest.LogCaptureFixture):
    for number in range(100):
        FOREIGN.info(f"a note made of {number}")
    FOREIGN.error("it is broken")
    assert "it is broken" in caplog.messages
    assert len(caplog.messages) <= 64 + 2


def test_each_line_on_a_job_is_written(clock: Clock, caplog: pytest.LogCaptureFixture):
    for number in range(3):
        JOBS.warning("job %d", number)
    assert len(caplog.messages) == 3
