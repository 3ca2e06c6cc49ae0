"""A Redis server that is killed, stopped, guarded by a password or reached by TLS."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis import exceptions

from python_mcp_server.errors import JobNotFound, StoreError
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.store.journal import JournalReader, Position
from python_mcp_server.store.keys import index_key
from python_mcp_server.store.redis.job_store import RedisJobStore
from tests.helpers import eventually
from tests.helpers import framework_bodies as fb
from tests.helpers.managers import lines, manager
from tests.helpers.redis_server import RedisProcess
from tests.helpers.store_kills import AFTER
from tests.helpers.survival import ended, server

DURABLE = {"appendonly": "yes", "appendfsync": "always"}


@pytest.fixture
def durable() -> Iterator[RedisProcess]:
    with RedisProcess(**DURABLE) as process:
        yield process


def a_job(status: JobState = JobState.PENDING) -> Job:
    return Job(new_job_id(), "label", status, utc_now(), background=True)


class Writers:
    """Threads that let jobs live until they are told to stop, and note what was acknowledged."""

    def __init__(self, store: RedisJobStore) -> None:
        self.words: dict[str, str] = {}
        self.refused = set[str]()
        self._store = store
        self._changed = threading.Condition()
        self._done = False
        self._threads = [threading.Thread(target=self._run) for _ in range(4)]
        for thread in self._threads:
            thread.start()

    def _say(self, job_id: str, word: str) -> None:
        with self._changed:
            self.words[job_id] = word
            self._changed.notify_all()

    def wait_for(self, more: int, word: str) -> None:
        """Wait until so many more jobs have come so far."""
        with self._changed:
            wanted = Counter(self.words.values())[word] + more
            assert self._changed.wait_for(lambda: Counter(self.words.values())[word] >= wanted, 60)

    def wait_for_refusal(self) -> None:
        with self._changed:
            before = len(self.refused)
            assert self._changed.wait_for(lambda: len(self.refused) > before, 60)

    def stop(self) -> None:
        self._done = True
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._done:
            job = a_job()
            try:
                self._store.create(job)
            except StoreError:
                with self._changed:
                    self.refused.add(job.id)
                    self._changed.notify_all()
                continue
            with suppress(StoreError):
                self._live(job.id)

    def _live(self, job_id: str) -> None:
        store = self._store
        self._say(job_id, "pending")
        self._say(job_id, "starting")
        store.update(job_id, lambda job: job.evolve(status=JobState.RUNNING))
        self._say(job_id, "running")
        self._say(job_id, "ending")
        store.update(job_id, lambda job: job.evolve(status=JobState.COMPLETED, completed_at=utc_now()))
        self._say(job_id, "completed")
        if job_id[-1] in "0123456789":
            self._say(job_id, "pruning")
            store.remove(job_id)
            self._say(job_id, "gone")


def check(store: RedisJobStore, writers: Writers) -> None:
    """Hold the store against what was acknowledged."""
    found = {job.id: job for job in store.list(limit=1_000_000)[0]}
    for job_id, word in writers.words.items():
        job = found.get(job_id)
        assert (job.status if job else None) in AFTER[word], (job_id, word)
    assert found.keys() <= writers.words.keys()  # what was refused is not there, whatever the server had done
    keys = {job_id: index_key(job) for job_id, job in found.items()}
    wanted = {(key.name, job_id) for job_id, key in keys.items() if key is not None}
    names = store.index_names("")
    assert {(name, job.id) for name in names for job in store.indexed(name, 1_000_000)} == wanted
    assert {job.id for job in store.live()} == {
        each for each, job in found.items() if not job.status.terminal
    }
    events = JournalReader(store.journal, Position(0, 0)).read_all()
    last = {event.job_id: event.number for event in events}
    assert all(job.event and last[job_id] == job.event.number for job_id, job in found.items())
    assert store.prune(among=[]).remaining == len(found)


def test_a_server_killed_under_load_loses_nothing_it_acknowledged(durable: RedisProcess, home: Path):
    store = RedisJobStore(durable.url(), home=home)
    writers = Writers(store)
    try:
        for number in range(4):
            writers.wait_for(5 + 7 * number, "completed")
            durable.kill()
            writers.wait_for_refusal()
            durable.start()
        writers.wait_for(5, "completed")
    finally:
        writers.stop()
    check(store, writers)
    store.close()


def test_a_server_that_stands_still_holds_up_nobody_for_long(durable: RedisProcess, home: Path):
    store = RedisJobStore(durable.url(), home=home, lock_s=0.2)
    writers = Writers(store)
    try:
        writers.wait_for(5, "completed")
        durable.send_signal(signal.SIGSTOP)
        writers.wait_for_refusal()
        durable.send_signal(signal.SIGCONT)
        writers.wait_for(5, "completed")
    finally:
        durable.send_signal(signal.SIGCONT)
        writers.stop()
    eventually(lambda: store.create(a := a_job()) or store.remove(a.id) or True)
    check_without_new(store, writers)
    store.close()


def check_without_new(store: RedisJobStore, writers: Writers) -> None:
    writers.words |= {job.id: "pending" for job in store.list(JobState.PENDING, 1_000_000)[0]}
    check(store, writers)


async def test_jobs_go_on_without_a_server_and_new_ones_are_refused(
    durable: RedisProcess, home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    log, gate = tmp_path / "log", tmp_path / "gate"
    store = RedisJobStore(durable.url(), home=home)
    async with manager(store) as jobs:
        job_id = await jobs.submit(fb.hold_named, str(log), "x", str(gate))
        await asyncio.to_thread(eventually, lambda: lines(log) == ["+x"])
        durable.kill()
        for _ in range(3):
            with pytest.raises(StoreError, match=r"does not answer.*jobs that run go on") as caught:
                await jobs.submit(fb.said, str(log), "refused")
            assert "\n" not in str(caught.value)
        gate.touch()
        await asyncio.to_thread(eventually, lambda: "still cannot be written" in caplog.text)
        assert lines(log) == ["+x", "-x"]
        durable.start()
        await asyncio.to_thread(eventually, lambda: _state(store, job_id) is JobState.COMPLETED)
        later = await jobs.submit(fb.said, str(log), "later")
        await asyncio.to_thread(eventually, lambda: _state(store, later) is JobState.COMPLETED)
        assert [job.id for job in store.list()[0]] == [later, job_id]
    assert lines(log) == ["+x", "-x", "later"]
    store.close()


def _state(store: RedisJobStore, job_id: str) -> JobState | None:
    with suppress(StoreError, JobNotFound):
        job = store.peek(job_id)
        return None if job is None else job.status
    return None


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_an_orphan_writes_its_end_when_the_server_is_back(
    durable: RedisProcess, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PYTHON_MCP_STORE", durable.url())
    (folder := tmp_path / "work").mkdir()
    with server(["return_after", str(folder), "plain"], PYTHON_MCP_LOCK_SECONDS="0.3") as killed:
        eventually(lambda: lines(folder / "starts"))
        killed.kill()
        durable.kill()
        (folder / "end").touch()
        eventually(lambda: any("later" in log.read_text() for log in home.rglob("stderr")))
        durable.start()
        job = ended(home, killed.ids[0])
    assert (job.status, job.result) == (JobState.COMPLETED, "done")
    assert lines(folder / "starts")[1:] == ["ended"]


def test_a_program_starts_while_the_server_is_away(home: Path, caplog: pytest.LogCaptureFixture):
    with RedisProcess(**DURABLE) as process:
        process.kill()
        store = RedisJobStore(process.url(), home=home, lock_s=0.1)
        assert "does not answer" in caplog.text
        process.start()
        job = a_job()
        assert eventually(lambda: _created(store, job))
        assert store.get(job.id) == job
        store.close()


def _created(store: RedisJobStore, job: Job) -> bool:
    with suppress(StoreError):
        store.create(job)
        return True
    return False


def test_a_wrong_password_is_refused_in_a_sentence_without_it(home: Path):
    with RedisProcess(requirepass="open/sesame") as process:
        store = RedisJobStore(process.url(secret="open%2Fsesame"), home=home)
        store.create(a_job())
        store.close()
        for secret in ("", "wrongpass"):
            with pytest.raises(StoreError, match="give the user and the password in the URL") as caught:
                RedisJobStore(process.url(secret=secret), home=home)
            assert not secret or secret not in str(caught.value)


def certificate(directory: Path) -> Path:
    """Write a certificate of this machine and its key; return the file of both."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    day, now = timedelta(days=1), utc_now()
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now - day).not_valid_after(now + day)
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    encodings = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path = directory / "both.pem"
    signed = made.sign(key, hashes.SHA256())
    path.write_bytes(key.private_bytes(*encodings) + signed.public_bytes(serialization.Encoding.PEM))
    return path


