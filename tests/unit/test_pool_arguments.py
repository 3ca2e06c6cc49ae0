"""Arguments as bytes: whatever the worker could not import travels by value."""

from __future__ import annotations

import importlib.util
import pickle
import sys
from pathlib import Path
from types import ModuleType

import pytest

from python_mcp_server.pool.arguments import dump_arguments

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
def test_an_instance_of_a_class_that_only_this_process_knows_travels_by_value(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, name, ModuleType(name))  # puts back what was there
    parcel = loaded_by_path(name, tmp_path / "served.py").Parcel()
    data = dump_arguments(("id", "label", [parcel]))
    sys.modules[name] = ModuleType(name)
    assert pickle.loads(data)[2][0].content == 7


def test_an_instance_of_a_class_that_can_be_imported_travels_by_name():
    assert b"cloudpickle" not in dump_arguments(("id", "label", [Path("a")]))
