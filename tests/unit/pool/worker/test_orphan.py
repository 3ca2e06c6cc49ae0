"""A worker without a parent: whatever goes wrong with the record, the job goes on and its end is written."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from python_mcp_server.errors import JobNotFound, StoreError
from python_mcp_server.model import JobProgress, Outcome, Usage
from python_mcp_server.pool.worker import orphan
from python_mcp_server.pool.worker.orphan import Body, DetachedJob, Orphan


class FakeRecord:
    """Fails as often as it is told; keeps what was committed."""

    grace_s = 0.05

    def __init__(self, failures: list[Exception], *, doomed: bool = False) -> None:
        self.failures = failures
        self.doomed = doomed
        self.refreshed: list[tuple[JobProgress | None, Usage | None]] = []
        self.committed: list[tuple[Outcome, JobProgress | None, Usage | None]] = []
        self.closed = self.removed = False

    def refresh(self, progress: JobProgress | None, usage: Usage | None) -> bool:
        self._fail()
        self.refreshed.append((progress, usage))
        return self.doomed

    def commit(self, outcome: Outcome, progress: JobProgress | None, usage: Usage | None) -> None:
        self._fail()
        self.committed.append((outcome, progress, usage))

    def gone(self) -> bool:
        return self.removed

    def close(self) -> None:
        self.closed = True

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)


def open_record(_job_id: str, record: FakeRecord) -> FakeRecord:
    return record


def orphan_of(
    record: FakeRecord, ends: list[Outcome | None], *, cancel: Callable[[str], bool] = bool
) -> Orphan:
    def await_end(_wait_s: float) -> Outcome | None:
        return ends.pop(0) if len(ends) > 1 else ends[0]

    def fail_to_hand() -> None:
        raise OSError("no links")

    kept = DetachedJob("no-such-job", f"{__name__}:open_record", record)
    return Orphan(kept, Body(0.0, lambda: JobProgress(3, 4, "far"), await_end, cancel, fail_to_hand))


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphan, "_RETRY_S", 0.0)


def test_an_end_is_written_as_soon_as_the_store_takes_it():
    record = FakeRecord([StoreError("full"), OSError("no descriptors"), MemoryError()])
    orphan_of(record, [Outcome("done")]).run_to_completion()
    ((outcome, progress, usage),) = record.committed
    assert (outcome, progress) == (Outcome("done"), JobProgress(3, 4, "far"))
    assert usage
    assert usage.rss_bytes > 0
    assert record.closed


def test_progress_and_usage_are_written_while_the_body_runs():
    record = FakeRecord([])
    orphan_of(record, [None, None, None, None, Outcome()]).run_to_completion()
    assert len(record.refreshed) == 2  # at each second look
    progress, usage = record.refreshed[0]
    assert progress == JobProgress(3, 4, "far")
    assert usage


def test_an_end_that_cannot_be_written_for_very_long_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(orphan, "PATIENCE_S", 0.05)
    record = FakeRecord([StoreError("full")] * 1_000_000)
    orphan_of(record, [Outcome("done")]).run_to_completion()
    assert record.committed == []
    assert 0 < len(record.failures) < 1_000_000


def test_a_removed_record_is_not_tried_again_and_the_body_goes_on():
    record = FakeRecord([JobNotFound("no-such-job"), JobNotFound("no-such-job")])
    orphan_of(record, [None, None, Outcome("done")]).run_to_completion()
    assert (record.committed, record.failures) == ([], [])


def test_trouble_while_the_body_runs_is_said_once(caplog: pytest.LogCaptureFixture):
    record = FakeRecord([StoreError("full")] * 3)
    orphan_of(record, [None] * 9 + [Outcome("done")]).run_to_completion()
    assert len(record.committed) == 1
    assert [line for line in caplog.messages if "full" in line] == [
        "the state of job no-such-job cannot be written now: StoreError('full')"
    ]


def test_a_body_that_broke_stderr_does_not_cost_its_outcome(monkeypatch: pytest.MonkeyPatch):
    record: Any = FakeRecord([StoreError("full"), StoreError("full")])
    run = orphan_of(record, [None, Outcome("done")])
    monkeypatch.setattr(sys, "stderr", "nonsense")
    run.run_to_completion()
    assert len(record.committed) == 1


@pytest.mark.parametrize("hears", [True, False])
def test_an_end_reason_reaches_the_body_and_a_deaf_one_writes_nothing(hears: bool):
    record = FakeRecord([], doomed=True)
    asked: list[str] = []
    ends: list[Outcome | None] = [None]

    def cancel(job_id: str) -> bool:
        asked.append(job_id)
        if hears:
            ends[:] = [Outcome(failure=None, value="late")]
        return True

    orphan_of(record, ends, cancel=cancel).run_to_completion()
    assert asked[0] == "no-such-job"
    assert [outcome.value for outcome, _, _ in record.committed] == (["late"] if hears else [])
