"""The table of results is true, by every way in which a result can be had."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import re
from collections import deque
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from python_mcp_server.jobs.reply import show_raw
from python_mcp_server.jobs.settle import settle
from python_mcp_server.model import Job, JobState, Outcome, new_job_id, utc_now
from python_mcp_server.server.sdk.adapter import adapt
from python_mcp_server.server.tasks.wire import result_of
from python_mcp_server.store.memory import InMemoryJobStore
from tests.helpers import ROOT


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: float
    tag: Any


class Row(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    row_count: int


NAMES = {
    "Colour": Colour, "Point": Point, "Row": Row, "np": np, "nan": math.nan, "inf": math.inf, "UTC": UTC,
    "deque": deque, "MappingProxyType": MappingProxyType, "Decimal": Decimal, "date": date, "time": time,
    "datetime": datetime, "timedelta": timedelta,
}  # fmt: skip
ROWS = re.findall(
    r"^\| `([^`]+)` \| `([^`]+)` \| (.*) ?\|$", (ROOT / "docs" / "results.md").read_text(), re.MULTILINE
)


def undeclared():  # type: ignore[no-untyped-def]
    """A tool without a type."""


def anything() -> Any:
    """A tool that may return what it likes."""


def test_the_table_is_read():
    assert len(ROWS) == 20


@pytest.mark.parametrize("tool", [undeclared, anything])
@pytest.mark.parametrize(("code", "expected", "remark"), ROWS)
def test_a_row_holds_in_time_and_later_with_the_tool_and_without(
    code: str, expected: str, remark: str, tool: Any
):
    value = eval(code, NAMES)  # the documentation's own
    seen = adapt(tool)
    replies = seen.replies()
    answer = seen.answer(value)
    for show in (replies.show, lambda value: show_raw(value, replies.form)):
        store = InMemoryJobStore()
        job_id = new_job_id()
        store.create(Job(job_id, "", JobState.RUNNING, utc_now(), reply=dict(replies.form)))
        job = settle(store, job_id, Outcome(value), show=show)
        assert job.status is JobState.COMPLETED
        assert repr(job.result) == repr(json.loads(expected))
        assert (job.result_note is not None) == ("with a note" in remark)
        assert result_of(job, None) == result_of(job, seen) == answer
