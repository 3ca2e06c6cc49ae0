"""How bodies are named on one side and found on the other."""

from __future__ import annotations

import sys
import threading
import types
from pathlib import Path

import pytest

from python_mcp_server.errors import InvalidInput
from python_mcp_server.pool.pickling import dump_arguments
from python_mcp_server.pool.references import Bodies, refer
from tests.helpers import bodies


def test_an_importable_body_travels_by_its_name():
    reference = refer(bodies.add)
    assert (reference.name, reference.code) == ("tests.helpers.bodies:add", None)
    assert Bodies().find(reference.name, None) is bodies.add


def test_the_name_of_a_decorated_function_leads_to_its_body():
    body = bodies.decorated.__wrapped__  # type: ignore[attr-defined]
    reference = refer(body)
    assert reference.name == "tests.helpers.bodies:decorated"
    assert Bodies().find(reference.name, None) is body


def test_a_closure_travels_by_value():
    factor = 3
    reference = refer(lambda number: number * factor)
    assert reference.name.startswith("digest:")
    assert Bodies().find(reference.name, reference.code)(14) == 42


def test_a_name_that_leads_to_another_body_is_not_used(monkeypatch: pytest.MonkeyPatch):
    former = bodies.add
    monkeypatch.setattr(bodies, "add", bodies.pid)
    assert refer(former).code is not None


def test_a_module_that_other_processes_cannot_import_travels_by_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    module = types.ModuleType("server_by_path")
    module.__file__ = str(tmp_path / "server.py")
    exec("OFFSET = 5\ndef helper(n): return n + OFFSET\ndef body(n): return helper(n)", module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    reference = refer(module.body)
    assert reference.code is not None
    monkeypatch.delitem(sys.modules, module.__name__)
    assert Bodies().find(reference.name, reference.code)(1) == 6


def test_a_module_whose_name_finds_another_file_travels_by_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "twice.py").write_text("def body(): return 'the one on the path'")
    monkeypatch.syspath_prepend(tmp_path)
    module = types.ModuleType("twice")
    module.__file__ = str(tmp_path / "elsewhere" / "twice.py")
    exec("def body(): return 'the one that runs'", module.__dict__)
    monkeypatch.setitem(sys.modules, "twice", module)
    reference = refer(module.body)
    assert reference.code is not None
    assert Bodies().find(reference.name, reference.code)() == "the one that runs"


def test_a_body_that_cannot_travel_is_refused_with_the_reason():
    lock = threading.Lock()

    def body() -> None:
        lock.acquire()

    with pytest.raises(InvalidInput, match=r"cannot be sent to a worker.*lock"):
        refer(body)


class Ender:
    def __reduce__(self) -> str:
        raise SystemExit("not me")


def test_an_argument_that_exits_while_pickled_is_refused_like_others():
    ender = Ender()
    with pytest.raises(InvalidInput, match="not me"):
        refer(lambda: ender)
    with pytest.raises(InvalidInput, match="not me"):
        dump_arguments(("id", "tool", "body", (ender,), {}, "", None, None))


def test_a_body_that_was_never_sent_is_an_error_not_a_guess():
    with pytest.raises(ImportError, match="never sent"):
        Bodies().find("digest:00", None)


def test_a_name_that_leads_to_no_function_is_an_error():
    with pytest.raises(AttributeError, match="cannot be called"):
        Bodies().find("tests.helpers.bodies:LIFETIME_S", None)
