"""The versions that scripts/ installs: exact, complete, and the same in every environment of the product."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]
PINS = ROOT / "scripts" / "pins"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pinned(name: str) -> dict[str, list[Requirement]]:
    found: dict[str, list[Requirement]] = {}
    for line in (PINS / f"{name}.txt").read_text().splitlines():
        found.setdefault(Requirement(line).name, []).append(Requirement(line))
    return found


def named_by(extra: str | None) -> list[Requirement]:
    """What pyproject.toml asks for, with what an extra takes over from another."""
    lines = PROJECT["dependencies"] + (PROJECT["optional-dependencies"][extra] if extra else [])
    found: list[Requirement] = []
    for requirement in map(Requirement, lines):
        if requirement.name == PROJECT["name"]:
            found += [each for inner in requirement.extras for each in named_by(inner)]
        else:
            found.append(requirement)
    return found


FILES = sorted(path.stem for path in PINS.glob("*.txt"))


@pytest.mark.parametrize("name", FILES)
def test_every_line_names_one_exact_version_and_no_place(name: str) -> None:
    for line in (PINS / f"{name}.txt").read_text().splitlines():
        assert re.fullmatch(r"[a-z0-9.-]+==[^\s;@/]+( ; .+)?", line), line


@pytest.mark.parametrize(
    ("name", "extra"), [("run", None), ("test", "test"), ("check", "check"), ("bench", "bench")]
)
def test_the_pins_are_within_the_ranges_of_the_project(name: str, extra: str | None) -> None:
    pins = pinned(name)
    for wanted in named_by(extra):
        if wanted.marker is not None and wanted.name not in pins:
            continue  # for other versions of Python than the pins begin with
        for pin in pins[wanted.name]:
            (exact,) = pin.specifier
            assert wanted.specifier.contains(exact.version, prereleases=True), f"{pin} is not {wanted}"


def versions(name: str) -> dict[str, set[str]]:
    return {package: {str(pin.specifier) for pin in pins} for package, pins in pinned(name).items()}


@pytest.mark.parametrize(("smaller", "larger"), [("run", "test"), ("test", "check")])
def test_a_larger_environment_has_the_versions_of_the_smaller_one(smaller: str, larger: str) -> None:
    beyond = versions(larger)
    assert {name: found for name, found in versions(smaller).items() if beyond.get(name) != found} == {}


def test_no_peer_of_the_benchmarks_is_tested_with() -> None:
    assert not {"fastmcp-tasks", "huey", "pebble", "pydocket"} & set(pinned("check"))


def test_pytest_itself_is_one_that_is_pinned_or_in_range() -> None:
    wanted = {requirement.name: requirement for requirement in named_by("test")}["pytest"]
    assert wanted.specifier.contains(version("pytest"), prereleases=True)
