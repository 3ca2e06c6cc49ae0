"""What every store promises, asked of each."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from python_mcp_server import JobResult
from python_mcp_server.errors import InvalidInput, JobNotFound
from python_mcp_server.model import Job, JobProgress, JobState, Usage, new_job_id, utc_now
from python_mcp_server.options import JobOptions, Retry
from python_mcp_server.store.contract import IN_PAGES, SHOWN_RESULT_BYTES, JobStore
from python_mcp_server.store.keys import PRIORITY_STEP_S, rank_of
from python_mcp_server.store.memory import InMemoryJobStore
from tests.helpers.stores import EVERY, made_in

TERMINAL = [state for state in JobState if state.terminal]
ODD_IDS = [
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "/etc/passwd",
    "a\0b",
    "x" * 101,
    "x" * 5000,
    "a\n",
    ".hidden",
    "ä",
    "\ud800",
]


@pytest.fixture(params=EVERY)
def store(request: pytest.FixtureRequest, home: Path) -> Iterator[JobStore]:
    made = made_in(home, request.param)
    yield made
    made.close()


def a_job(status: JobState = JobState.PENDING, **fields: object) -> Job:
    return replace(Job(new_job_id(), "a label", status, utc_now()), **fields)  # type: ignore[arg-type]


def ended(status: JobState = JobState.COMPLETED, **changes: object):
    return lambda job: job.evolve(status=status, completed_at=utc_now(), **changes)


def test_a_created_job_is_read_back_as_it_was(store: JobStore):
    job = a_job(progress=JobProgress(1, 2, "half"), usage=Usage(rss_bytes=1_000_000), extra={"newer": [1]})
    store.create(job)
    assert store.get(job.id) == job


def test_an_id_is_created_once(store: JobStore):
    job = a_job()
    store.create(job)
    with pytest.raises(ValueError, match=job.id):
        store.create(job.evolve(label="another"))
    assert store.get(job.id) == job


def test_the_id_of_a_finished_job_is_not_given_again(store: JobStore):
    job = a_job(JobState.COMPLETED)
    store.create(job)
    with pytest.raises(InvalidInput):
        store.create(job.evolve(status=JobState.PENDING))


def queued(**fields: object) -> Job:
    return replace(a_job(), background=True, call={"body": "a:b"}, **fields)  # type: ignore[arg-type]


def ids(store: JobStore, prefix: str, **how: object) -> list[str]:
    names = store.index_names(prefix)
    return [job.id for name in names for job in store.indexed(name, **how)]  # type: ignore[arg-type]


def test_queued_jobs_are_found_in_the_order_of_their_start(store: JobStore):
    times = [utc_now() + timedelta(milliseconds=n) for n in range(4)]
    priorities = zip((0, 5, 1, 5), times, strict=True)
    jobs = [queued(options=JobOptions(priority=priority), created_at=at) for priority, at in priorities]
    for job in jobs:
        store.create(job)
    expected = [jobs[1].id, jobs[3].id, jobs[2].id, jobs[0].id]
    assert ids(store, "ready.default") == expected
    assert ids(store, "ready.default", limit=2) == expected[:2]
    assert ids(store, "ready.default", limit=0) == []


def test_a_count_of_a_list_stops_where_it_is_told(store: JobStore):
    for _ in range(3):
        store.create(queued())
    (name,) = store.index_names("ready")
    assert [store.index_count(name, most) for most in (0, 2, 3, 9)] == [0, 2, 3, 3]
    assert store.index_count("ready.none", 9) == 0


def test_waiting_long_enough_is_worth_more_than_priority(store: JobStore):
    now = utc_now()
    old = queued(created_at=now - timedelta(seconds=2 * PRIORITY_STEP_S + 1))
    new = queued(created_at=now, options=JobOptions(priority=2))
    newer = queued(created_at=now, options=JobOptions(priority=3))
    for job in (new, old, newer):
        store.create(job)
    assert ids(store, "ready.default") == [newer.id, old.id, new.id]


def test_dead_letters_are_in_the_index_newest_first_until_removed(store: JobStore):
    times = [utc_now() + timedelta(hours=hours) for hours in (0, 1, 24)]
    dead = [queued(options=JobOptions(), id=new_job_id(at)) for at in times]
    others = [queued(options=JobOptions()) for _ in TERMINAL]
    for job in (*dead, *others):
        store.create(job)
    for job in dead:
        store.update(job.id, ended(JobState.FAILED))
    for job, state in zip(others, TERMINAL, strict=True):
        store.update(job.id, ended(state, call=None))
    *_, name = names = store.index_names("dead.")
    assert store.index_names("") == names
    assert ids(store, name) == [dead[2].id]
    assert [job.id for name in reversed(names) for job in store.indexed(name)] == [
        job.id for job in dead[::-1]
    ]
    assert store.remove(dead[0].id)
    assert sorted(ids(store, "dead.")) == sorted(job.id for job in dead[1:])
    store.prune(among=[JobState.FAILED])
    assert store.index_names("") == ()


def test_a_job_moves_through_the_lists_of_the_index(store: JobStore):
    first, soon = queued(), utc_now() + timedelta(seconds=5)
    options = JobOptions(after=(first.id,), queue="images")
    job = queued(waits_for=(first.id,), not_before=soon, options=options)
    store.create(job)
    assert store.index_names("") == (f"after.{first.id}",)
    store.update(job.id, lambda job: job.evolve(waits_for=()))
    assert ids(store, "delayed", until=rank_of(soon - timedelta(seconds=1))) == []
    assert ids(store, "delayed", until=rank_of(soon)) == [job.id]
    store.update(job.id, lambda job: job.evolve(not_before=None))
    assert ids(store, "ready.images") == [job.id]
    store.update(job.id, lambda job: job.evolve(status=JobState.RUNNING))
    assert (ids(store, "ready.images"), ids(store, "running")) == ([], [job.id])
    store.update(job.id, ended())
    assert ids(store, "running") == []
    assert store.index_names("") == ()


def test_options_are_read_back_as_they_were(store: JobStore):
    retry = Retry(3, on=ValueError, wait=2, lost_workers=True)
    order: dict[str, Any] = {"queue": "q", "priority": -3, "run_at": utc_now()}
    options = JobOptions(**order, key="k", key_concurrency=2, resources={"gpu": 1}, retry=retry)
    job = queued(options=options, attempt=2, attempts=({"attempt": 1, "error": "e"},), queued_at=utc_now())
    store.create(job)
    assert store.get(job.id) == job


def test_an_update_is_returned_and_read_back(store: JobStore):
    job = a_job()
    store.create(job)
    changed = store.update(job.id, lambda old: old.evolve(status=JobState.RUNNING))
    assert changed == store.get(job.id) == job.evolve(status=JobState.RUNNING)


def test_an_update_of_an_unknown_job_says_which(store: JobStore):
    for job_id in [new_job_id(), "unknown", *ODD_IDS]:
        with pytest.raises(JobNotFound) as caught:
            store.update(job_id, lambda job: job)
        assert caught.value.job_id == job_id


@pytest.mark.parametrize("status", TERMINAL)
def test_a_terminal_job_never_changes_and_change_is_not_called(store: JobStore, status: JobState):
    job = a_job(JobState.RUNNING)
    store.create(job)
    final = store.update(job.id, ended(status))
    assert store.update(job.id, lambda _: pytest.fail("called")) == final == store.get(job.id)


def test_a_change_that_raises_or_returns_another_job_leaves_all_as_it_was(store: JobStore):
    job = a_job()
    store.create(job)
    with pytest.raises(OSError, match="of the body"):
        store.update(job.id, lambda _: (_ for _ in ()).throw(OSError("of the body")))
    with pytest.raises(InvalidInput, match="other"):
        store.update(job.id, lambda old: old.evolve(id="other"))
    with pytest.raises(InvalidInput, match="no JSON"):
        store.update(job.id, ended(result=object()))
    assert store.get(job.id) == job


def test_of_two_racing_settlers_the_first_wins_and_both_agree(store: JobStore):
    for _ in range(20):
        job = a_job(JobState.RUNNING)
        store.create(job)
        seen: list[Job] = []
        gate = threading.Barrier(2)

        def settle(
            status: JobState, job_id: str = job.id, seen: list[Job] = seen, gate: threading.Barrier = gate
        ):
            gate.wait()
            seen.append(store.update(job_id, ended(status)))

        racers = [
            threading.Thread(target=settle, args=(s,)) for s in (JobState.CANCELLED, JobState.COMPLETED)
        ]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
        assert seen[0] == seen[1] == store.get(job.id)


def test_listing_is_newest_first_and_says_whether_there_is_more(store: JobStore):
    start = datetime(2025, 1, 1, tzinfo=UTC)
    ids = [new_job_id(start + timedelta(days=number)) for number in range(5)]
    for number in (3, 0, 4, 2, 1):
        status = list(JobState)[number]
        store.create(a_job(status, id=ids[number], created_at=start + timedelta(days=number)))
    fresh = a_job()
    store.create(fresh)
    assert ([job.id for job in store.list()[0]], store.list()[1]) == ([fresh.id, *reversed(ids)], False)
    shown, more = store.list(limit=2)
    assert ([job.id for job in shown], more) == ([fresh.id, ids[4]], True)
    assert store.list(limit=0) == ([], True)


@pytest.mark.parametrize("principal", [None, "ada"])
@pytest.mark.parametrize("status", [None, JobState.RUNNING, JobState.FAILED])
def test_pages_show_every_job_once_newest_first(
    store: JobStore, status: JobState | None, principal: str | None
):
    start = datetime(2025, 1, 1, tzinfo=UTC)
    for number in range(40):
        state = (JobState.RUNNING, JobState.FAILED)[number % 2]
        job_id = new_job_id(start + timedelta(minutes=number // 4))
        store.create(a_job(state, id=job_id, principal=("ada", "bob", None)[number % 3]))
    wanted = store.list(status, principal=principal)[0]
    found, before, more = list[Job](), None, True
    while more:
        page, more = store.list(status, 3, principal, before)
        assert len(page) == 3 or not more
        found += page
        before = page[-1].id
    assert (found, len(found) > 3) == (wanted, True)


def test_a_page_begins_before_a_job_that_is_gone_or_anothers(store: JobStore):
    old, gone, theirs = (a_job(JobState.FAILED, principal=who) for who in ("ada", "ada", "bob"))
    for job in (old, gone, theirs):
        store.create(job)
    store.prune(lambda job: job.id == gone.id)
    ids = sorted((gone.id, theirs.id, new_job_id()))
    told = [store.list(principal="ada", before=job_id) for job_id in ids]
    assert told == [([old] if old.id < job_id else [], False) for job_id in ids]


@pytest.mark.parametrize("before", ["plain", "A" * 34, "a" * 5_000, "../x", ""])
def test_a_page_before_what_is_no_id_is_refused(store: JobStore, before: str):
    with pytest.raises(InvalidInput, match="it must be the id of a job") as caught:
        store.list(before=before)
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize("status", list(JobState))
def test_a_status_filters_the_list(store: JobStore, status: JobState):
    jobs = [a_job(state) for state in JobState for _ in range(3)]
    for job in jobs:
        store.create(job)
    listed, more = store.list(status, limit=2)
    assert ({job.status for job in listed}, len(listed), more) == ({status}, 2, True)
    assert len(store.list(status)[0]) == 3


def test_a_large_result_is_whole_in_get_and_a_note_in_listings(store: JobStore):
    job = a_job(JobState.RUNNING)
    store.create(job)
    result = {"text": "ä" * 100_000}
    assert store.update(job.id, ended(result=result)).result == result
    whole, listed = store.get(job.id), store.list()[0][0]
    assert whole is not None
    assert (whole.result, whole.result_note) == (result, None)
    assert listed.result is None
    assert str(len(json.dumps(result, separators=(",", ":")))) in (listed.result_note or "")


@pytest.mark.parametrize(("chars", "shown"), [(100_000, True), (SHOWN_RESULT_BYTES, False)])
def test_a_peek_leaves_out_what_no_reader_takes(store: JobStore, chars: int, shown: bool):
    job = a_job(JobState.COMPLETED, result="x" * chars, result_note="a note")
    store.create(job)
    assert store.get(job.id) == job
    peeked = store.peek(job.id)
    assert peeked is not None
    if shown:
        assert peeked == job
    else:
        note = f"a note; result of {chars + 2} bytes; {IN_PAGES}"
        assert peeked == job.evolve(result=None, result_note=note)
    assert store.peek(new_job_id()) is None


def test_a_result_of_64_kib_is_still_in_the_listing(store: JobStore):
    store.create(a_job(JobState.COMPLETED, result="x" * (64 * 1024 - 2)))
    assert len(store.list()[0][0].result) == 64 * 1024 - 2


def test_prune_removes_what_should_go_with_its_files_and_no_live_job(store: JobStore):
    jobs = {state: a_job(state) for state in JobState}
    for job in jobs.values():
        store.create(job)
        store.folder(job.id).mkdir(parents=True)
        (store.folder(job.id) / "stdout").write_text("hello")
    asked: list[JobState] = []
    pruned = store.prune(lambda job: bool(asked.append(job.status)) or job.status is not JobState.FAILED)
    assert (pruned.removed, pruned.remaining) == (2, 4)
    assert set(asked) == set(TERMINAL)
    for state, job in jobs.items():
        kept = state not in (JobState.COMPLETED, JobState.CANCELLED)
        assert (store.get(job.id) is not None) == kept == store.folder(job.id).exists()


def test_a_principal_lists_and_prunes_its_own_jobs_only(store: JobStore):
    mine, theirs, owners = (a_job(JobState.FAILED, principal=who) for who in ("ada", "bob", None))
    live = a_job(principal="ada")
    for job in (mine, theirs, owners, live):
        store.create(job)
    assert {job.id for job in store.list(principal="ada")[0]} == {mine.id, live.id}
    assert store.list(JobState.FAILED, 1, "ada") == ([mine], False)
    assert len(store.list()[0]) == 4
    asked: list[str] = []
    pruned = store.prune(lambda job: not asked.append(job.id), principal="ada")
    assert (pruned.removed, pruned.remaining, asked) == (1, 1, [mine.id])
    assert {job.id for job in store.list()[0]} == {theirs.id, owners.id, live.id}


def test_an_id_of_a_pruned_job_may_come_again(store: JobStore):
    store.create(first := a_job(JobState.FAILED))
    store.prune(lambda _: True)
    job = a_job(JobState.PENDING, id=first.id)
    store.create(job)
    assert store.list() == ([job], False)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(job_id=st.text(max_size=120) | st.from_regex(r"[0-9a-z./_-]{34}", fullmatch=True))
@example("con")
@example("a" * 34)
def test_any_text_is_a_safe_id(store: JobStore, job_id: str):
    job = a_job(JobState.RUNNING, id=job_id)
    assert store.get(job_id) is None
    assert store.home in store.folder(job_id).resolve().parents
    try:
        store.create(job)
    except InvalidInput:
        assert store.get(job_id) is None
        return
    assert store.get(job_id) == job
    store.update(job_id, ended())
    assert store.prune(lambda _: True).removed == 1
    assert store.get(job_id) is None


@pytest.mark.parametrize("name", ODD_IDS)
def test_a_name_that_could_leave_its_directory_is_refused(store: JobStore, name: str):
    with pytest.raises(InvalidInput, match="name"):
        store.worker_folder(name)


@pytest.mark.parametrize("job_id", ["plain", "a" * 33, "A" * 34, *ODD_IDS])
def test_an_id_that_new_job_id_does_not_give_is_refused(store: JobStore, job_id: str):
    with pytest.raises(InvalidInput, match="job id"):
        store.create(a_job(id=job_id))
    assert store.get(job_id) is None


HOUR = timedelta(hours=1)


def ended_ago(
    store: JobStore, hours: float, created_hours_ago: float, status: JobState = JobState.FAILED
) -> str:
    now = utc_now()
    created_at = now - created_hours_ago * HOUR
    store.create(
        job := a_job(
            status, id=new_job_id(created_at), created_at=created_at, completed_at=now - hours * HOUR
        )
    )
    return job.id


def test_a_prune_by_age_goes_by_the_end_and_not_by_the_creation(store: JobStore):
    long, old, young = ended_ago(store, 25, 1000), ended_ago(store, 25, 25), ended_ago(store, 23, 1000)
    cancelled = ended_ago(store, 25, 25, JobState.CANCELLED)
    pruned = store.prune(among=[JobState.FAILED], ended_before=utc_now() - 24 * HOUR)
    assert (pruned.removed, pruned.remaining) == (2, 2)
    assert [store.get(job_id) is None for job_id in (long, old, young, cancelled)] == [
        True,
        True,
        False,
        False,
    ]


def test_a_prune_by_age_removes_what_a_wrong_clock_created_in_the_future(store: JobStore):
    job_id = ended_ago(store, 2, -1000)
    assert store.prune(ended_before=utc_now() - HOUR).removed == 1
    assert store.get(job_id) is None


def test_the_oldest_that_ended_are_those_created_first_by_their_end(store: JobStore):
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    jobs: list[Job] = []
    for hours in (5, 3, 900, 4):
        when = noon - timedelta(hours=hours)
        state = TERMINAL[len(jobs) % len(TERMINAL)]
        jobs.append(a_job(state, id=new_job_id(when), created_at=when, completed_at=when))
    jobs[2] = jobs[2].evolve(completed_at=noon)
    for job in (*jobs, a_job(JobState.RUNNING, id=new_job_id(noon - timedelta(hours=1000)))):
        store.create(job)
    assert store.oldest_ended() == (jobs[0], jobs[3], jobs[1], jobs[2])
    assert store.oldest_ended(3) == (jobs[0], jobs[3], jobs[2])
    assert store.oldest_ended(0) == ()


def test_a_folder_can_be_discarded_twice(store: JobStore):
    folder = store.folder(new_job_id())
    folder.mkdir(parents=True)
    (folder / "stdout").write_text("x")
    store.discard_folder(folder.name)
    store.discard_folder(folder.name)
    assert not folder.exists()


def test_workers_and_jobs_share_a_file_system(store: JobStore):
    worker, folder = store.worker_folder("worker-1"), store.folder(new_job_id())
    worker.mkdir(parents=True)
    folder.mkdir(parents=True)
    (worker / "log").write_text("x")
    (folder / "stdout").hardlink_to(worker / "log")


def test_an_exclusive_section_is_entered_by_one_at_a_time(store: JobStore):
    inside: list[int] = []
    most: list[int] = []

    def enter():
        with store.exclusive("slots"):
            inside.append(1)
            most.append(len(inside))
            store.list()
            inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8


def test_the_memory_store_leaves_no_directory_when_it_is_collected():
    store = InMemoryJobStore()
    home = store.home
    store.folder("x").mkdir(parents=True)
    assert isinstance(store, JobStore)
    del store
    gc.collect()
    assert not home.exists()


# ---- results by token


@pytest.mark.parametrize("success", [True, False])
def test_a_result_is_stored_retrieved_and_cleaned_up(store: JobStore, success: bool):
    job, result = a_job(JobState.RUNNING), JobResult(success, [1], "no", {"of": 2})
    store.create(job)
    assert store.retrieve(job.id) is None
    assert not store.cleanup(job.id)
    settled = store.store(job.id, result)
    assert settled.status is (JobState.COMPLETED if success else JobState.FAILED)
    assert store.retrieve(job.id) == result
    assert store.store(job.id, JobResult(not success)) == settled
    assert store.retrieve(job.id) == result
    assert store.cleanup(job.id)
    assert store.retrieve(job.id) is None


def test_a_large_result_is_retrieved_whole(store: JobStore):
    job, result = a_job(JobState.RUNNING), JobResult(success=False, data="x" * 2 * SHOWN_RESULT_BYTES)
    store.create(job)
    store.store(job.id, result)
    assert store.retrieve(job.id) == result


def test_an_unknown_token_has_no_result(store: JobStore):
    for token in (new_job_id(), *ODD_IDS):
        assert store.retrieve(token) is None
        assert not store.cleanup(token)
        with pytest.raises(JobNotFound):
            store.store(token, JobResult(success=True))


def test_a_bounded_survey_reads_the_ends_and_says_so(store: JobStore):
    for _ in range(30):
        store.create(a_job(JobState.COMPLETED))
    some, most = store.survey(5), store.survey(31)
    assert (some.readable in (5, 10), some.complete) == (True, False)
    assert (most.readable, most.complete) == (30, True)
    assert (store.survey().readable, store.survey().complete) == (30, True)
