"""The file store against a dictionary, in any order of operations."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from python_mcp_server.errors import InvalidInput, JobNotFound
from python_mcp_server.model import Job, JobProgress, JobState, new_job_id, utc_now
from python_mcp_server.store.files import FileJobStore
from python_mcp_server.store.keys import key_of

STATES = st.sampled_from(list(JobState))
ODD = st.sampled_from(["a", "b", "job-1", "A-b.c"])


class StoreAgainstDictionary(RuleBasedStateMachine):
    ids = Bundle("ids")

    def __init__(self):
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="store-model-"))
        self.model: dict[str, Job] = {}

    @initialize()
    def open(self):
        self.store = FileJobStore(self.directory / "home")

    @rule(
        target=ids, job_id=ODD | st.builds(new_job_id), status=STATES, size=st.sampled_from([0, 10, 70_000])
    )
    def create(self, job_id: str, status: JobState, size: int):
        job = Job(
            job_id, "label", status, utc_now(), result="x" * size if status is JobState.COMPLETED else None
        )
        try:
            self.store.create(job)
            assert job_id not in self.model
            self.model[job_id] = job
        except InvalidInput:
            assert job_id in self.model
        return job_id

    @rule(job_id=ids, status=STATES, number=st.integers(0, 9))
    def update(self, job_id: str, status: JobState, number: int):
        old = self.model.get(job_id)
        try:
            new = self.store.update(
                job_id, lambda job: job.evolve(status=status, progress=JobProgress(number))
            )
        except JobNotFound:
            assert old is None
            return
        assert old is not None
        assert new == (
            old if old.status.terminal else old.evolve(status=status, progress=JobProgress(number))
        )
        self.model[job_id] = new

    @rule(status=STATES)
    def prune(self, status: JobState):
        going = {i for i, job in self.model.items() if job.status.terminal and job.status is status}
        pruned = self.store.prune(lambda job: job.status is status)
        self.model = {i: job for i, job in self.model.items() if i not in going}
        assert (pruned.removed, pruned.remaining) == (len(going), len(self.model))

    @rule()
    def open_again(self):
        self.store.close()
        self.store = FileJobStore(self.directory / "home")

    @rule(job_id=ids)
    def get(self, job_id: str):
        assert self.store.get(job_id) == self.model.get(job_id)

    @invariant()
    def every_job_is_listed_once(self):
        listed, more = self.store.list(limit=1000)
        assert not more
        assert sorted(job.id for job in listed) == sorted(self.model)
        keys = [key_of(job.id, job.created_at) for job in listed]
        assert keys == sorted(keys, reverse=True)

    def teardown(self):
        self.store.close()
        shutil.rmtree(self.directory)


TestStoreAgainstDictionary = StoreAgainstDictionary.TestCase
TestStoreAgainstDictionary.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
