"""Marks that several files of tests share."""

from __future__ import annotations

from typing import Any

import pytest


def thorough(*values: Any) -> Any:
    """A case that takes another way through what the cases beside it show already: it runs with
    `scripts/test --all`, so that everything else is quick enough to be run each time."""
    return pytest.param(*values, marks=pytest.mark.thorough)
