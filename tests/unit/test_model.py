"""Records go through JSON and come back the same; ids sort, and no two are alike."""

from __future__ import annotations

import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from python_mcp_server import model
from python_mcp_server.model import Failure, Job, JobProgress, JobState, ProcessIdentity, Usage

TEXT = st.text(max_size=20)
OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2200, 1, 1), timezones=OFFSETS)  # noqa: DTZ001
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
PROGRESS = st.builds(JobProgress, NUMBERS, st.none() | NUMBERS, st.none() | TEXT)
KILOBYTES = st.integers(0, 10**10).map(lambda number: number * 1000)  # the wire's resolution
USAGES = st.builds(
    Usage,
    rss_bytes=KILOBYTES,
    peak_rss_bytes=KILOBYTES,
    cpu_seconds=st.integers(0, 10**9).map(lambda number: number / 1000),
    cpu_percent=st.none() | NUMBERS,
    processes=st.integers(0, 10**6),
    source=TEXT,
)
IDENTITIES = st.builds(ProcessIdentity, st.integers(1, 2**22), st.integers(0, 2**63), TEXT, TEXT)
KNOWN = frozenset(Job.__dataclass_fields__)
JOBS = st.builds(
    Job,
    id=TEXT,
    label=TEXT,
    tool=TEXT,
    status=st.sampled_from(JobState),
    created_at=MOMENTS,
    started_at=st.none() | MOMENTS,
    completed_at=st.none() | MOMENTS,
    message=st.none() | TEXT,
    error=st.none() | TEXT,
    error_kind=st.none() | TEXT,
    result=PLAIN,
    result_note=st.none() | TEXT,
    progress=st.none() | PROGRESS,
    usage=st.none() | USAGES,
    ending=st.none() | TEXT,
    owner=st.none() | IDENTITIES,
    worker=st.none() | IDENTITIES,
    background=st.booleans(),
    principal=st.none() | TEXT,
    call=st.none() | st.dictionaries(TEXT, PLAIN, min_size=1, max_size=3),
    missed_at=st.none() | MOMENTS,
    extra=st.dictionaries(TEXT.filter(lambda key: key not in KNOWN), PLAIN, max_size=3),
)
MINIMAL = {"id": "0a", "label": "sum", "status": "running", "created_at": "2026-01-02T03:04:05+00:00"}


@given(JOBS)
def test_a_job_comes_back_from_its_record_as_it_was(job: Job) -> None:
    assert Job.from_record(json.loads(json.dumps(job.to_record()))) == job


def test_every_field_of_a_job_is_in_its_record() -> None:
    job = Job.from_record(MINIMAL | {"options": {"queue": "default"}, "schedule": {"name": "nightly"}})
    assert job.to_record().keys() == KNOWN - {"extra"} | {"queueing"}


def test_keys_of_a_newer_version_survive_a_change() -> None:
    job = Job.from_record({**MINIMAL, "shard": 7}).evolve(status=JobState.COMPLETED)
    assert job.extra == {"shard": 7}
    assert job.to_record()["shard"] == 7


def test_what_tools_show_holds_no_process_identity() -> None:
    shown = Job.from_record({**MINIMAL, "owner": {"pid": 1, "start_ticks": 2}, "shard": 7}).to_json()
    assert shown.keys().isdisjoint({"owner", "worker", "ending", "background", "principal", "extra", "shard"})


@pytest.mark.parametrize(
    "damage",
    [
        {"status": "sleeping"},
        {"created_at": "yesterday"},
        {"created_at": 5},
        {"progress": {"total": 3}},
        {"owner": {"pid": 1}},
        {"progress": "half"},
    ],
)
def test_what_is_no_record_is_refused(damage: dict[str, object]) -> None:
    with pytest.raises((KeyError, ValueError, TypeError)):
        Job.from_record({**MINIMAL, **damage})


@pytest.mark.parametrize("missing", ["id", "label", "status", "created_at"])
def test_a_record_without_a_needed_key_is_refused(missing: str) -> None:
    record = {key: value for key, value in MINIMAL.items() if key != missing}
    with pytest.raises((KeyError, TypeError)):
        Job.from_record(record)


def test_a_time_without_offset_is_taken_as_utc() -> None:
    assert model.moment("2026-01-02T03:04:05") == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_exactly_the_last_three_states_are_terminal() -> None:
    terminal = {state.value for state in JobState if state.terminal}
    assert terminal == {"completed", "failed", "cancelled"}


def test_a_state_reads_as_its_word() -> None:
    assert f"{JobState.INPUT_REQUIRED}" == str(JobState.INPUT_REQUIRED) == "input_required"


def test_ids_sort_by_creation(monkeypatch: pytest.MonkeyPatch) -> None:
    start = time.time_ns()
    later = itertools.count(start, 1_000_000)
    monkeypatch.setattr(time, "time_ns", lambda: next(later))
    ids = [model.new_job_id() for _ in range(2000)]
    assert ids == sorted(ids)


def test_ids_still_sort_in_the_year_2500(monkeypatch: pytest.MonkeyPatch) -> None:
    today = model.new_job_id()
    far = int(datetime(2500, 1, 1, tzinfo=UTC).timestamp()) * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: far)
    assert today < model.new_job_id()


def test_ids_of_many_threads_are_unique_and_of_one_shape() -> None:
    with ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(lambda _: model.new_job_id(), range(5000)))
    assert len(set(ids)) == 5000
    assert {len(job_id) for job_id in ids} == {34}
    assert set("".join(ids)) <= set("0123456789abcdefghjkmnpqrstvwxyz")


def test_every_random_bit_of_an_id_varies() -> None:
    tails = [model.new_job_id()[9:] for _ in range(2000)]
    assert all(len(set(column)) == 32 for column in zip(*tails, strict=True))


@pytest.mark.parametrize(("message", "sentence"), [("too big", "ValueError: too big"), ("", "ValueError")])
def test_a_failure_reads_as_python_prints_it(message: str, sentence: str) -> None:
    assert Failure("ValueError", message).sentence == sentence


@pytest.mark.parametrize(
    ("current", "total", "percentage"),
    [
        (1, 4, 25),
        (5, 4, 100),
        (-1, 4, 0),
        (0, 0, None),
        (1, 0, None),
        (3, None, None),
        (1, -2, 0),
        (1, float("inf"), 0),
        (float("nan"), 4, None),
        (float("inf"), float("inf"), None),
    ],
)
def test_progress_has_a_percentage_where_its_total_is_known(
    current: float, total: float | None, percentage: float | None
):
    assert JobProgress(current, total).percentage == percentage


def test_the_framework_has_five_words_for_states():
    words = [state.word for state in JobState]
    assert words == ["queued", "running", "running", "completed", "failed", "cancelled"]
