"""Values of each kind that a body may return, beside the JSON that becomes of them: the table of the
documentation, for the tests that go through it by every way."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import math
import uuid
from collections import OrderedDict, deque
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

HOUR = dt.timedelta(hours=1)
DAY = dt.date(2026, 3, 1)
NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Point:
    x: float
    tag: Any = None


class Pair(NamedTuple):
    left: int
    right: str


class Row(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    row_count: int
    extra_part: Any = None


LIKE_PYDANTIC: dict[str, tuple[Any, Any]] = {
    "text": ("a", "a"),
    "null": (None, None),
    "truth": (True, True),
    "number": (1.5, 1.5),
    "large": (2**70, 2**70),
    "tuple": ((1, "a"), [1, "a"]),
    "named tuple": (Pair(1, "a"), [1, "a"]),
    "set": ({3}, [3]),
    "deque": (deque([1, 2]), [1, 2]),
    "ordered": (OrderedDict(a=1), {"a": 1}),
    "enum": (Colour.RED, "red"),
    "int enum": (Level.HIGH, 3),
    "dataclass": (Point(1.0, DAY), {"x": 1.0, "tag": "2026-03-01"}),
    "model": (Row(row_count=1), {"rowCount": 1, "extraPart": None}),
    "date": (DAY, "2026-03-01"),
    "datetime": (NOON, "2026-03-01T12:00:00Z"),
    "local": (dt.datetime(2026, 3, 1, 12, 0, 0, 5), "2026-03-01T12:00:00.000005"),  # noqa: DTZ001
    "time": (dt.time(1, 2), "01:02:00"),
    "duration": (HOUR, "PT1H"),
    "long duration": (dt.timedelta(days=400, seconds=61.5), "P1Y35DT1M1.5S"),
    "negative duration": (-HOUR, "-PT1H"),
    "no duration": (dt.timedelta(0), "PT0S"),
    "decimal": (decimal.Decimal("1.50"), "1.50"),
    "uuid": (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    "path": (PurePosixPath("/a/b"), "/a/b"),
    "complex": (1 + 2j, "1+2j"),
    "bytes": (b"abc", "abc"),
    "keys": (
        {1: 1, 1.5: 2, None: 4, DAY: 5, HOUR: 6, Colour.RED: 7, (1, "a"): 8, b"b": 9, uuid.UUID(int=5): 0},
        {
            "1": 1, "1.5": 2, "None": 4, "2026-03-01": 5, "PT1H": 6, "red": 7, "1,a": 8, "b": 9,
            "00000000-0000-0000-0000-000000000005": 0,
        },
    ),
    "nested": ([{"a": (Point(1.0, [Row(row_count=1)]),)}],
               [{"a": [{"x": 1.0, "tag": [{"rowCount": 1, "extraPart": None}]}]}]),
}  # fmt: skip
"""As pydantic writes values of unknown type, and so the SDK."""

BEYOND_PYDANTIC: dict[str, tuple[Any, Any]] = {
    "numpy int": (np.int64(3), 3),
    "numpy float": (np.float32(0.5), 0.5),
    "numpy truth": (np.bool_(True), True),
    "array": (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
    "array of objects": (np.array([Colour.RED, DAY], dtype=object), ["red", "2026-03-01"]),
    "numpy date": (np.datetime64("2026-03-01"), "2026-03-01"),
    "numpy instant": (np.datetime64("2026-03-01T12:00:00", "ns"), "2026-03-01T12:00:00"),
    "numpy duration": (np.timedelta64(1, "h"), "PT1H"),
    "numpy key": ({np.int64(3): 1, np.bool_(True): 2}, {"3": 1, "true": 2}),
    "mapping": (MappingProxyType({"a": HOUR}), {"a": "PT1H"}),
    "range": (range(3), [0, 1, 2]),
    "set of sets": ({frozenset({1})}, [[1]]),
    "model with numpy": (Row(row_count=1, extra_part=np.int64(3)), {"rowCount": 1, "extraPart": 3}),
}
"""What pydantic refuses, or has only a text for."""

NOTED: dict[str, tuple[Any, Any, str]] = {
    "nan": ({"a": [1.0, math.nan]}, {"a": [1.0, None]}, "a[1]: JSON has no NaN"),
    "infinity": (-math.inf, None, "JSON has no NaN"),
    "numpy nan": ({"a": np.array([math.nan, 1])}, {"a": [None, 1.0]}, "a[0]: JSON has no NaN"),
    "binary": ({"a": b"\xff\xfe"}, {"a": "//4="}, "a: these bytes are not text"),
    "class": ([int], ["<class 'int'>"], "[0]: a value of type type has no form"),
    "exception": (ValueError("x"), "x", "a value of type ValueError has no form"),
}
"""What JSON does not say in full, with the beginning of the note."""
