"""Arguments as bytes: whatever the worker could not import travels by value."""

from __future__ import annotations

import importlib.util
import pickle
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from python_mcp_server.pool.pickling import HEAVY_BYTES, dump_arguments, exceed_inline_size

SOURCE = "class Parcel:\n    content = 7\n"


def loaded_by_path(name: str, path: Path) -> ModuleType:
    """A module under a name that leads nowhere, as servers are loaded by their file."""
    path.write_text(SOURCE, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["__main__", "served_by_its_path"])
def test_an_instance_of_a_class_without_an_import_travels_by_value(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, name, ModuleType(name))  # puts back what was there
    parcel = loaded_by_path(name, tmp_path / "served.py").Parcel()
    data = dump_arguments(("id", "label", [parcel]))
    sys.modules[name] = ModuleType(name)
    assert pickle.loads(data)[2][0].content == 7


class Sized:
    nbytes = HEAVY_BYTES


def endless() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    ("value", "heavy"),
    [
        (1, False),
        ("x" * 1000, False),
        ({"rows": [{"a": n, "b": str(n)} for n in range(100)]}, False),
        (Path("a"), False),
        (b"x" * HEAVY_BYTES, True),
        ({"rows": [{"a": n, "b": str(n)} for n in range(10_000)]}, True),
        ([[[0] * 100_000]], True),
        (SimpleNamespace(inner=SimpleNamespace(text="x" * HEAVY_BYTES)), True),
        (Sized(), True),
        (endless(), True),
    ],
)
def test_arguments_are_heavy_by_their_contents(value: Any, heavy: bool):
    assert exceed_inline_size((value,), {}) is heavy
    assert exceed_inline_size((), {"name": value}) is heavy


def test_arguments_that_are_made_in_a_thread_are_the_same_bytes():
    fields = ("id", "label", [{"a": n, "b": b"x" * 100} for n in range(5_000)])
    assert pickle.loads(dump_arguments(fields, in_thread=True)) == fields


def test_an_instance_of_a_class_that_can_be_imported_travels_by_name():
    assert b"cloudpickle" not in dump_arguments(("id", "label", [Path("a")]))
