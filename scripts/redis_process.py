"""A Redis server of its own for `scripts/chaos` and for the tests, on a socket in a directory of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final, Self

PROGRAM: Final = shutil.which("redis-server")
MISSING: Final = "redis-server is missing (apt-get install redis-server)"
_SHORT: Final = "/tmp" if os.name == "posix" else None  # noqa: S108  the path of a socket has 107 characters
_READY: Final = "eady to accept connections"
_WATCHED: Final = """
exec 3<&0
"$@" </dev/null 3<&- & server=$!
echo $server
(cat <&3; kill -0 $$ && kill -9 $server) >/dev/null 2>&1 &
exec 3<&-
wait $server
"""
"""For a shell: a program that ends when the end of a pipe says that its user is gone, however that ended."""


class RedisProcess:
    """A server that can be killed and started again.

    Args:
        options: Further options of `redis-server`, such as `appendonly="yes"`.
    """

    def __init__(self, **options: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="redis-", dir=_SHORT))
        self.socket = self.directory / "socket"
        self._options = {"save": "", "appendonly": "no", "port": "0"} | options
        self._process: subprocess.Popen[str] | None = None
        self._pid = 0

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
        if PROGRAM is None:
            raise RuntimeError(MISSING)
        places = {"unixsocket": str(self.socket), "unixsocketperm": "700", "dir": str(self.directory)}
        given = {**self._options, **places}
        command = [
            "sh",
            "-c",
            _WATCHED,
            "sh",
            PROGRAM,
            *(word for name, value in given.items() for word in (f"--{name}", value)),
        ]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C ends those who use it first
        )
        told = list[str]()
        while self._process.stdout is not None and not (told and _READY in told[-1]):
            told.append(self._process.stdout.readline())
            if told[-1].strip().isdecimal():
                self._pid = int(told[-1])
            if not told[-1]:
                raise RuntimeError(f"the server has ended: {''.join(told)}")

    def send_signal(self, number: signal.Signals) -> None:
        """Stop the server, or let it go on."""
        if self._process is not None:
            os.kill(self._pid, number)

    def kill(self) -> None:
        """Kill the server, and return when it is gone."""
        if self._process is not None:
            with self._process as process:
                process.communicate()  # the end of the pipe is that of the server
            self._process = None

    def client(self, password: str | None = None) -> Any:
        """Return a client of the library, to look behind the store."""
        from redis import Redis

        made: Any = Redis
        return made(unix_socket_path=str(self.socket), password=password)
