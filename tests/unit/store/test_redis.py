"""What only the store on a Redis server has: its URL, its locks, its terms, its errors."""

from __future__ import annotations

import logging
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis import exceptions

from python_mcp_server.errors import InvalidInput, JobNotFound, StoreError, StoreLocked
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.settings import Settings
from python_mcp_server.store.journal import JournalReader, Position
from python_mcp_server.store.opening import open_place, parse_place
from python_mcp_server.store.redis import job_store, locks
from python_mcp_server.store.redis.address import RedisAddress
from python_mcp_server.store.redis.job_store import RedisJobStore, is_made, remove_store
from tests.helpers import eventually
from tests.helpers.redis_server import shared, shared_url

SECRET = "sesame/open"
CODED = "sesame%2Fopen"


@pytest.fixture
def url(home: Path) -> str:
    return shared_url(home)


@pytest.fixture
def store(url: str, home: Path) -> Iterator[RedisJobStore]:
    made = RedisJobStore(url, home=home / "redis")
    yield made
    made.close()


def a_job(status: JobState = JobState.RUNNING, **fields: object) -> Job:
    return replace(Job(new_job_id(), "label", status, utc_now()), **fields)  # type: ignore[arg-type]


def created(store: RedisJobStore, status: JobState = JobState.RUNNING, **fields: object) -> Job:
    store.create(job := a_job(status, **fields))
    return job


def key(store: RedisJobStore, name: str) -> str:
    return store.address.key_prefix + name


def behind(command: str, *words: object) -> Any:
    """Do something behind the store's back."""
    return shared().client().execute_command(command, *words)


def told(store: RedisJobStore) -> list[tuple[str, int]]:
    events = JournalReader(store.journal, Position(0, 0)).read_all()
    return [(event.job_id, event.number) for event in events]


# ---- the URL


@pytest.mark.parametrize(
    ("url", "shown", "prefix"),
    [
        ("redis://h", "redis://h:6379/0", "default"),
        (f"redis://ada:{CODED}@h:1/2", "redis://h:1/2", "default"),
        ("rediss://:x@[::1]:7/?db=3&ssl_cert_reqs=none&prefix=a", "rediss://[::1]:7/3?prefix=a", "a"),
        ("unix:///run/r.sock?db=1&prefix=b", "unix:///run/r.sock?db=1&prefix=b", "b"),
        (f"unix://:{CODED}@/r.sock", "unix:///r.sock", "default"),
    ],
)
def test_a_url_is_shown_without_its_user_password_and_keys(url: str, shown: str, prefix: str):
    address = RedisAddress.parse(url, "it")
    assert (address.shown, address.prefix) == (shown, prefix)
    assert address.key_prefix == f"python_mcp:{{{prefix}}}:"
    assert RedisAddress.parse(shown, "it").shown == shown


@pytest.mark.parametrize(
    "rest",
    [
        "@/0", "@h:port/0", "@h/x", "@h/0?other=1", "@h/0?ssl_keyfile=k", "@h/0#x", "@h/0?prefix=a/b",
        "@h/0?prefix=", "#@h/0", "?@h/0", "/@h/0", "@h/99999999", "@h:99999/0",
    ],
)  # fmt: skip
def test_what_is_no_url_is_refused_without_a_word_of_it(home: Path, rest: str):
    url = f"redis://ada:sesame{rest}"
    for use in (lambda: parse_place(url, "FROM"), lambda: RedisJobStore(url, home=home)):
        with pytest.raises(InvalidInput, match="it must be") as caught:
            use()
        assert not [word for word in ("ada", "sesame", "ssl_keyfile", "a/b") if word in str(caught.value)]
    assert not home.exists()