def test_tls_is_used_and_its_certificate_is_checked(home: Path, tmp_path: Path):
    pem = str(certificate(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    tls = {"tls-port": str(port), "tls-cert-file": pem, "tls-key-file": pem, "tls-ca-cert-file": pem}
    with RedisProcess(bind="127.0.0.1", **tls, **{"tls-auth-clients": "no", "requirepass": "sesame"}):
        url = f"rediss://:sesame@127.0.0.1:{port}/0"
        store, job = RedisJobStore(f"{url}?ssl_ca_certs={pem}", home=home), a_job()
        store.create(job)
        assert store.get(job.id) == job
        store.close()
        for wrong in (url, url.replace("rediss", "redis")):
            refused = RedisJobStore(wrong, home=home, lock_s=0.1)
            with pytest.raises(StoreError, match="does not answer") as caught:
                refused.create(a_job())
            assert "sesame" not in str(caught.value)
            refused.close()


async def test_a_claim_whose_answer_is_lost_is_made_again(
    durable: RedisProcess, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    log, store = tmp_path / "log", RedisJobStore(durable.url(), home=home)
    store._server._wait_s = 0.0  # no patience: the first lost answer is a failure
    client = store._server._connected()
    real, lost = client.evalsha, list[str]()

    def evalsha(sha: str, *words: Any) -> Any:
        answer = real(sha, *words)
        if answer == [b"done"] and "running" in words and not lost:
            lost.append(sha)
            raise exceptions.ConnectionError("Connection reset by peer")
        return answer

    monkeypatch.setattr(client, "evalsha", evalsha)
    async with manager(store) as jobs:
        job_id = await jobs.submit(fb.said, str(log), "x")
        await asyncio.to_thread(eventually, lambda: _state(store, job_id) is JobState.COMPLETED)
    assert (len(lost), lines(log)) == (1, ["x"])
    store.close()
