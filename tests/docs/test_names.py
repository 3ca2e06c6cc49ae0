"""Every module, path and name of the code that the pages name is there."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

from python_mcp_server import errors, limits
from tests.helpers import ROOT

SOURCES = ROOT / "src" / "python_mcp_server"
PAGES = [page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "reference.md"]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
OTHERS = {"mcp", "numpy", "pydantic", "starlette", "py_", "TypedDict", "__init__"}
"""Names that architecture.md mentions and that are not ours."""

MODULES = {
    ".".join(path.relative_to(SOURCES).with_suffix("").parts).removesuffix(".__init__"): path
    for path in SOURCES.rglob("*.py")
}
TOP_LEVEL = {name.partition(".")[0] for name in MODULES} - {"__init__", "__main__"}


def defined(path: Path) -> set[str]:
    """The functions, classes, methods and constants of a module."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def members() -> dict[str, set[str]]:
    """The methods of each class."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                parts = (
                    part for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)
                )
                found[node.name] |= {part.name for part in parts}
    return found


def code(page: Path) -> list[str]:
    """The words of a page that stand between backticks."""
    return re.findall(r"`([^`\n]+)`", page.read_text("utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_module_that_the_page_names_exists(page: Path) -> None:
    dotted = {word for word in code(page) if re.fullmatch(r"[a-z_]+(\.\w+)+", word)}
    for name in dotted:
        first, _, rest = name.removeprefix("python_mcp_server.").partition(".")
        if first not in TOP_LEVEL or rest in {"", "json", "toml"}:
            continue
        module, _, last = f"{first}.{rest}".rpartition(".")
        assert f"{module}.{last}" in MODULES or (module in MODULES and last in defined(MODULES[module])), name


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_each_path_of_the_project_that_the_page_names_exists(page: Path) -> None:
    for path in re.findall(r"(?<![\w/.-])(?:scripts|src|tests|docs)/[\w/.*-]+", page.read_text("utf-8")):
        assert list(ROOT.glob(path.rstrip("./"))), path


def test_the_map_of_the_architecture_has_each_package_and_module() -> None:
    block = ARCHITECTURE.read_text("utf-8").split("```")[1]
    packages = {
        path.parent.name for name, path in MODULES.items() if path.name == "__init__.py" and "." in name
    }
    shown = set(re.findall(r"^ *(\w+) {2,}", block, re.MULTILINE))
    assert shown == TOP_LEVEL | (packages - {"matplotlib_backend"})


def test_each_name_in_the_architecture_is_defined() -> None:
    tests = {name for path in (ROOT / "tests").rglob("test_*.py") for name in defined(path)}
    known = {name for path in MODULES.values() for name in defined(path)} | tests | TOP_LEVEL | OTHERS
    methods = members()
    for word in code(ARCHITECTURE):
        if re.fullmatch(r"\w+", word):
            assert word in known, word
        elif (found := re.fullmatch(r"([A-Z]\w+)\.(\w+)", word)) is not None:
            assert found[2] in methods[found[1]], word


def test_each_kind_of_error_is_explained() -> None:
    kinds = re.findall(r"^    (\w+)  +\S", (errors.__doc__ or "").partition("error_kind`")[2], re.MULTILINE)
    page = (ROOT / "docs" / "errors.md").read_text("utf-8")
    assert set(kinds) > {limits.TIME, limits.MEMORY, limits.CPU, limits.DISK}
    assert [kind for kind in kinds if f"`{kind}`" not in page] == []
