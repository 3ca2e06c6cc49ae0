"""Runs our server in this process, for `python-mcp-server serve`.

The order matters: the client's pipes are taken first, so that nothing started later can touch them;
the manager comes before the SDK, whose import takes half a second; the log is set up before the
SDK's server, which would set up its own for terminals of 80 columns. The log goes to stderr and to a
rotating file that the servers of one home share.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from importlib import import_module
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from python_mcp_server.atomic import make_directory
from python_mcp_server.context import current_job
from python_mcp_server.errors import InvalidInput, PoolClosed, PythonMcpError
from python_mcp_server.processes import inherited
from python_mcp_server.regular import open_own
from python_mcp_server.server.exit_guard import ExitGuard
from python_mcp_server.server.log_limit import LogLimit
from python_mcp_server.server.transports.lines import take_over_stdio
from python_mcp_server.settings import (
    BUDGET_VARIABLE,
    DEFAULT_BUDGET_S,
    Settings,
    budget,
    given_text,
    unknown_variables,
    variable,
)

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

    from python_mcp_server.jobs.manager import JobManager
    from python_mcp_server.server.transports.lines import StdioPipes

_log: Final = logging.getLogger(__name__)
_LEAVE_S: Final = 1.0  # for what Python does at exit; a stuck thread must not keep the process
_OBJECTS_BETWEEN_COLLECTIONS: Final = 100_000
"""While modules are loaded, whose objects stay: the usual 700 cost 70 ms, and no collection at all 1 MB."""

_WITH_WORKERS: Final = (
    "filelock",
    "psutil",
    "loky",
    "python_mcp_server.pool.handle",
    "python_mcp_server.pool.pool",
    "python_mcp_server.jobs.engine",
)
"""The modules that workers need of a server, and that the answer to `initialize` does not."""

_FIRST_REQUEST_S: Final = 10.0
"""A client that asks nothing at first finds a warm worker, too; guessed: a busy machine answers within it."""

_TOKEN_FIELDS: Final = ("http_token", "http_token_file")
_FILE_BYTES: Final = 5_000_000
_FILES: Final = 3
_FORMAT: Final = "%(asctime)s %(levelname)s [%(process)d] %(name)s:%(job)s %(message)s"


def run_stdio(settings: Settings | None = None) -> int:
    """Serve over stdin and stdout until the client leaves or a signal comes.

    Returns:
        The exit code. The caller should exit with it at once: a thread sees to it that the process
        ends within a second.
    """
    inherited.repair_inherited_state()
    pipes = take_over_stdio()
    server, manager = _build(settings, starts=False)
    code = asyncio.run(_serve_stdio(server, manager, pipes))
    sys.stdout.flush()
    ExitGuard(_LEAVE_S).arm(code)
    return code


def run_http(host: str = "127.0.0.1", port: int = 8000, settings: Settings | None = None) -> None:
    """Serve over streamable HTTP until SIGTERM or SIGINT. The address is printed on stderr.

    An address that others can reach is served with an access token only: that of the settings, or a
    new one, which is printed on stderr and nowhere else. So is any address where the token's variable is set
    but blank, because a token was meant.

    Raises:
        InvalidInput: The address is not of this machine, or cannot be taken, or a setting is wrong.
    """
    from python_mcp_server.server.transports.access import grant, is_loopback, listen, new_token, url_of

    inherited.repair_inherited_state()
    inherited.raise_open_files()
    settings = settings or Settings.from_environ()
    settings = replace(settings, http_token=_token(settings), http_token_file="")
    grant(host, settings.http_allowed_hosts, settings.http_token)
    listener = listen(host, port)
    open_to_all = is_loopback(listener) and not _token_is_blank()
    made = "" if settings.http_token or open_to_all else new_token()
    access = grant(host, settings.http_allowed_hosts, settings.http_token or made)
    server, manager = _build(settings)
    from python_mcp_server.server.app import close_in_time
    from python_mcp_server.server.transports.http import serve_http
    from python_mcp_server.store.principals import PrincipalNames

    limit = LogLimit()
    limit.install()
    url = url_of(host, listener)
    serve_http(
        server,
        listener,
        access,
        lambda: _announce(url, made),
        lambda: close_in_time(manager),
        health=partial(manager.health, glance=True),
        find_principal=PrincipalNames(str(manager.store.home)).name,
        max_connections=settings.http_max_connections,
        on_second=limit.report,
    )


def _token(settings: Settings) -> str:
    from python_mcp_server.server.transports.access import read_token

    if not settings.http_token_file:
        return settings.http_token
    if settings.http_token:
        raise InvalidInput(
            f"{variable('http_token')} and {variable('http_token_file')} are both set; it must be one of them"
        )
    return read_token(settings.http_token_file)


def _token_is_blank() -> bool:
    """Whether a variable of the token is set but blank."""
    texts = (os.environ.get(variable(name)) for name in _TOKEN_FIELDS)
    return any(text is not None and given_text(text) is None for text in texts)


def _announce(url: str, made_token: str) -> None:
    """Print where to connect. The log does not have this, because the token is shown once."""
    lines = [f"python-mcp-server: {url}"]
    if made_token:
        lines.append(f"python-mcp-server: access token, for this run: {made_token}")
    sys.stderr.write("\n".join([*lines, ""]))
    sys.stderr.flush()


async def _serve_stdio(server: MCPServer[Any], manager: JobManager, pipes: StdioPipes) -> int:
    from python_mcp_server.server.app import close_in_time
    from python_mcp_server.server.transports.stdio import serve_stdio

    answered = asyncio.Event()
    starting = asyncio.create_task(_start(manager, answered), name="manager-start")
    try:
        return await serve_stdio(server, pipes, lambda: close_in_time(manager), answered.set)
    finally:
        starting.cancel()


async def _start(manager: JobManager, answered: asyncio.Event) -> None:
    """Start the manager after the first answer, module by module: the loop stands still for one at a time.

    A thread would load them into the memory of an arena of its own, which costs 4 MB.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(_FIRST_REQUEST_S):
            await answered.wait()
    with _few_collections():
        try:
            for module in _WITH_WORKERS:
                import_module(module)
                await asyncio.sleep(0)
            await manager.start(again=False)
        except PoolClosed:
            return  # the client was faster
        except (PythonMcpError, ImportError, OSError) as error:
            _log.error("no job can be run now, each call tries again: %s", error)


