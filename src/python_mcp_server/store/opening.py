"""Which store there is: by the setting `PYTHON_MCP_STORE`, and by the locator that a worker gets.

A store is imported when it is opened, so that a process pays for its own store only.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from python_mcp_server.errors import InvalidInput, StoreError, quoted
from python_mcp_server.settings import Settings, variable
from python_mcp_server.store.layout import LIVE, Layout

if TYPE_CHECKING:
    from python_mcp_server.store.contract import JobStore

FILE: Final = "file"
SQLITE: Final = "sqlite"
REDIS: Final = "redis"
MEMORY: Final = "memory"
_DRIVE: Final = re.compile(r"/[A-Za-z]:")
_REDIS_SCHEMES: Final = ("redis", "rediss", "unix")
_RIGHT: Final = (
    "file:///directory, sqlite:///directory/jobs.db, redis://[user:password@]host:port/db or memory://"
)


@dataclass(frozen=True, slots=True)
class StorePlace:
    """Where a store is.

    Attributes:
        kind: "file", "sqlite", "redis" or "memory".
        path: The directory, the database file, or the directory of the files of a store on a Redis server;
            None in memory.
        url: The URL of the Redis server, which may have a password; empty elsewhere.
        shown: The same as people may see it; also the text of the place.
    """

    kind: str
    path: Path | None = None
    url: str = field(default="", repr=False)
    shown: str = ""

    @property
    def setting(self) -> str:
        """What `PYTHON_MCP_STORE` must be for this place. It may have a password, so it is for no eyes."""
        return self.url or str(self)

    def __str__(self) -> str:
        if self.shown:
            return self.shown
        return f"{self.kind}://" if self.path is None else f"{self.kind}://{_slashed(self.path)}"

    def exists(self) -> bool:
        """Whether a store was made there; one that cannot be looked at counts as made."""
        if self.path is None:
            return False
        if self.kind == REDIS:
            from python_mcp_server.store.redis.job_store import is_made

            return is_made(self.url)
        if self.kind == SQLITE:
            return not _is_missing(str(self.path))
        layout = Layout(str(self.path))
        return not (_is_missing(layout.jobs) and _is_missing(layout.meta))


def _is_missing(path: str) -> bool:
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    except OSError:  # the store tells why it cannot be opened
        return False
    return False


def _slashed(path: Path) -> str:
    text = path.as_posix()
    return text if text.startswith("/") else f"/{text}"


def place_of(settings: Settings) -> StorePlace:
    """Return where the jobs of these settings lie: as `store` says, else in the home.

    Raises:
        InvalidInput: The setting names no store.
    """
    if not settings.store:
        return StorePlace(FILE, settings.home)
    return parse_place(settings.store, variable("store"), settings.home)


def parse_place(url: str, name: str, home: Path | None = None) -> StorePlace:
    """Read the URL of a store.

    Args:
        url: `file:///directory`, `sqlite:///directory/jobs.db`, `redis://host:port/db` or `memory://`; a path
            may begin with `/~/`.
        name: The name of the setting or the argument, for the text of an error.
        home: The home, for the files of a store on a Redis server; that of the environment where None.

    Raises:
        InvalidInput: It is something else.
    """
    kind, separator, rest = url.strip().partition("://")
    if separator and kind in _REDIS_SCHEMES:
        return _redis_place(url.strip(), name, home)
    if separator and kind not in (FILE, SQLITE, MEMORY):  # the rest may have a password
        raise InvalidInput(f"{name} begins with {quoted(f'{kind}://')}; it must be {_RIGHT}")
    if kind == MEMORY and separator and not rest:
        return StorePlace(MEMORY)
    path = rest[1:] if rest.startswith("/~") or _DRIVE.match(rest) else rest
    path = os.path.expanduser(path)
    if kind == MEMORY or not separator or not os.path.isabs(path) or path.rstrip("/\\") == "":
        raise InvalidInput(f"{name} is {quoted(url)}; it must be {_RIGHT}")
    return StorePlace(kind, Path(os.path.abspath(path)))


def _redis_place(url: str, name: str, home: Path | None) -> StorePlace:
    from python_mcp_server.store.redis.address import RedisAddress, files_of

    address = RedisAddress.parse(url, name)
    return StorePlace(REDIS, files_of(address, home), url, address.shown)


def open_store(settings: Settings) -> JobStore:
    """Open the store of these settings.

    Raises:
        InvalidInput: The setting names no store.
        StoreError: The store cannot be used.
    """
    return open_place(place_of(settings), lock_s=settings.lock_seconds, fsync=settings.fsync)


def open_place(place: StorePlace, *, lock_s: float = 10.0, fsync: bool = False) -> JobStore:
    """Open the store at this place; it is made where it is missing.

    Raises:
        StoreError: The store cannot be used.
    """
    if place.path is None:
        from python_mcp_server.store.memory import InMemoryJobStore

        return InMemoryJobStore()
    if place.kind == SQLITE:
        from python_mcp_server.store.sqlite import SqliteJobStore

        return SqliteJobStore(place.path, lock_s=lock_s, fsync=fsync)
    if place.kind == REDIS:
        from python_mcp_server.store.redis.job_store import RedisJobStore

        return RedisJobStore(place.url, home=place.path, lock_s=lock_s, fsync=fsync)
    from python_mcp_server.store.files import FileJobStore

    return FileJobStore(place.path, lock_s=lock_s, fsync=fsync)


def has_live_jobs(settings: Settings) -> bool:
    """Whether a job of these settings has not ended; no store is made for the look.

    Raises:
        InvalidInput: The setting names no store.
        StoreError, OSError: The store cannot be read.
    """
    place = place_of(settings)
    if place.kind == FILE and place.path is not None:
        return _has_live_files(place.path)
    if not place.exists():
        return False
    store = open_store(settings)
    try:
        return bool(store.live())
    finally:
        store.close()


def _has_live_files(home: Path) -> bool:
    """Look without the file store, because this is asked in every program that decorates a function."""
    try:
        with os.scandir(f"{Layout(os.path.abspath(home.expanduser())).jobs}/{LIVE}") as entries:
            return any(entries)
    except (FileNotFoundError, NotADirectoryError):
        return False


def open_locator(locator: dict[str, Any]) -> JobStore:
    """Open the store that `JobStore.locator` told of; a missing store, such as on a disk that is gone, is not
    made anew.

    Raises:
        StoreError: The store is gone, or cannot be used.
    """
    check_there(locator)
    module, _, name = locator["opens"].partition(":")
    return getattr(import_module(module), name)(**locator["given"])


def check_there(locator: dict[str, Any]) -> None:
    """Refuse a store that was removed.

    Raises:
        StoreError: It is gone.
    """
    if is_gone(locator):
        raise StoreError(
            f"There is no store at {locator['place']} any more; bring it back, or start the job again"
        )


def is_gone(locator: dict[str, Any]) -> bool:
    """Whether the store was removed; a disk that cannot be read does not count as removed."""
    try:
        os.stat(locator["place"])
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
