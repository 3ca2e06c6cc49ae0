"""What clients may spend: which quota holds, what is counted, for how long, and what a refusal says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from python_mcp_server import InMemoryJobStore
from python_mcp_server.errors import InvalidInput, QuotaExceeded, StoreError
from python_mcp_server.jobs import ledger as ledger_module
from python_mcp_server.jobs.capacity import Capacity, SlotLimits
from python_mcp_server.jobs.ledger import Ledgers
from python_mcp_server.jobs.queues import Queues
from python_mcp_server.jobs.quota import Quota, quota_of
from python_mcp_server.jobs.quotas import Quotas, sweep_ledgers
from python_mcp_server.jobs.rates import Rates
from python_mcp_server.jobs.settle import settle
from python_mcp_server.jobs.spending import QuotaGate, count_call
from python_mcp_server.jobs.submission import write_queued
from python_mcp_server.model import Job, JobState, Outcome, Usage, new_job_id, utc_now
from python_mcp_server.options import JobOptions, Snooze
from python_mcp_server.store.keys import index_key

NOON_S = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()


@pytest.fixture
def store() -> Iterator[InMemoryJobStore]:
    made = InMemoryJobStore()
    yield made
    made.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that a test sets."""
    clock = SimpleNamespace(now=NOON_S)
    monkeypatch.setattr(ledger_module, "time", SimpleNamespace(time=lambda: clock.now))
    return clock


def job_of(client: str | None = "ada", **facts: Any) -> Job:
    made = Job(new_job_id(), "mail", JobState.PENDING, utc_now(), tool="mail", client=client, background=True)
    return made.evolve(**facts)


def running(store: InMemoryJobStore, cpu_s: float, client: str = "ada", **facts: Any) -> Job:
    """Put a job into the store that runs, and has used this much CPU time."""
    started = {"status": JobState.RUNNING, "started_at": utc_now(), "usage": Usage(cpu_seconds=cpu_s)}
    store.create(job := job_of(client, **(started | facts)))
    return job


def refused(store: InMemoryJobStore, job: Job | None = None) -> QuotaExceeded:
    with pytest.raises(QuotaExceeded) as caught:
        write_queued(store, job or job_of())
    return caught.value


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({}, "a quota has no bound; give jobs, cpu_seconds or memory_mb"),
        ({"jobs": -1}, "jobs is -1; it must be a whole number, 0 or more"),
        ({"jobs": True}, "jobs is True"),
        ({"jobs": 1.5}, "jobs is 1.5"),
        ({"cpu_seconds": "9" * 5000}, "cpu_seconds is '999"),
        ({"cpu_seconds": float("nan")}, "cpu_seconds is nan; it must be a number, 0 or more"),
        ({"memory_mb": float("inf")}, "memory_mb is inf"),
        ({"jobs": 1, "per": "1 h"}, 'per is \'1 h\'; it must be a time such as "90s", "1h" or "7d"'),
        ({"jobs": 1, "per": "0s"}, "per is '0s'"),
        ({"jobs": 1, "per": "400d"}, "per is '400d'"),
        ({"jobs": 1, "per": 3600}, "per is 3600"),
    ],
)
def test_a_quota_without_a_meaning_is_refused_in_one_line(
    store: InMemoryJobStore, bounds: dict[str, Any], words: str
):
    with pytest.raises(InvalidInput) as caught:
        Quotas(store).set("ada", **bounds)
    assert str(caught.value).startswith(words)
    assert len(str(caught.value)) < 300
    assert Quotas(store).list().quotas == {}


@pytest.mark.parametrize("client", ["", "two\nlines", "x" * 1001, 5, None])
def test_a_name_that_no_client_can_have_is_refused(store: InMemoryJobStore, client: Any):
    with pytest.raises(InvalidInput, match="the client is"):
        Quotas(store).set(client, jobs=1)


def test_the_quota_with_the_longest_fitting_name_holds():
    of_all, of_editors, of_ada = Quota(jobs=1), Quota(jobs=2), Quota(jobs=3)
    quotas = {"*": of_all, "editor *": of_editors, "ada": of_ada}
    assert quota_of(quotas, "ada") is of_ada
    assert quota_of(quotas, "editor 1.0") is of_editors
    assert quota_of(quotas, "phone 1.0") is of_all
    assert quota_of(quotas, "") is None, "a program without a client has no quota"
    assert quota_of({"editor *": of_editors}, "phone") is None


