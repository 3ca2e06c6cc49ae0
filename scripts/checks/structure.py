"""Checks what neither ruff nor import-linter sees: cycles of imports, reused class names, package maps, long
test names.

An import under `if TYPE_CHECKING:` or within a function counts too, because a reader follows it as any other.
Known exceptions are listed here. The lists only shrink: an entry that no longer holds fails as well.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
SOURCES: Final = ROOT / "src"
PACKAGE: Final = "python_mcp_server"

KNOWN_CYCLES: Final = frozenset[str]()
"""The packages in which modules still import each other; "the package" for a cycle over several."""
KNOWN_TWICE: Final = frozenset[str]()
LONGEST_TEST_NAME: Final = 69


def main() -> int:
    """Print what is wrong, and return how the program ends."""
    trees = {module_of(path): (path, ast.parse(path.read_text("utf-8"))) for path in SOURCES.rglob("*.py")}
    rings = {_shown(ring): _common(ring) for ring in cycles(imports(trees))}
    found = [f"cycle: {ring}" for ring, place in sorted(rings.items()) if place not in KNOWN_CYCLES]
    found += [f"no cycle any more: {place}" for place in sorted(KNOWN_CYCLES - {*rings.values()})]
    twice = classes_twice(trees)
    found += [f"class name used twice: {name}" for name in sorted(twice - KNOWN_TWICE)]
    found += [f"class name not used twice any more: {name}" for name in sorted(KNOWN_TWICE - twice)]
    found += [f"not in the map of its package: {name}" for name in unmapped(trees)]
    tests = sorted((ROOT / "tests").rglob("test_*.py"))
    found += [f"name of a test over {LONGEST_TEST_NAME} characters: {name}" for name in long_names(tests)]
    for line in found:
        print(line)
    if left := sorted(ring for ring, place in rings.items() if place in KNOWN_CYCLES):
        print(f"known cycles, to be removed: {'; '.join(left)}")
    return 1 if found else 0


def module_of(path: Path) -> str:
    """Return the name under which a file is imported."""
    parts = path.relative_to(SOURCES).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def unmapped(trees: dict[str, tuple[Path, ast.Module]]) -> list[str]:
    """Return the modules below the first level that the docstring of their package does not name."""
    return [name for name in sorted(trees) if name.count(".") > 1 and not _is_mapped(name, trees)]


def _is_mapped(name: str, trees: dict[str, tuple[Path, ast.Module]]) -> bool:
    package, _, module = name.rpartition(".")
    package_map = ast.get_docstring(trees[package][1]) or ""
    return re.search(rf"^{module}/? |`{module}`", package_map, re.MULTILINE) is not None


def imports(trees: dict[str, tuple[Path, ast.Module]]) -> dict[str, set[str]]:
    """Return which modules each module names in its imports, wherever they stand in it."""
    return {name: set(_imported(tree, {*trees})) for name, (_, tree) in trees.items()}


def _imported(tree: ast.Module, modules: set[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module:
            full = (f"{node.module}.{alias.name}" for alias in node.names)
            named = {each if each in modules else node.module for each in full}
            yield from named & modules


def cycles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """Return the groups of modules that each lead to every other of their group."""
    reached = {name: _reached_from(name, graph) for name in graph}
    return {
        frozenset(other for other in reached[name] if name in reached[other])
        for name in graph
        if name in reached[name]
    }


def _reached_from(start: str, graph: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    ahead = [*(graph[start] - {start})]
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead += graph[name] - {name}
    return found


def classes_twice(trees: dict[str, tuple[Path, ast.Module]]) -> set[str]:
    """Return the names that more than one class has."""
    places: defaultdict[str, int] = defaultdict(int)
    for _, tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name] += 1
    return {name for name, count in places.items() if count > 1}


def long_names(tests: Iterable[Path]) -> list[str]:
    """Return the names of tests that are too long to be read at a glance."""
    named = (
        node.name
        for path in tests
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return [name for name in named if name.startswith("test_") and len(name) > LONGEST_TEST_NAME]


def _shown(ring: frozenset[str]) -> str:
    return ", ".join(sorted(name.removeprefix(f"{PACKAGE}.") for name in ring))


def _common(ring: frozenset[str]) -> str:
    """Return the package directly below the root that a whole cycle lies in."""
    places = {name.split(".")[1] if "." in name else PACKAGE for name in ring}
    return places.pop() if len(places) == 1 else "the package"


if __name__ == "__main__":
    sys.exit(main())
