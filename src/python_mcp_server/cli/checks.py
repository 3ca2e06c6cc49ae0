"""What `doctor` looks at, in this order. What it starts and writes is gone when it ends: it works in
a directory of its own, on the file system of the home."""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator, Sized
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast

from python_mcp_server.cli import homes, trials
from python_mcp_server.errors import PythonMcpError
from python_mcp_server.settings import Settings

Level = Literal["ok", "warning", "problem"]
_OLDEST: Final = (3, 11)
_UV_S: Final = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        name: The check.
        level: "ok", "warning" or "problem".
        text: What was found, without a full stop.
        advice: A sentence on what to do; empty where all is well.
    """

    name: str
    level: Level
    text: str
    advice: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return its fields."""
        return asdict(self)


def checkup() -> Generator[Finding]:
    """Yield a finding for each check, as it is made.

    Raises:
        InvalidInput: A setting is wrong, so that nothing can be checked.
    """
    settings = Settings.from_environ()
    yield _python()
    yield _check("uv", _uv, "Install it with 'pip install uv'.")
    yield from _home(settings.home)
    yield from _semaphores()
    try:
        probe = tempfile.TemporaryDirectory(prefix=".doctor-", dir=homes.nearest(settings.home))
    except OSError as error:
        yield Finding("home", "problem", f"nothing can be written there ({error.strerror})", _OTHER_HOME)
        return
    with probe as name:
        home = Path(name)
        advice = "Choose a home on a local file system with PYTHON_MCP_HOME."
        yield _check("store", lambda: trials.share_a_store(home), advice)
        advice = "Read the log of this program with MCP_DEBUG=true; containers may forbid processes."
        yield _check("worker", lambda: trials.start_and_kill_a_worker(home), advice)
        advice = "Run 'python-mcp-server serve' by hand and read what it says on stderr."
        yield _check("server", lambda: trials.run_a_script_over_stdio(home), advice)


_OTHER_HOME: Final = "Make it writable, or set PYTHON_MCP_HOME to another directory."


def _check(name: str, work: Callable[[], str], advice: str) -> Finding:
    """Return what the work says, or how it failed."""
    try:
        return Finding(name, "ok", work())
    except (PythonMcpError, trials.Unexpected) as error:
        return Finding(name, "problem", str(error).rstrip("."), advice)
    except BaseExceptionGroup as group:  # what failed inside a connection of the SDK's client
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


def _uv() -> str:
    from python_mcp_server.runner.uv import find_uv

    path = find_uv()
    told = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=_UV_S, check=True)
    return f"{told.stdout.strip()} at {path}"


def _home(home: Path) -> Iterator[Finding]:
    if not home.exists() and not homes.can_be_made(home):
        yield Finding("home", "problem", f"{home} is not there and cannot be made", _OTHER_HOME)
    elif not home.exists():
        yield Finding("home", "ok", f"{home} is not there yet; it is made with the first job")
    elif not home.is_dir():
        yield Finding("home", "problem", f"{home} is no directory", _OTHER_HOME)
    elif homes.open_to_others(home):
        mode = f"{home.stat().st_mode & 0o777:o}"
        yield Finding("home", "warning", f"others may enter {home} (mode {mode})", f"Run: chmod 700 {home}")
    else:
        yield Finding("home", "ok", f"{home}, private")
    yield _space(home)
    yield _file_system(home)
    if home.is_dir():
        yield from _records(home)


def _space(home: Path) -> Finding:
    free = homes.free_bytes(home)
    text = f"{free / 1e9:.1f} GB free"
    if free < homes.LITTLE_BYTES:
        level: Level = "problem" if free < homes.TOO_LITTLE_BYTES else "warning"
        return Finding("space", level, text, "Free some, or remove old jobs: python-mcp-server jobs prune.")
    return Finding("space", "ok", text)


def _file_system(home: Path) -> Finding:
    kind = homes.file_system(home)
    if homes.is_network(kind):
        advice = "Locks may not hold between machines; set PYTHON_MCP_HOME to a local directory."
        return Finding("file system", "warning", f"{kind}, a network file system", advice)
    return Finding("file system", "ok", kind or "of unknown kind")


def _semaphores() -> Iterator[Finding]:
    from python_mcp_server.pool import semaphores

    if removed := semaphores.sweep():
        gone = "that a killed program had left, and removed"
        yield Finding("semaphores", "ok", f"found {removed} {gone}")


def _records(home: Path) -> Iterator[Finding]:
    from python_mcp_server.store.files import FileJobStore

    try:
        with closing(FileJobStore(home)) as store:
            found = store.survey()
    except PythonMcpError as error:
        yield Finding("records", "problem", str(error), _OTHER_HOME)
        return
    if found.damaged:
        advice = f"Look at them in {found.damaged[0].parent}, and remove them."
        text = f"{_count(found.damaged, 'damaged file')} set aside"
        yield Finding("records", "warning", text, advice)
    if found.left:
        advice = f"Make it readable, or upgrade this program if a newer version wrote it: {found.left[0]}"
        text = f"{_count(found.left, 'record')} left where nobody can read it"
        yield Finding("records", "warning", text, advice)
    if not found.damaged and not found.left:
        yield Finding("records", "ok", "the jobs can be read, none is damaged")


def _count(things: Sized, name: str) -> str:
    return f"1 {name} was" if len(things) == 1 else f"{len(things)} {name}s were"
