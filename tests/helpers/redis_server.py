"""A Redis server of the tests: on a socket in a directory of its own, ended with the block that uses it.

The one that most tests share, each with a prefix of its own, is started before the tests where any of them
needs it; see `tests/conftest.py`.
"""

from __future__ import annotations

import hashlib
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final, Self

PROGRAM: Final = shutil.which("redis-server")
_READY: Final = "eady to accept connections"
_shared: list[RedisProcess] = []


class RedisProcess:
    """A server that can be killed and started again.

    Args:
        options: Further options of `redis-server`, such as `appendonly="yes"`.
    """

    def __init__(self, **options: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="redis-", dir="/tmp"))  # the path of a socket is short
        self.socket = self.directory / "socket"
        self._options = {"save": "", "appendonly": "no", "port": "0"} | options
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.directory)

    def url(self, prefix: str = "default", secret: str = "") -> str:
        """Return the URL of a store on this server."""
        return f"unix://{secret and f':{secret}@'}{self.socket}?prefix={prefix}"

    def start(self) -> None:
        """Start the server, and return when it answers."""
        assert PROGRAM is not None
        places = {"unixsocket": str(self.socket), "unixsocketperm": "700", "dir": str(self.directory)}
        given = {**self._options, **places}
        command = [PROGRAM, *(word for name, value in given.items() for word in (f"--{name}", value))]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self._process.stdout is not None
        told = list[str]()
        while not told or _READY not in told[-1]:
            told.append(self._process.stdout.readline())
            assert told[-1], f"the server has ended: {''.join(told)}"

    def send_signal(self, number: signal.Signals) -> None:
        """Stop the server, or let it go on."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill the server, and return when it is gone."""
        if self._process is not None:
            with self._process as process:
                process.kill()
            self._process = None

    def client(self) -> Any:
        """Return a client of the library, to look behind the store."""
        from redis import Redis

        made: Any = Redis
        return made(unix_socket_path=str(self.socket))


def start_shared() -> None:
    """Start the server that tests share."""
    server = RedisProcess()
    server.start()
    _shared.append(server)


def end_shared() -> None:
    """End the shared server."""
    while _shared:
        _shared.pop().__exit__()


def shared() -> RedisProcess:
    """Return the shared server."""
    (server,) = _shared
    return server


def shared_url(home: Path) -> str:
    """Return the URL of a store of its own for each home."""
    return shared().url(hashlib.sha256(str(home).encode()).hexdigest()[:16])