def test_a_principal_spends_its_own_quota_whatever_its_client_is_called(store: InMemoryJobStore):
    Quotas(store).set("client:bob", jobs=1)
    write_queued(store, job_of("ada", principal="client:bob"))
    assert refused(store, job_of("eve", principal="client:bob")).client == "client:bob"
    write_queued(store, job_of("ada"))


def test_quotas_are_rules_of_the_home_until_they_are_removed(store: InMemoryJobStore):
    quotas = Quotas(store)
    quotas.set("ada", jobs=5, per="1d")
    quotas.set("*", cpu_seconds=1.5, memory_mb=100)
    Queues(store).pause("images")
    assert Quotas(store).list().quotas == {
        "*": Quota(cpu_seconds=1.5, memory_mb=100),
        "ada": Quota(jobs=5, per="1d"),
    }
    assert quotas.set("ada", cpu_seconds=2) == Quota(cpu_seconds=2), "a quota is replaced as a whole"
    assert quotas.remove("ada")
    assert not quotas.remove("ada")
    assert list(quotas.list().quotas) == ["*"]


@pytest.mark.parametrize(
    "quotas", [3, {"ada": 3}, {"ada": {}}, {"ada": {"jobs": -1}}, {"": {"jobs": 1}}, {"a": {"x": 1}}]
)
def test_damaged_quotas_are_a_sentence_that_names_their_file(store: InMemoryJobStore, quotas: Any):
    path = Path(store.home, "queues.json")
    path.write_text(json.dumps({"quotas": quotas}))
    with pytest.raises(StoreError, match="correct the file, or remove it") as caught:
        write_queued(store, job_of())
    assert str(path) in str(caught.value)


def test_jobs_count_for_their_window_and_the_refusal_says_until_when(
    store: InMemoryJobStore, clock: SimpleNamespace
):
    Quotas(store).set("ada", jobs=2)
    write_queued(store, job_of())
    clock.now += 600.5
    write_queued(store, job_of())
    error = refused(store)
    assert str(error) == (
        "client 'ada' has spent its quota: 2 of 2 jobs in 1h; submit it again from 2026-11-30 13:00:01 UTC on"
    )
    assert error.fits_at == datetime(2026, 11, 30, 13, 0, 1, tzinfo=UTC)
    clock.now = NOON_S + 3599
    refused(store)
    clock.now = NOON_S + 3600
    write_queued(store, job_of())
    assert refused(store).fits_at == datetime(2026, 11, 30, 13, 10, 1, tzinfo=UTC)


def test_a_refused_job_leaves_no_record_and_spends_nothing(store: InMemoryJobStore):
    Quotas(store).set("ada", jobs=1)
    write_queued(store, job_of())
    for _ in range(3):
        job = job_of()
        refused(store, job)
        assert store.get(job.id) is None
    assert Quotas(store).spent("ada").jobs == 1


def test_a_client_without_any_job_says_that_none_will_fit(store: InMemoryJobStore):
    Quotas(store).set("ada", jobs=0)
    error = refused(store)
    assert str(error) == "client 'ada' has spent its quota: 0 of 0 jobs in 1h; none will fit"
    assert error.fits_at is None


def test_many_spends_make_few_cells_and_none_leaves_early(store: InMemoryJobStore, clock: SimpleNamespace):
    ledgers, times = Ledgers(store), list[float]()
    for number in range(1500):
        clock.now = NOON_S + 5 * number
        times.append(clock.now)
        with ledgers.changing("ada") as changed:
            changed.add_job(f"job {number}", 3600.0)
        cells = ledgers.read("ada").within(3600.0)
        truly = sum(at > clock.now - 3600 for at in times)
        assert truly <= sum(cell.jobs for cell in cells) <= truly + 8
        assert len(cells) <= 102
    assert len(ledgers.read("ada").keys) <= 128