def test_the_password_is_in_no_text_of_the_store(home: Path, caplog: pytest.LogCaptureFixture):
    url = f"redis://ada:{CODED}@127.0.0.1:1/0?prefix=p"
    place = parse_place(url, "it", home)
    store = open_place(place, lock_s=0.01)
    with pytest.raises(StoreError, match=r"redis://127.0.0.1:1/0 does not answer") as caught:
        store.create(a_job())
    with pytest.raises(StoreError):
        store.live()
    settings = Settings.from_environ({"PYTHON_MCP_STORE": url}, home=home)
    again = pickle.loads(pickle.dumps(caught.value))
    texts = [
        repr(place),
        str(place),
        repr(store),
        repr(settings),
        str(again),
        repr(caught.value),
        caplog.text,
    ]
    assert not [text for text in texts if "sesame" in text]
    assert (place.setting, str(again), again.in_doubt) == (url, str(caught.value), False)
    store.close()


def test_a_server_that_repeats_the_password_is_not_repeated(store: RedisJobStore):
    address = RedisAddress.parse(f"redis://:{CODED}@h", "it")
    assert address.without_secrets(f"no {SECRET}, no {CODED}") == "no ***, no ***"
    assert store.address.without_secrets("as it is") == "as it is"


def test_the_extra_that_is_missing_is_named(url: str, home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "redis", None)
    with pytest.raises(StoreError, match=r"install python-mcp-server\[redis\]"):
        RedisJobStore(url, home=home)


# ---- keys, terms and damage


def test_stores_of_two_prefixes_know_nothing_of_each_other(store: RedisJobStore, home: Path, url: str):
    beside = f"{url}-2"
    other = RedisJobStore(beside, home=home / "other")
    job = created(store, JobState.COMPLETED)
    with store.exclusive("x"), other.exclusive("x"):
        assert (other.list()[0], other.index_names(""), told(other)) == ([], (), [])
    assert other.prune().remaining == 0
    assert (is_made(url), is_made(beside), is_made(f"{url}-3")) == (True, True, False)
    remove_store(beside)
    assert (is_made(beside), store.get(job.id)) == (False, job)
    other.close()


def test_a_store_that_is_pruned_leaves_the_events_alone(store: RedisJobStore):
    for state in JobState:
        created(store, state, principal="ada", background=True, call={"body": "a:b"})
    for job in store.live():
        store.update(job.id, lambda job: job.evolve(status=JobState.CANCELLED, completed_at=utc_now()))
    assert store.prune().remaining == 0
    left = {name.decode().removeprefix(key(store, "")) for name in behind("KEYS", key(store, "*"))}
    assert left == {"events", "format", "user"}


@pytest.mark.parametrize(
    ("field", "value"),
    [("record", "{"), ("record", ""), ("record", "5"), ("status", "odd"), ("status", "completed")],
)
def test_a_damaged_record_is_set_aside_and_costs_only_itself(
    store: RedisJobStore, caplog: pytest.LogCaptureFixture, field: str, value: str
):
    whole, spoilt, other = created(store), created(store), created(store)
    for job in (spoilt, other):
        behind("HSET", key(store, f"job:{job.id}"), field, value)
    assert store.get(spoilt.id) is None
    with pytest.raises(JobNotFound):
        store.update(other.id, lambda job: job)
    assert [job.id for job in store.list()[0]] == [whole.id]
    assert len(store.damaged()) == 2
    assert caplog.text.count("Set aside") == 2
    assert (store.survey().readable, store.survey().left) == (1, [])


def test_a_record_of_a_newer_version_is_left_and_counted(store: RedisJobStore):
    job = created(store)
    record = behind("HGET", key(store, f"job:{job.id}"), "record")
    behind("HSET", key(store, f"job:{job.id}"), "record", record.replace(b'"format":1', b'"format":99'))
    with pytest.raises(StoreError, match="upgrade"):
        store.get(job.id)
    assert store.list() == ([], False)
    assert store.survey().left == [f"{store.address.shown} ({job.id})"]


def test_a_store_of_a_newer_version_is_not_opened(store: RedisJobStore, url: str, home: Path):
    behind("SET", key(store, "format"), 99)
    with pytest.raises(StoreError, match="format 99"):
        RedisJobStore(url, home=home / "redis")


