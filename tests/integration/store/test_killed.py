"""SIGKILL at any instruction: the store opens, and every acknowledged write is in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from python_mcp_server.store.files import FileJobStore
from tests.helpers.programs import python, run_python
from tests.helpers.store_kills import AFTER, SCENARIOS

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")

LIVES = """
import sys
from pathlib import Path
from python_mcp_server.model import new_job_id
from tests.helpers.store_kills import life

def say(*words):
    sys.stdout.write(" ".join(words) + "\\n")
    sys.stdout.flush()

while True:
    life(new_job_id(), 100_000)(Path(sys.argv[1]), say)
"""


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_writer_killed_at_each_step_loses_nothing_it_acknowledged(tmp_path: Path, scenario: str):
    done = run_python("-m", "tests.helpers.store_kills", tmp_path, scenario, deadline_s=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) >= 20


def test_writers_killed_at_any_instant_lose_nothing_they_acknowledged(home: Path):
    FileJobStore(home).close()
    acknowledged: dict[str, str] = {}
    for wanted_lines in (1, 7, 40, 90):
        with python("-c", LIVES, home) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(wanted_lines)]
            process.kill()
            lines += process.stdout.readlines()
        acknowledged |= dict(line.split() for line in lines if line.endswith("\n"))
    store = FileJobStore(home)
    listed = store.list(limit=10_000)[0]
    found = {job.id: job.status for job in listed}
    assert len(found) == len(listed)
    assert store.damaged() == []
    for job_id, word in acknowledged.items():
        assert found.get(job_id) in AFTER[word], (job_id, word)
    store.close()