def test_the_cpu_time_of_runs_counts_from_their_end(store: InMemoryJobStore, clock: SimpleNamespace):
    Quotas(store).set("ada", cpu_seconds=10)
    job = running(store, 4)
    assert Quotas(store).spent("ada").cpu_seconds == 4
    settle(store, job.id, Outcome(), usage=Usage(cpu_seconds=7.5))
    assert Quotas(store).spent("ada").cpu_seconds == 7.5
    write_queued(store, job_of())
    clock.now += 60
    settle(store, running(store, 2.5).id, Outcome())
    assert str(refused(store)) == (
        "client 'ada' has spent its quota: 10.0 of 10 CPU seconds in 1h; submit it again from "
        "2026-11-30 13:00:01 UTC on"
    )


def test_the_cpu_time_of_what_runs_counts_and_leaves_last(store: InMemoryJobStore):
    Quotas(store).set("ada", cpu_seconds=10, per="60s")
    running(store, 11)
    running(store, 100, client="bob")
    before = utc_now()
    error = refused(store)
    assert error.fits_at is not None
    assert (error.fits_at - before).total_seconds() >= 60


def test_a_run_that_is_settled_twice_counts_once(store: InMemoryJobStore, monkeypatch: pytest.MonkeyPatch):
    Quotas(store).set("ada", cpu_seconds=10)
    job = running(store, 4)
    with monkeypatch.context() as patched:
        patched.setattr(store, "update", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):  # as if this process were killed there
            settle(store, job.id, Outcome())
    assert Quotas(store).spent("ada").cpu_seconds == 4
    settle(store, job.id, Outcome(), usage=Usage(cpu_seconds=5))
    settle(store, job.id, Outcome(), usage=Usage(cpu_seconds=6))
    assert Quotas(store).spent("ada").cpu_seconds == 5


def test_each_run_of_a_job_that_snoozes_counts(store: InMemoryJobStore):
    Quotas(store).set("ada", cpu_seconds=10)
    job = running(store, 4, call={}, options=JobOptions())
    settle(store, job.id, Outcome(Snooze(5)))
    store.update(
        job.id, lambda job: job.evolve(status=JobState.RUNNING, started_at=utc_now(), not_before=None)
    )
    settle(store, job.id, Outcome(), usage=Usage(cpu_seconds=3))
    assert Quotas(store).spent("ada").cpu_seconds == 7


def test_what_was_spent_stays_spent_when_the_records_are_removed(store: InMemoryJobStore):
    Quotas(store).set("ada", jobs=1, cpu_seconds=5)
    job = job_of()
    write_queued(store, job)
    store.update(job.id, lambda job: job.evolve(status=JobState.RUNNING, started_at=utc_now()))
    settle(store, job.id, Outcome(), usage=Usage(cpu_seconds=2))
    assert store.prune().removed == 1
    assert "1 of 1 jobs" in str(refused(store))
    assert Quotas(store).spent("ada").cpu_seconds == 2


@pytest.mark.parametrize("in_doubt", [False, True])
def test_a_job_that_was_surely_not_written_is_taken_back(
    in_doubt: bool, store: InMemoryJobStore, monkeypatch: pytest.MonkeyPatch
):
    Quotas(store).set("ada", jobs=1)
    error = StoreError("it does not answer")
    error.in_doubt = in_doubt
    with monkeypatch.context() as patched:
        patched.setattr(store, "create", lambda _: (_ for _ in ()).throw(error))
        with pytest.raises(StoreError, match="it does not answer"):
            write_queued(store, job_of())
    assert Quotas(store).spent("ada").jobs == in_doubt


def test_a_call_is_counted_with_its_record_and_never_refused_there(store: InMemoryJobStore):
    Quotas(store).set("ada", jobs=1)
    for _ in range(2):
        count_call(store, job_of(background=False))
    assert Quotas(store).spent("ada").jobs == 2
    assert "2 of 1 jobs" in str(refused(store))


def test_the_gate_closes_and_opens_with_the_quota(store: InMemoryJobStore):
    gate, job = QuotaGate(store), job_of()
    Quotas(store).set("ada", jobs=1)
    write_queued(store, job)
    assert not gate.is_closed(job), "this process has not looked yet"
    gate.look(job)
    assert gate.is_closed(job)
    with pytest.raises(QuotaExceeded):
        gate.check(job)
    Quotas(store).set("ada", jobs=2)
    gate.check(job)
    assert not gate.is_closed(job)


