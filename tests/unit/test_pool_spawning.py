"""What a program may be short of when it starts a worker."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from loky.backend import spawn

from python_mcp_server.pool.spawning import fit_to_spawn

pytestmark = pytest.mark.skipif(os.name != "posix", reason="masks and descriptors are those of POSIX")


def test_a_ctrl_c_while_a_worker_starts_does_not_reach_it():
    with fit_to_spawn():
        done = subprocess.run(["sh", "-c", "kill -INT $$; echo lives"], stdout=subprocess.PIPE, check=False)
    assert done.stdout == b"lives\n"


@pytest.mark.parametrize("closed", [None, io.StringIO()])
def test_a_stream_that_cannot_be_flushed_is_replaced_for_that_time_only(
    closed: Any, monkeypatch: pytest.MonkeyPatch
):
    if closed is not None:
        closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    with fit_to_spawn():
        sys.stdout.flush()
    assert sys.stdout is closed


def test_a_worker_of_a_program_whose_directory_is_gone_begins_at_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "own").mkdir()
    monkeypatch.chdir(tmp_path / "own")
    (tmp_path / "own").rmdir()
    assert spawn.get_preparation_data("worker", init_main_module=False)["dir"] == os.sep