@contextmanager
def _few_collections() -> Generator[None]:
    """Load modules without the collections that their objects would set off, because all of them stay."""
    thresholds = gc.get_threshold()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
    gc.freeze()


def _build(settings: Settings | None, *, starts: bool = True) -> tuple[MCPServer[Any], JobManager]:
    settings = settings or Settings.from_environ()
    for name in _TOKEN_FIELDS:
        os.environ.pop(variable(name), None)  # what scripts inherit, they can read
    settings = replace(settings, http_token="")
    configure_logging(settings)
    _tell_wrong_settings()
    from python_mcp_server.jobs.manager import JobManager

    manager = JobManager(settings=settings)
    with _few_collections():
        from python_mcp_server.server.app import create_server, owner_of

        server = create_server(manager, lifespan=owner_of(manager, starts=starts))
    return server, manager


def _tell_wrong_settings() -> None:
    """Log the variables that are no setting, and a budget that every call will refuse."""
    try:
        budget(BUDGET_VARIABLE, DEFAULT_BUDGET_S)
    except InvalidInput as error:
        _log.error("%s; each call of a tool is refused until then", error)
    for name, nearest in unknown_variables():
        hint = f"; {nearest} is the nearest one" if nearest else ""
        _log.warning("%s is set, and no setting has this name%s", name, hint)


def configure_logging(settings: Settings) -> None:
    """Send this process's log to stderr and to `server.log` under the home.

    Without `debug` the SDK's and uvicorn's notes on success are left out. Where the file
    cannot be written, stderr alone has the log, and says so.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    problem = None
    try:
        handlers.append(_SharedFileHandler(settings.logs / "server.log"))
    except OSError as exc:
        problem = exc
    for handler in handlers:
        handler.addFilter(_name_job)
    logging.basicConfig(
        level=logging.DEBUG if settings.debug else logging.INFO, format=_FORMAT, handlers=handlers, force=True
    )
    if not settings.debug:
        for name in ("mcp", "httpx", "asyncio", "uvicorn.access", "uvicorn.error"):
            logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("sse_starlette").setLevel(logging.INFO)  # below, it logs all that is answered
    if problem is not None:
        log = logging.getLogger(__name__)
        log.warning("%s cannot be written (%s); the log is on stderr", settings.logs, problem)


def _name_job(record: logging.LogRecord) -> bool:
    job = current_job()  # of a job that runs in this process
    record.job = f" job {job.id}:" if job else ""
    return True


class _SharedFileHandler(RotatingFileHandler):
    """A rotating file, mode 0600, that follows when another process has rotated it away."""

    def __init__(self, path: Path) -> None:
        make_directory(str(path.parent))
        super().__init__(
            path, maxBytes=_FILE_BYTES, backupCount=_FILES, encoding="utf-8", errors="backslashreplace"
        )
        self._told = False

    def _open(self) -> TextIOWrapper:
        path, mode = self.baseFilename, self.mode
        file = open(path, mode, encoding=self.encoding, errors=self.errors, opener=_private)  # noqa: SIM115
        return cast("TextIOWrapper", file)

    def shouldRollover(self, record: logging.LogRecord) -> bool:  # noqa: N802
        """Whether this record would not fit; first of all, look that the file is still the one."""
        if self.stream is not None and not _is_at(self.stream, self.baseFilename):
            stream, self.stream = self.stream, None  # type: ignore[assignment]
            stream.close()
            self.stream = self._open()
        return bool(super().shouldRollover(record))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802
        """Report once that the file cannot be written, instead of a stack for each record."""
        if not self._told:
            self._told = True
            _say(f"{self.baseFilename} cannot be written ({sys.exc_info()[1]}); the log is on stderr")


def _say(text: str) -> None:
    with suppress(OSError, ValueError):  # stderr is full or gone too
        sys.stderr.write(f"{text}\n")


def _private(path: str, flags: int) -> int:
    return open_own(path, flags, follow=True)


def _is_at(stream: TextIOWrapper, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(stream.fileno()), os.stat(path))
    except OSError:
        return False
