"""Disks that are full or read-only: a sentence at the call, and nothing half written."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from python_mcp_server.errors import StoreError
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.store.files import FileJobStore
from tests.helpers.programs import run_python


def a_job() -> Job:
    return Job(new_job_id(), "label", JobState.RUNNING, utc_now())


def test_a_full_disk_is_named_at_the_call_and_costs_no_record(small_disk: Path):
    store, job = FileJobStore(small_disk / "home"), a_job()
    store.create(job)
    store.close()
    with open(small_disk / "filler", "wb", buffering=0) as filler:
        filler.write(b"x" * 2_000_000)
    with pytest.raises(StoreError, match=rf"free space on the disk of {small_disk}"):
        store.update(job.id, lambda old: old.evolve(status=JobState.COMPLETED, result="x" * 10_000))
    with pytest.raises(StoreError, match="free space"):
        store.create(a_job())
    assert store.get(job.id) == job
    assert list((small_disk / "home" / "jobs" / "tmp").iterdir()) == []
    (small_disk / "filler").unlink()
    done = store.update(job.id, lambda old: old.evolve(status=JobState.COMPLETED))
    assert store.get(job.id) == done
    store.close()


def test_a_disk_that_became_read_only_can_still_be_read(small_disk: Path):
    store, job = FileJobStore(small_disk / "home"), a_job()
    store.create(job)
    store.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreError, match=rf"make {small_disk}/home writable"):
        store.update(job.id, lambda old: old.evolve(status=JobState.COMPLETED))
    reader = FileJobStore(small_disk / "home")
    assert reader.get(job.id) == job
    assert reader.list() == ([job], False)
    reader.close()


@pytest.mark.skipif(os.name != "posix", reason="needs limits of a process")
def test_a_file_that_may_not_grow_is_refused_with_the_old_one_in_place(home: Path):
    code = """
import resource, sys
from pathlib import Path
from python_mcp_server.errors import StoreError
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.store.files import FileJobStore
store = FileJobStore(Path(sys.argv[1]))
job = Job(new_job_id(), "label", JobState.RUNNING, utc_now())
store.create(job)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    store.update(job.id, lambda old: old.evolve(error="x" * 10_000))
except StoreError as error:
    print(error)
found = store.get(job.id)
store.close()
print(found == job, list((Path(sys.argv[1]) / "jobs" / "tmp").iterdir()))
"""
    done = run_python("-c", code, home)
    assert f"free space on the disk of {home}" in done.stdout
    assert done.stdout.endswith("\nTrue []\n")
