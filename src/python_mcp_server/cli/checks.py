"""What `doctor` checks, in this order: Python, settings, uv, the home, the store, a worker, a server.

The last three are tried out in a directory of their own, on the file system of the home; their processes and
files are removed at the end.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sized
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, cast

from python_mcp_server import processes
from python_mcp_server.cli.client import connected
from python_mcp_server.errors import InvalidInput, PythonMcpError, StoreError
from python_mcp_server.jobs.health import HomeHealth
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from python_mcp_server.model import Job, JobState, ProcessIdentity, new_job_id, utc_now
from python_mcp_server.runner.textfile import split_lines
from python_mcp_server.settings import (
    BUDGET_VARIABLE,
    DEFAULT_BUDGET_S,
    Settings,
    budget,
    unknown_variables,
    variable,
)
from python_mcp_server.store.opening import (
    FILE,
    MEMORY,
    REDIS,
    SQLITE,
    StorePlace,
    open_place,
    parse_place,
    place_of,
)

Level = Literal["ok", "warning", "problem"]
_OLDEST: Final = (3, 11)
_UV_S: Final = 20
_LITTLE_BYTES: Final = 1_000_000_000
_TOO_LITTLE_BYTES: Final = 50_000_000
_NETWORK: Final = re.compile(
    "9p|af(pf)?s|beegfs|ceph|cifs|davfs|glusterfs|gpfs|lustre|nfs4?|smb[23]|smbfs"
    "|fuse[.](ceph|davfs2|gcsfuse|glusterfs|rclone|s3fs|sshfs)",
    re.IGNORECASE,
)
_PATIENCE_S: Final = 60.0
_READ_ENDS: Final = 500
"""How many of the newest records are read, and how many of the oldest: those of other versions are there."""
_READ: Final = """
import sys
from python_mcp_server.settings import Settings
from python_mcp_server.store.opening import open_store
store = open_store(Settings.from_environ())
job = store.update(sys.argv[1], lambda job: job.evolve(message="read"))
print(job.label)
"""
_OWN_CHECKS: Final = frozenset({"records", "space"})
"""What a look at the health finds, too, and the doctor with more to say."""
_SHOWN_BYTES: Final = 50_000
"""A smaller job is told as 0.0 MB."""
_GRAVE: Final = frozenset({"rules"})
"""What leaves a server able to answer calls, and keeps every queued job from its start."""
_OTHER_HOME: Final = "Make it writable, or set PYTHON_MCP_HOME to another directory."


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        name: The check.
        level: "ok", "warning" or "problem".
        text: The result in words, without a full stop.
        advice: A sentence on what to do; empty where nothing needs to be done.
    """

    name: str
    level: Level
    text: str
    advice: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return its fields."""
        return asdict(self)


class Unexpected(Exception):
    """A trial had an unexpected result; the text says which."""


def checkup(*, every_record: bool = False) -> Generator[Finding]:
    """Yield a finding for each check, as it is made.

    Args:
        every_record: Whether each record of the home is read, which takes 0.1 ms each; otherwise the newest
            and the oldest ones.

    Raises:
        InvalidInput: A setting is wrong, so that nothing can be checked.
    """
    settings = Settings.from_environ()
    yield _python()
    yield from _unknown_settings()
    yield from _wrong_budget()
    yield _check("uv", _uv, "Install it with 'pip install uv'.")
    place = place_of(settings)
    yield from _home(settings.home)
    server = list(_redis(place))
    yield from server
    if any(finding.level == "problem" for finding in server):
        return  # nothing of a store can be tried
    yield from _records(place, None if every_record else _READ_ENDS)
    yield from _jobs(settings, place)
    yield from _taken(settings, place)
    above = settings.home if place.path is None else place.path
    try:
        probe = tempfile.TemporaryDirectory(prefix=".doctor-", dir=nearest(above))
    except OSError as error:
        yield Finding("home", "problem", f"nothing can be written there ({error.strerror})", _OTHER_HOME)
        return
    with probe as name, _removed(_trial(Path(name))):
        home = Path(name)
        advice = "Choose a home on a local file system with PYTHON_MCP_HOME."
        yield _check("store", lambda: share_a_store(home), advice)
        advice = "Read the log of this program with MCP_DEBUG=true; containers may forbid processes."
        yield _check("worker", lambda: start_and_kill_a_worker(home), advice)
        advice = "Run 'python-mcp-server serve' by hand and read what it says on stderr."
        yield _check("server", lambda: run_a_script_over_stdio(home), advice)


def _check(name: str, work: Callable[[], str], advice: str) -> Finding:
    """Return the finding of a check: its text, or its error."""
    try:
        return Finding(name, "ok", work())
    except (PythonMcpError, Unexpected) as error:
        return Finding(name, "problem", str(error).rstrip("."), advice)
    except BaseExceptionGroup as group:  # the failure inside a connection of the SDK's client
        first = _leaf(group)
        return Finding(name, "problem", f"{type(first).__name__}: {first}".rstrip(": ."), advice)
    except (OSError, TimeoutError, subprocess.SubprocessError) as error:
        return Finding(name, "problem", f"{type(error).__name__}: {error}".rstrip(". "), advice)


def _leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error


def _python() -> Finding:
    text = f"{platform.python_implementation()} {platform.python_version()} at {sys.executable}"
    if sys.version_info < _OLDEST:  # the package may have been made to run by force
        return Finding("python", "problem", text, "Use Python 3.11 or later.")
    return Finding("python", "ok", text)


def _unknown_settings() -> Iterator[Finding]:
    for name, nearest_name in unknown_variables():
        advice = f"Set {nearest_name} instead." if nearest_name else "docs/settings.md has all of them."
        yield Finding("settings", "warning", f"{name} is set, and no setting has this name", advice)


def _wrong_budget() -> Iterator[Finding]:
    try:
        budget(BUDGET_VARIABLE, DEFAULT_BUDGET_S)
    except InvalidInput as error:
        yield Finding("settings", "problem", str(error), "Each call of a tool is refused until then.")


def _uv() -> str:
    from python_mcp_server.runner.python.uv import find_uv

    path = find_uv()
    told = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=_UV_S, check=True)
    return f"{told.stdout.strip()} at {path}"


def _home(home: Path) -> Iterator[Finding]:
    if not home.exists() and not can_be_made(home):
        yield Finding("home", "problem", f"{home} does not exist and cannot be made", _OTHER_HOME)
    elif not home.exists():
        yield Finding("home", "ok", f"{home} does not exist yet; it is made with the first job")
    elif not home.is_dir():
        yield Finding("home", "problem", f"{home} is not a directory", _OTHER_HOME)
    elif open_to_others(home):
        mode = f"{home.stat().st_mode & 0o777:o}"
        yield Finding("home", "warning", f"others may enter {home} (mode {mode})", f"Run: chmod 700 {home}")
    else:
        yield Finding("home", "ok", f"{home}, private")
    yield _space(home)
    yield _file_system(home)


def _space(home: Path) -> Finding:
    free = shutil.disk_usage(nearest(home)).free
    text = f"{free / 1e9:.1f} GB free"
    if free < _LITTLE_BYTES:
        level: Level = "problem" if free < _TOO_LITTLE_BYTES else "warning"
        return Finding(
            "space", level, text, "Free some with: python-mcp-server clean, python-mcp-server jobs prune."
        )
    return Finding("space", "ok", text)


def _taken(settings: Settings, place: StorePlace) -> Iterator[Finding]:
    """Say what takes the space, and what the bounds of the home remove next."""
    from python_mcp_server.cli import space

    if not place.exists():
        return
    try:
        with closing(open_place(place)) as store:
            found = space.survey(settings, store.home, place.path)
            yield Finding("taken", "ok", space.words(found))
            found.largest = [each for each in found.largest if each[0] >= _SHOWN_BYTES]
            if found.largest:
                yield Finding("largest jobs", "ok", space.largest_words(found))
            for text in space.bounds(settings, store, found):
                yield Finding("bound", "ok", text)
    except PythonMcpError as error:
        yield Finding("bound", "problem", str(error).rstrip("."), _OTHER_HOME)


def _jobs(settings: Settings, place: StorePlace) -> Iterator[Finding]:
    """Say what is wrong in the home, as servers and agents see it."""
    if not place.exists():
        return
    try:
        with closing(open_place(place, lock_s=settings.lock_seconds)) as store:
            found = HomeHealth(store, settings).look()
    except PythonMcpError as error:
        yield Finding("jobs", "problem", str(error).rstrip("."), _OTHER_HOME)
        return
    for problem in found.problems:
        if problem.check not in _OWN_CHECKS:
            text = f"{problem.text}: {problem.detail}" if problem.detail else problem.text
            level: Level = "problem" if problem.failing or problem.check in _GRAVE else "warning"
            yield Finding(problem.check, level, text.rstrip("."), problem.advice)
    if not found.problems:
        yield Finding("jobs", "ok", "nothing keeps jobs from running")


def _file_system(home: Path) -> Finding:
    kind = file_system(home)
    if is_network(kind):
        advice = "Locks may not hold between machines; set PYTHON_MCP_HOME to a local directory."
        return Finding("file system", "warning", f"{kind}, a network file system", advice)
    return Finding("file system", "ok", kind or "of unknown kind")


def _redis(place: StorePlace) -> Iterator[Finding]:
    """Say what the server keeps of what it acknowledges."""
    if place.kind != REDIS:
        return
    from python_mcp_server.store.redis.administration import Durability

    try:
        found = Durability.of(place.url)
    except PythonMcpError as error:
        yield Finding("redis", "problem", str(error).rstrip("."), "Start it, or look at PYTHON_MCP_STORE.")
        return
    server = f"version {found.version}"
    if found.evicts:
        advice = "Set maxmemory-policy noeviction: a job that is removed is lost."
        yield Finding("redis", "warning", f"{server} removes keys when it is full ({found.evicts})", advice)
    if not found.has_log:
        advice = "Set appendonly yes, and appendfsync always where no acknowledged job may be lost."
        yield Finding("redis", "warning", f"{server} has no log on disk: jobs may end with it", advice)
    elif not found.evicts:
        yield Finding("redis", "ok", f"{server} keeps a log on disk")


def _records(place: StorePlace, most: int | None) -> Iterator[Finding]:
    if not place.exists():
        return
    try:
        with closing(open_place(place)) as store:
            found = store.survey(most)
    except PythonMcpError as error:
        advice = _OTHER_HOME if place.kind == FILE else "Or set PYTHON_MCP_STORE to another store."
        yield Finding("records", "problem", str(error), advice)
        return
    if found.damaged:
        advice = f"Look at them in {found.damaged[0].parent}, and remove them."
        text = f"{_count(found.damaged, 'damaged file')} set aside"
        yield Finding("records", "warning", text, advice)
    if found.left:
        advice = f"Make it readable, or upgrade this program if a newer version wrote it: {found.left[0]}"
        text = f"{_count(found.left, 'record')} left that cannot be read"
        yield Finding("records", "warning", text, advice)
    if not found.damaged and not found.left:
        which = "the jobs" if found.complete else f"the newest and the oldest {most} jobs"
        more = "" if found.complete else "--all reads every record."
        yield Finding("records", "ok", f"{which} can be read, none is damaged", more)


def _count(things: Sized, name: str) -> str:
    return f"1 {name} was" if len(things) == 1 else f"{len(things)} {name}s were"


def nearest(home: Path) -> Path:
    """Return the home, or the nearest directory above it that exists."""
    return next((path for path in (home, *home.parents) if path.is_dir()), Path(home.anchor))


def open_to_others(home: Path) -> bool:
    """Whether users other than the owner may enter the directory."""
    return sys.platform != "win32" and bool(home.stat().st_mode & 0o077)


def file_system(home: Path) -> str:
    """Return the kind of file system, such as "ext4"; empty if unknown."""
    import psutil

    place = os.path.realpath(nearest(home))
    best, kind = "", ""
    for partition in psutil.disk_partitions(all=True):
        mount = partition.mountpoint
        holds = place == mount or place.startswith(mount.rstrip("/\\") + os.sep)
        if holds and len(mount) >= len(best):
            best, kind = mount, partition.fstype
    return kind


def is_network(kind: str) -> bool:
    """Whether this kind of file system is a network file system."""
    return _NETWORK.fullmatch(kind) is not None


def can_be_made(home: Path) -> bool:
    """Whether the user may make this directory, which does not exist."""
    above = next(path for path in home.parents if path.exists())
    return above.is_dir() and os.access(above, os.W_OK | os.X_OK)


def share_a_store(home: Path) -> str:
    """Write a job here, change it in another process, and see the change here."""
    place = place_of(Settings.from_environ())
    if place.kind == MEMORY:
        return "jobs are in memory, and end with their server"
    tried = _trial(home)
    store = open_place(tried)
    job = Job(new_job_id(), "doctor", JobState.PENDING, utc_now())
    store.create(job)
    command = [sys.executable, "-P", "-c", _READ, job.id]
    env = {**os.environ, variable("store"): tried.setting, variable("home"): str(home)}
    other = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False, env=env)
    if other.returncode != 0:
        last = (split_lines(other.stderr.strip()) or ["no word"])[-1]
        raise Unexpected(f"another process could not use it: {last}")
    found = store.get(job.id)
    store.close()
    if other.stdout.strip() != job.label or found is None or found.message != "read":
        raise Unexpected("what one process writes, another does not see")
    return f"two processes share it; jobs are in {place}"


def _trial(home: Path) -> StorePlace:
    """Return a place in this directory for a store of the kind that the settings name; on a Redis server it
    has a prefix of its own.
    """
    place = place_of(Settings.from_environ())
    if place.kind == REDIS:
        from python_mcp_server.store.redis.address import RedisAddress

        url = RedisAddress.parse(place.url, variable("store")).with_prefix(home.name.strip("."))
        return parse_place(url, variable("store"), home)
    return StorePlace(SQLITE, home / "jobs.db") if place.kind == SQLITE else StorePlace(FILE, home)


@contextmanager
def _removed(trial: StorePlace) -> Generator[None]:
    """Remove what the trials have left on a Redis server."""
    try:
        yield
    finally:
        if trial.kind == REDIS:
            from python_mcp_server.store.redis.administration import remove_store

            with suppress(StoreError):  # it has been told that the server is away
                remove_store(trial.url)


def start_and_kill_a_worker(home: Path) -> str:
    """Run a body in a worker, and kill the worker."""
    return asyncio.run(asyncio.wait_for(_start_and_kill(home), _PATIENCE_S))


async def _start_and_kill(home: Path) -> str:
    trial = _trial(home).setting
    settings = replace(Settings.from_environ(), home=home, store=trial, cancel_grace_seconds=0.1)
    begin = time.monotonic()
    async with JobManager(settings=settings) as manager:
        answer = await manager.run(Request(os.getpid), budget_s=_PATIENCE_S)
        started_s = time.monotonic() - begin
        job = await manager.submit_request(Request(time.sleep, (_PATIENCE_S,), label="doctor"))
        worker = await _worker_of(manager, job.id)
        begin = time.monotonic()
        ended = await manager.cancel(job.id)
        killed_s = time.monotonic() - begin
        if answer.value == os.getpid():
            raise Unexpected("a body ran in this process instead of a worker")
        if ended.status is not JobState.CANCELLED or processes.is_alive(worker):
            raise Unexpected(f"a cancelled job is {ended.status.value}, and its worker {worker.pid} is there")
    return f"started and answered in {started_s * 1000:.0f} ms, killed in {killed_s * 1000:.0f} ms"


async def _worker_of(manager: JobManager, job_id: str) -> ProcessIdentity:
    while True:
        worker = (await manager.get(job_id)).worker
        if worker is not None:
            return worker
        await asyncio.sleep(0.01)


def run_a_script_over_stdio(home: Path) -> str:
    """Run a script through a server, as an MCP client does."""
    return asyncio.run(asyncio.wait_for(_run_a_script(home), _PATIENCE_S))


async def _run_a_script(home: Path) -> str:
    begin = time.monotonic()
    async with connected(home, **{variable("store"): _trial(home).setting}) as client:
        arguments = {"directory": str(home), "script_content": "print(6 * 7)"}
        answer = await client.call("py_run_script_in_dir", arguments)
        took_s = time.monotonic() - begin
    if answer.get("stdout") != "42\n":
        raise Unexpected(f"a script that prints 42 answered {answer}")
    return f"a script ran through a server over stdio, {took_s:.1f} s from its start"