def test_a_job_that_may_take_too_much_memory_is_refused(store: InMemoryJobStore):
    Quotas(store).set("ada", memory_mb=1000)
    with pytest.raises(InvalidInput) as caught:
        write_queued(store, job_of(memory_limit_mb=1500))
    assert str(caught.value) == (
        "the job may take 1500 MB of memory, and the quota of client 'ada' is 1000 MB at once; "
        "give it a lower memory limit"
    )
    write_queued(store, job_of(memory_limit_mb=1000))


def test_a_job_waits_for_the_memory_of_its_client(store: InMemoryJobStore):
    Quotas(store).set("ada", memory_mb=1000)
    rules = Queues(store).rules()
    capacity = Capacity(SlotLimits(10), rules, Rates(store, ()))
    capacity.add(job_of(memory_limit_mb=600))
    capacity.add(job_of("bob", memory_limit_mb=5000))
    assert capacity.held_back(job_of(memory_limit_mb=400)) is None
    assert capacity.held_back(job_of(memory_limit_mb=401)) == (
        "waiting for memory of its client's quota: it may take 401 MB, 600 of 1000 MB are taken"
    )
    assert capacity.held_back(job_of()) is None
    capacity.add(job_of(usage=Usage(rss_bytes=400_000_000)))
    assert capacity.held_back(job_of()) == (
        "waiting for memory of its client's quota: 1000 of 1000 MB are taken"
    )
    assert capacity.held_back(job_of("bob")) is None


def test_jobs_that_wait_for_their_clients_memory_hold_up_no_others():
    jobs = [job_of(), job_of("bob"), job_of(principal="ada"), job_of(memory_limit_mb=5)]
    assert len({key.name for job in jobs if (key := index_key(job)) is not None}) == len(jobs)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"client": "ada", "cells": [3], "keys": {}}'])
def test_a_damaged_ledger_counts_as_none_and_is_replaced(
    store: InMemoryJobStore, caplog: pytest.LogCaptureFixture, data: bytes
):
    Quotas(store).set("ada", jobs=1)
    write_queued(store, job_of())
    (path,) = Path(store.home, "quotas").rglob("*.json")
    path.write_bytes(data)
    write_queued(store, job_of())
    assert "is damaged" in caplog.text
    refused(store)


def test_a_clock_that_was_set_back_holds_nobody_for_hours(store: InMemoryJobStore, clock: SimpleNamespace):
    Quotas(store).set("ada", jobs=1)
    write_queued(store, job_of())
    clock.now -= 7200
    write_queued(store, job_of())


def test_ledgers_go_with_their_window_and_with_their_quota(store: InMemoryJobStore, clock: SimpleNamespace):
    quotas = Quotas(store)
    quotas.set("*", jobs=9, per="1d")
    quotas.set("ada", jobs=9)
    for client in ("ada", "bob", "eve"):
        write_queued(store, job_of(client))
    (left := Path(store.home, "quotas", "0", "1-2.tmp")).parent.mkdir(exist_ok=True)
    left.touch()
    sweep_ledgers(store)
    assert Ledgers(store).clients() == ["ada", "bob", "eve"]
    assert not left.exists(), "a killed writer left it"
    clock.now += 3601
    sweep_ledgers(store)
    assert Ledgers(store).clients() == ["bob", "eve"]
    quotas.remove("*")
    sweep_ledgers(store)
    assert Ledgers(store).clients() == []


def test_the_list_has_clients_that_were_named_and_that_have_spent(store: InMemoryJobStore):
    quotas = Quotas(store)
    quotas.set("editor *", jobs=2)
    quotas.set("ada", cpu_seconds=10)
    running(store, 2.5)
    write_queued(store, job_of("editor 1.0"))
    found = quotas.list().to_json()
    assert found["quotas"] == {"ada": {"cpu_seconds": 10, "per": "1h"}, "editor *": {"jobs": 2, "per": "1h"}}
    assert [(each["client"], each["spent"]) for each in found["spent"]] == [
        ("ada", {"jobs": 0, "cpu_seconds": 2.5, "memory_mb": 0.0}),
        ("editor 1.0", {"jobs": 1, "cpu_seconds": 0.0, "memory_mb": 0.0}),
    ]
    assert quotas.spent("nobody").to_json()["quota"] is None
