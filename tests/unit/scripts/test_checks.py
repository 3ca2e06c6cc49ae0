"""What scripts/check looks for beside ruff, pyright and import-linter."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from checks import reference, structure
from tests.helpers import ROOT


def modules(**sources: str) -> dict[str, tuple[Path, ast.Module]]:
    """A package of these modules, as the check reads it."""
    named = {name.replace("__", "."): source for name, source in sources.items()}
    return {f"python_mcp_server.{name}": (Path(name), ast.parse(source)) for name, source in named.items()}


def rings(trees: dict[str, tuple[Path, ast.Module]]) -> set[frozenset[str]]:
    found = structure.cycles(structure.imports(trees))
    return {frozenset(name.removeprefix("python_mcp_server.") for name in ring) for ring in found}


@pytest.mark.parametrize(
    "back",
    [
        "if TYPE_CHECKING:\n    from python_mcp_server.a import A",
        "def f():\n    from python_mcp_server import a",
    ],
    ids=["for types", "in a function"],
)
def test_an_import_that_leads_back_closes_a_cycle(back: str):
    trees = modules(a="from python_mcp_server.b import B", b="from python_mcp_server.c import C", c=back)
    assert rings(trees) == {frozenset({"a", "b", "c"})}


def test_imports_in_one_direction_are_no_cycle():
    trees = modules(
        a="from python_mcp_server.b import B\nfrom python_mcp_server.c import C", b="import os", c=""
    )
    assert rings(trees) == set()


def test_a_class_name_in_two_modules_is_found():
    assert structure.classes_twice(modules(a="class Plan: ...", b="class Plan: ...\nclass Other: ...")) == {
        "Plan"
    }


def test_a_module_without_a_line_in_the_map_of_its_package_is_found():
    trees = modules(
        jobs="'''Jobs.\n\nrun  one run\n* `slots`: slots\n'''",
        jobs__run="",
        jobs__slots="",
        jobs__one="",
        model="",
    )
    assert structure.unmapped(trees) == ["python_mcp_server.jobs.one"]


def test_a_long_name_of_a_test_is_found(tmp_path: Path):
    short, long = (f"test_{'x' * length}" for length in (64, 65))
    tests = tmp_path / "test_names.py"
    tests.write_text(
        f"def {short}(): ...\nclass Test:\n    async def {long}(self): ...\ndef helper_{long}(): ...\n"
    )
    assert structure.long_names([tests]) == [long]


def test_a_new_cycle_and_one_that_is_gone_both_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(structure, "KNOWN_CYCLES", frozenset({"settings"}))
    monkeypatch.setattr(structure, "cycles", lambda _: {frozenset({"python_mcp_server.jobs.a"})})
    assert structure.main() == 1
    said = capsys.readouterr().out
    assert "cycle: jobs.a" in said
    assert "no cycle any more: settings" in said


def test_an_old_reference_is_shown_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    old = tmp_path / "reference.md"
    text = (ROOT / "docs" / "reference.md").read_text("utf-8")
    old.write_text(text.replace("### py_wait_job", "### py_await_job"), "utf-8")
    monkeypatch.setattr(reference, "PAGE", old)
    monkeypatch.setattr(reference, "page", lambda: text)
    monkeypatch.setattr("sys.argv", ["reference", "--check"])
    assert reference.main() == 1
    assert "-### py_await_job" in capsys.readouterr().out