def test_a_store_that_another_home_uses_is_refused(store: RedisJobStore, url: str, home: Path):
    created(store)
    with pytest.raises(StoreError, match=rf"the home {home}/redis uses the store .* with \?prefix=name"):
        RedisJobStore(url, home=home / "other")


@pytest.mark.parametrize(
    ("boot", "machine", "refused"), [("b", "m", True), ("b", "", True), ("", "m", False)]
)
def test_a_store_that_another_machine_uses_is_refused_until_it_rests(  # noqa: PLR0917  by name
    store: RedisJobStore, url: str, home: Path, boot: str, machine: str, refused: bool
):
    job = created(store)
    changes = {"machine": machine, "host": "other"} | ({"boot": boot} if boot else {})
    for name, value in changes.items():
        behind("HSET", key(store, "user"), name, value)

    def change() -> object:
        return store.update(job.id, lambda job: job.evolve(message="x"))

    uses = [change, lambda: created(store), lambda: RedisJobStore(url, home=home / "redis").close()]
    for use in uses if refused else ():
        with pytest.raises(StoreError, match="the machine other uses the store"):
            use()
    assert store.get(job.id) == job
    behind("DEL", key(store, "user"))
    for use in uses:
        use()


def test_a_machine_is_the_same_after_a_boot(store: RedisJobStore, monkeypatch: pytest.MonkeyPatch):
    job = created(store)
    behind("HSET", key(store, "user"), "boot", "before")
    monkeypatch.setattr(job_store, "_machine_id", lambda: "")
    with pytest.raises(StoreError, match="the machine"):
        RedisJobStore(f"{store.locator()['given']['url']}", home=store.home)
    monkeypatch.setattr(job_store, "_machine_id", lambda: "m")
    behind("HSET", key(store, "user"), "machine", f"m {job_store._host()}")
    after = RedisJobStore(f"{store.locator()['given']['url']}", home=store.home)
    assert after.update(job.id, lambda job: job.evolve(message="x")).message == "x"
    after.close()


def test_a_large_result_of_another_machine_is_named_with_it(store: RedisJobStore):
    job = created(store, JobState.PENDING)
    store.update(job.id, lambda job: job.evolve(status=JobState.RUNNING))
    store.update(job.id, lambda job: job.evolve(status=JobState.COMPLETED, result="x" * 100_000))
    assert behind("HGET", key(store, f"job:{job.id}"), "host").decode() == job_store._host()
    (store.folder(job.id) / "result.json").unlink()
    behind("HSET", key(store, f"job:{job.id}"), "host", "other")
    found = store.get(job.id)
    assert found is not None
    assert (found.result, found.result_note) == (None, "result of 100002 bytes is on the machine other")


# ---- locks


def test_a_lock_that_stays_taken_is_named_with_its_holder(store: RedisJobStore, url: str, home: Path):
    hasty, job = RedisJobStore(url, home=home / "redis", lock_s=0.05), created(store)

    def change(job: Job) -> Job:
        with pytest.raises(StoreLocked, match=f"0.05 s: process {os.getpid()} holds it since") as caught:
            hasty.update(job.id, lambda job: job.evolve(message="too soon"))
        assert caught.value.holder_pid == os.getpid()
        return job.evolve(message="in time")

    assert store.update(job.id, change).message == "in time"
    assert hasty.update(job.id, lambda job: job.evolve(label="later")).message == "in time"
    hasty.close()


def test_a_holder_that_lost_its_lock_writes_nothing_and_releases_nothing(store: RedisJobStore):
    job, done, own = created(store), created(store, JobState.FAILED), key(store, "lock:own-x")
    with store.exclusive("x"):
        behind("SET", own, "another's")
        for use in (
            lambda: store.update(job.id, lambda job: job.evolve(message="late")),
            lambda: created(store),
            lambda: store.remove(done.id),
        ):
            with pytest.raises(StoreLocked, match="the lock own-x was lost"):
                use()
    assert (behind("GET", own), store.get(job.id)) == (b"another's", job)
    behind("DEL", own)


