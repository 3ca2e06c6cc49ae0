"""How often jobs may start: what is counted, for whom, and how long."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from python_mcp_server import InMemoryJobStore
from python_mcp_server.errors import InvalidInput
from python_mcp_server.jobs import rates as rates_module
from python_mcp_server.jobs.queues import Queues
from python_mcp_server.jobs.rates import Rates
from python_mcp_server.jobs.request import request_of
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.options import JobOptions
from python_mcp_server.store.keys import index_key
from tests.helpers import job_kinds


@pytest.fixture
def store() -> Iterator[InMemoryJobStore]:
    made = InMemoryJobStore()
    yield made
    made.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that a test sets."""
    clock = SimpleNamespace(now=1_000_000.0)
    monkeypatch.setattr(rates_module, "time", SimpleNamespace(time=lambda: clock.now))
    return clock


def job_of(kind: str = "mail", rate: Any = (), principal: str | None = None, **facts: Any) -> Job:
    made = Job(new_job_id(), kind, JobState.PENDING, utc_now(), tool=kind, principal=principal)
    return made.evolve(options=JobOptions(rate=rate), background=True, **facts)


def counted(store: InMemoryJobStore, job: Job, client_rate: tuple[str, ...] = ()) -> str | None:
    """Count a start as a server does; return what keeps the next one waiting, as another server sees it."""
    assert Rates(store, client_rate).wait(job) is None
    Rates(store, client_rate).count(job)
    wait = Rates(store, client_rate).wait(job)
    return None if wait is None else wait[1]


@pytest.mark.parametrize("rate", ["10", "0/minute", "10/week", "10001/second", "1 / minute", b"1/minute", 5])
def test_what_is_no_rate_is_refused_with_its_value(rate: Any):
    given: Any = rate if isinstance(rate, int) else [rate]
    with pytest.raises(InvalidInput, match=r'rate is .*such as "10/minute"'):
        JobOptions(rate=given)


def test_one_rate_or_several_are_kept_as_json():
    for rate in ("10/minute", ["10/minute", "100/day"]):
        options = JobOptions(rate=rate)
        assert JobOptions.from_json(options.to_json()) == options
    assert "rate" not in JobOptions().to_json()


def test_a_kind_of_job_may_have_a_rate_which_a_submission_replaces():
    class Mail(job_kinds.Resize):
        rate = "10/minute"

    of_kind, of_one = request_of(Mail([])), request_of(Mail([]), rate=["1/second"])
    assert [each.options and each.options.rate for each in (of_kind, of_one)] == [
        ("10/minute",),
        ("1/second",),
    ]


def test_starts_count_for_their_period_and_no_longer(store: InMemoryJobStore, clock: SimpleNamespace):
    job = job_of(rate="2/minute")
    assert counted(store, job) is None
    clock.now += 20
    assert counted(store, job) == "waiting for its rate: 2 a minute, the next starts in 40 s"
    clock.now += 39
    assert Rates(store, ()).wait(job) is not None
    clock.now += 1
    assert Rates(store, ()).wait(job) is None


def test_of_several_rates_the_one_that_takes_longest_holds(store: InMemoryJobStore, clock: SimpleNamespace):
    job = job_of(rate=["1/second", "2/hour"])
    assert counted(store, job) == "waiting for its rate: 1 a second, the next starts in 1 s"
    clock.now += 5
    assert counted(store, job) == "waiting for its rate: 2 an hour, the next starts in 3595 s"


def test_a_rate_is_of_one_kind(store: InMemoryJobStore, clock: SimpleNamespace):
    assert counted(store, job_of(rate="1/hour")) is not None
    assert Rates(store, ()).wait(job_of("other", "1/hour")) is None
    assert Rates(store, ()).wait(job_of()) is None, "a job without a rate is not held"


def test_each_client_has_a_rate_of_its_own_and_the_owner_none(
    store: InMemoryJobStore, clock: SimpleNamespace
):
    rate = ("1/minute",)
    words = counted(store, job_of(principal="ann"), rate)
    assert words == "waiting for its client's rate: 1 a minute, the next starts in 60 s"
    assert Rates(store, rate).wait(job_of("other", principal="ann")) is not None
    assert Rates(store, rate).wait(job_of(principal="bob")) is None
    assert counted(store, job_of(), rate) is None


def test_a_shorter_rate_of_the_same_kind_forgets_no_start(store: InMemoryJobStore, clock: SimpleNamespace):
    counted(store, job_of(rate="1/day"))
    clock.now += 10
    counted(store, job_of(rate="1/second"))
    assert Rates(store, ()).wait(job_of(rate="2/day")) is not None


def test_what_no_rate_asks_for_is_not_kept(store: InMemoryJobStore, clock: SimpleNamespace):
    counted(store, job_of(rate="1/second"))
    clock.now += 2
    counted(store, job_of("other", rate="1/second"))
    assert b"mail" not in Path(store.home, "rates.json").read_bytes()


def test_a_clock_that_was_set_back_holds_nothing_for_hours(store: InMemoryJobStore, clock: SimpleNamespace):
    counted(store, job_of(rate="1/minute"))
    clock.now -= 7200
    assert Rates(store, ()).wait(job_of(rate="1/minute")) is None


@pytest.mark.parametrize("data", [b"", b"[]", b'{"kind mail": 3}', b'{"kind mail": {"period_s": 1}}'])
def test_a_damaged_file_of_starts_counts_as_none_and_is_replaced(
    store: InMemoryJobStore, caplog: pytest.LogCaptureFixture, data: bytes
):
    Path(store.home, "rates.json").write_bytes(data)
    assert counted(store, job_of(rate="1/minute")) is not None
    assert "rates.json is damaged" in caplog.text


def test_jobs_whose_rates_differ_do_not_hold_up_each_other():
    jobs = [job_of(rate="1/hour"), job_of(rate="2/hour"), job_of("other", "1/hour"), job_of(principal="ann")]
    assert len({key.name for job in jobs if (key := index_key(job)) is not None}) == len(jobs)


def test_the_rate_of_clients_is_a_rule_of_the_home_until_it_is_changed(store: InMemoryJobStore):
    queues = Queues(store)
    assert queues.client_rate("5/minute").client_rate == ("5/minute",)
    assert queues.pause("images").client_rate == ("5/minute",)
    assert Queues(store).rules().client_rate == ("5/minute",)
    assert queues.client_rate(None).client_rate == ()
    with pytest.raises(InvalidInput, match="client_rate is '5'"):
        queues.client_rate("5")
