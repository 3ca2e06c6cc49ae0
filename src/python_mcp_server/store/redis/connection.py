"""The connections of one process to one Redis server.

A call that finds no server tries again for a moment, because a restart takes one. After that the server
counts as away: all calls are refused at once, in a sentence, and from time to time one of them tries again.
So nothing hangs, and a thread of the manager seldom waits for more than a second.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any, Final

from python_mcp_server.errors import StoreError
from python_mcp_server.store.redis.address import RedisAddress

_log: Final = logging.getLogger(__name__)
_PATIENCE_S: Final = 1.0
"""Guessed: a server that restarts with little data is back within that time."""
_FIRST_NAP_S: Final = 0.02
_LONGEST_NAP_S: Final = 0.2
_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 2.0
"""Between two tries while the server is away. Guessed: jobs are written that soon after it is back."""
_TIMEOUT_S: Final = 5.0
"""A server that answers nothing for so long is away; guessed."""
_MOST_CHARS: Final = 200
_NAME: Final = "python-mcp-server"
_ADVICE: Final = {
    "AuthenticationError": "give the user and the password in the URL",
    "AuthorizationError": "give the user and the password in the URL",
    "NoPermissionError": "let this user run scripts, and commands on all keys of the prefix",
    "OutOfMemoryError": "raise its maxmemory, or prune jobs",
    "ReadOnlyError": "name the primary server, not a replica",
}
_PATIENT: Final = "start it again; jobs that run go on, and are written when it is back"


class RedisAway(StoreError):
    """The server does not answer now; what was asked for can be asked again later."""

    def __init__(self, sentence: str, *, in_doubt: bool = False) -> None:
        super().__init__(sentence)
        self.in_doubt = in_doubt


class RedisServer:
    """Runs scripts on one server.

    Args:
        address: The server, and the prefix of the keys.
        wait_s: How long a caller waits at most.
    """

    def __init__(self, address: RedisAddress, wait_s: float) -> None:
        self.address: Final = address
        self._wait_s = wait_s
        self._client: Any = None
        self._debts: list[Callable[[], object]] = []
        self._scripts: dict[str, Any] = {}
        self._free_locks()
        _servers.add(self)

    def free_locks(self) -> None:
        """Replace the lock in a forked child, because a thread of the parent that may hold it does not exist
        there; the client library opens connections of the child's own.
        """
        self._free_locks()

    def _free_locks(self) -> None:
        self._guard = threading.Lock()
        self._away_since: float | None = None
        self._next_try = 0.0
        self._pause_s = _FIRST_PAUSE_S
        self._reason = ""

    def run(self, script: str, doing: str, *arguments: bytes | str | float) -> Any:
        """Run a script on the keys of this store, and return its answer.

        Where the connection breaks meanwhile it may run twice, so each script notices that it has run.

        Args:
            script: The script; its first key is the prefix.
            doing: What the caller does, for the text of an error.
            arguments: Its arguments.

        Raises:
            StoreError: The server is away, or refuses.
        """
        return self._call(doing, lambda: self._script(script)([self.address.key_prefix], arguments))

    def command(self, doing: str, *words: bytes | str | float) -> Any:
        """Carry out a command that may be carried out twice, and return its answer.

        Raises:
            StoreError: As `run`.
        """
        return self._call(doing, lambda: self._connected().execute_command(*words))

    def run_first(self, script: str, *arguments: bytes | str | float) -> None:
        """Run a script before anything else once the server is back: one that undoes what a caller was told
        is not done, and may be done.
        """
        self._debts.append(lambda: self._script(script)([self.address.key_prefix], arguments))

    def _pay_debts(self) -> None:
        while self._debts:
            debt = self._debts[-1]
            debt()
            with suppress(ValueError):  # another thread has paid it meanwhile
                self._debts.remove(debt)

    def close(self) -> None:
        """Close the connections; the next call opens one again."""
        client, self._client = self._client, None
        self._scripts = {}
        if client is not None:
            client.close()

    def _script(self, text: str) -> Any:
        found = self._scripts.get(text)
        if found is None:
            found = self._scripts[text] = self._connected().register_script(text)
        return found

    def _connected(self) -> Any:
        with self._guard:
            if self._client is None:
                self._client = _client(self.address.url, min(_TIMEOUT_S, max(self._wait_s, _FIRST_NAP_S)))
            return self._client

    def _call(self, doing: str, call: Any) -> Any:
        """Make a call, again and again for a moment where the server is away."""
        exceptions = _library().exceptions
        patience_s = min(self._wait_s, _PATIENCE_S) if self._is_here(doing) else 0.0
        deadline, nap_s = time.monotonic() + patience_s, _FIRST_NAP_S
        while True:
            try:
                self._pay_debts()
                answer = call()
            except (exceptions.ConnectionError, exceptions.TimeoutError, OSError) as error:
                if _ADVICE.get(type(error).__name__):
                    raise self._refused(doing, error) from error
                if time.monotonic() + nap_s > deadline:
                    raise self._note_away(doing, error) from error
                time.sleep(nap_s)
                nap_s = min(_LONGEST_NAP_S, nap_s * 2)
            except exceptions.OutOfMemoryError as error:
                raise self._refused(doing, error) from OSError(errno.ENOSPC, self._told(error))
            except exceptions.RedisError as error:
                raise self._refused(doing, error) from error
            else:
                self._note_here()
                return answer

    def _is_here(self, doing: str) -> bool:
        """Whether the server was there when it was asked last; otherwise this call is the one that tries.

        Raises:
            RedisAway: It was not, and the next try comes later.
        """
        with self._guard:
            if self._away_since is None:
                return True
            if time.monotonic() < self._next_try:
                raise RedisAway(self._sentence(doing))
            self._next_try = time.monotonic() + _TIMEOUT_S  # until this one has come back, others do not try
            return False

    def _note_away(self, doing: str, error: BaseException) -> RedisAway:
        with self._guard:
            is_news = self._away_since is None
            now = time.monotonic()
            if self._away_since is None:
                self._away_since, self._pause_s = now, _FIRST_PAUSE_S
            else:
                self._pause_s = min(_LONGEST_PAUSE_S, self._pause_s * 2)
            self._next_try, self._reason = now + self._pause_s, self._told(error)
            sentence = self._sentence(doing)
        if is_news:
            _log.warning("Redis at %s does not answer (%s); %s", self.address.server, self._reason, _PATIENT)
        return RedisAway(sentence, in_doubt=True)

    def _note_here(self) -> None:
        with self._guard:
            since, self._away_since = self._away_since, None
        if since is not None:
            _log.warning("Redis at %s is back after %.1f s", self.address.server, time.monotonic() - since)

    def _sentence(self, doing: str) -> str:
        since_s = 0.0 if self._away_since is None else time.monotonic() - self._away_since
        since = f" since {since_s:.0f} s" if since_s >= 1 else ""
        return (
            f"Could not {doing}: Redis at {self.address.server} does not answer{since} ({self._reason}); "
            f"{_PATIENT}"
        )

    def _refused(self, doing: str, error: BaseException) -> StoreError:
        advice = _ADVICE.get(type(error).__name__, "look at the log of the server")
        told = self._told(error)
        return StoreError(f"Could not {doing}: Redis at {self.address.server} refuses it ({told}); {advice}")

    def _told(self, error: BaseException) -> str:
        """Return what an error says, without a URL or a password."""
        text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        return self.address.without_secrets(text)[:_MOST_CHARS]


def _client(url: str, timeout_s: float) -> Any:
    """Return a client of the library, which connects at its first use.

    Raises:
        StoreError: The library is not installed, or does not take the URL.
    """
    library = _library()
    retry = library.retry.Retry(library.backoff.NoBackoff(), 0)
    how: dict[str, Any] = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s, "protocol": 2}
    try:
        return library.Redis.from_url(url, retry=retry, client_name=_NAME, **how)
    except (ValueError, TypeError):
        raise StoreError("The URL of the Redis server is not valid; look at its options") from None


def _library() -> Any:
    """Return the client library, which is imported at the first use.

    Raises:
        StoreError: It is not installed.
    """
    try:
        return import_module("redis")
    except ImportError as error:
        raise StoreError(
            "PYTHON_MCP_STORE names a Redis server, and the package redis is not installed; "
            "install python-mcp-server[redis]"
        ) from error


def _after_fork() -> None:
    for server in list(_servers):
        server.free_locks()


_servers: Final[weakref.WeakSet[RedisServer]] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
