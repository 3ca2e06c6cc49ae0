"""The tests that the README of the tests names are there."""

from __future__ import annotations

import re

from tests.helpers import ROOT


def test_every_test_that_the_readme_names_exists() -> None:
    page = (ROOT / "tests" / "README.md").read_text("utf-8")
    named = set(re.findall(r"`(test_\w+)`", page))
    sources = [path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    defined = {
        name for source in sources for name in re.findall(r"^(?:async )?def (test_\w+)", source, re.MULTILINE)
    }
    assert len(named) > 50
    assert named <= defined