def test_an_update_whose_lease_ends_meanwhile_is_refused(store: RedisJobStore):
    job = created(store)

    def change(job: Job) -> Job:
        behind("DEL", key(store, f"lock:job-{job.id}"))
        return job.evolve(message="late")

    with pytest.raises(StoreLocked, match="stood still"):
        store.update(job.id, change)
    assert store.get(job.id) == job
    assert store.update(job.id, lambda job: job.evolve(message="now")).message == "now"


def test_a_lock_that_is_held_for_long_is_renewed(store: RedisJobStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(locks, "_LEASE_MS", 600_000)
    monkeypatch.setattr(locks, "_RENEW_S", 0.01)
    with store.exclusive("x"):
        behind("PEXPIRE", key(store, "lock:own-x"), 300_000)
        eventually(lambda: behind("PTTL", key(store, "lock:own-x")) > 500_000)
    assert behind("EXISTS", key(store, "lock:own-x")) == 0
    eventually(lambda: not [each for each in threading.enumerate() if each.name == "redis-leases"])


def test_a_thread_may_hold_several_locks(store: RedisJobStore):
    job = created(store)
    with store.exclusive("x"), store.exclusive("y"):
        assert store.update(job.id, lambda job: job.evolve(message="both")).message == "both"
    assert behind("KEYS", key(store, "lock:*")) == []


# ---- answers that are lost


def losing(store: RedisJobStore, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Lose so many answers of writes; the server has carried them out."""
    client, left = store._server._connected(), [times]
    real = client.evalsha

    def evalsha(sha: str, *words: Any) -> Any:
        answer = real(sha, *words)
        if answer == [b"done"] and left[0]:
            left[0] -= 1
            raise exceptions.ConnectionError("Connection reset by peer")
        return answer

    monkeypatch.setattr(client, "evalsha", evalsha)


def test_a_write_whose_answer_is_lost_is_done_once(store: RedisJobStore, monkeypatch: pytest.MonkeyPatch):
    created(store)
    losing(store, monkeypatch, 1)
    job = created(store, JobState.PENDING)
    losing(store, monkeypatch, 1)
    store.update(job.id, lambda job: job.evolve(status=JobState.RUNNING))
    assert [number for job_id, number in told(store) if job_id == job.id] == [1, 2]


def test_a_create_without_any_answer_is_taken_back(
    store: RedisJobStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    store.update(created(store).id, lambda job: job)
    store._server._wait_s = 0.0
    losing(store, monkeypatch, 1)
    with pytest.raises(StoreError, match="does not answer") as caught:
        created(store, JobState.PENDING, id=(job_id := new_job_id()), background=True)
    assert caught.value.in_doubt
    assert behind("EXISTS", key(store, f"job:{job_id}")) == 1
    assert eventually(lambda: _quiet(store.live))
    assert (store.get(job_id), store.index_names("ready")) == (None, ())


def _quiet(use: Callable[[], Any]) -> Any:
    try:
        return use()
    except StoreError:
        return None


# ---- a server that refuses


def test_a_full_server_is_a_shortage(store: RedisJobStore):
    from python_mcp_server.processes.host import is_shortage

    created(store)
    behind("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(StoreError, match=r"refuses it \(.*maxmemory.*\); raise its maxmemory") as caught:
            created(store)
    finally:
        behind("CONFIG", "SET", "maxmemory", "0")
    assert is_shortage(caught.value)
    assert not caught.value.in_doubt


@pytest.mark.skipif(os.name != "posix", reason="forks are POSIX")
def test_a_forked_child_uses_connections_of_its_own(store: RedisJobStore):
    job = created(store)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            store.update(job.id, lambda job: job.evolve(message="of the child"))
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    found = store.update(job.id, lambda job: job.evolve(label="of the parent"))
    assert (found.label, found.message) == ("of the parent", "of the child")
