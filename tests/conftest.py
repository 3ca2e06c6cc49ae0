"""Fixtures of all tests: a home of its own for each, and no process left behind."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.helpers import leftovers

settings.register_profile("shared-machine", deadline=None, max_examples=50)  # timings belong to benchmarks
settings.load_profile("shared-machine")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` means: the tests wait for other processes about as long as they compute."""
    return 2 * (os.cpu_count() or 1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share the tests out so that few servers are started; another `--dist` is left alone."""
    if config.getvalue("dist") != "load":
        return None
    from tests.helpers.together import Together  # only who has xdist comes here

    return Together(config, log)


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    """Fail the test that leaves a process behind: a child, or whoever carries the test's id."""
    test_id = uuid.uuid4().hex
    before = leftovers.processes()
    os.environ[leftovers.TEST_VARIABLE] = test_id
    try:
        yield
        found = leftovers.left_behind(test_id, before)
    finally:
        del os.environ[leftovers.TEST_VARIABLE]
    report = "\n".join(map(leftovers.describe, found))
    for process in found:
        leftovers.end(process)
    if found:
        pytest.fail(f"the test left these processes behind:\n{report}", pytrace=False)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state directory of this test; nothing is there yet."""
    path = tmp_path / "home"
    monkeypatch.setenv("PYTHON_MCP_HOME", str(path))
    monkeypatch.setenv("PYTHON_MCP_SPARE_LANES", "0")  # each costs 0.2 s of CPU, called or not
    monkeypatch.setenv("PYTHON_MCP_MIN_FREE_MEMORY_MB", "0")  # the machine may be short of it, for others
    return path
