"""Every setting, its variable and its default, in one frozen object that is read once.

Any module may import this one. The budget of a call is not among the settings: `budget` reads it at each call
from the variable that the decorator names.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Self

from python_mcp_server.errors import InvalidInput

BUDGET_VARIABLE: Final = "SMART_ASYNC_TIMEOUT_SECONDS"
DEFAULT_BUDGET_S: Final = 20.0
DEFAULT_GRACE_S: Final = 2.0
PREFIX: Final = "PYTHON_MCP_"
_FORMER_VARIABLES: Final = {
    "max_workers": "PYTHON_MCP_MAX_LANES",
    "spare_workers": "PYTHON_MCP_SPARE_LANES",
    "worker_idle_seconds": "PYTHON_MCP_LANE_IDLE_SECONDS",
}
_OF_OUR_PROCESSES: Final = frozenset(
    PREFIX + name for name in ("FIGURES", "FIGURES_FROM", "JOB_ID", "LANE_ID", "SERVER_NICE", "SESSION_NICE")
)
"""Variables that no user sets: a process of ours passes them to its children."""

_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else (os.cpu_count() or 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one process.

    Each field's variable is its name in capitals after `PYTHON_MCP_`.

    Attributes:
        home: Where jobs, output, saved scripts, environments and logs are.
        store: Where jobs and their output are instead: `file:///directory`, `sqlite:///directory/jobs.db`
            (output in `jobs.db-files`), `redis://[user:password@]host:port/db` (`rediss://` with TLS; output
            in `redis/` of the home), or `memory://`, where jobs end with the server. Default: the home.
        max_workers: Calls within their budget that run at once. Default: 4 x cores, at least 8.
        max_background_jobs: Background jobs that run at once, over all servers of a home. A call whose
            budget ends may exceed it; new jobs wait as `pending`. Default: 2 x cores, at least 8.
        min_free_memory_mb: Free memory that a background job needs to start beside others; at most a
            tenth of the machine's memory. 0 turns the check off.
        max_load: Load average of a core above which no background job starts beside others; 0 turns the check
            off. Windows has no load average, so nothing is checked there.
        max_disk_mb: Disk space of the output and the files of all jobs of a home. A call may take what is
            left; where nothing is left, calls are refused until jobs are pruned. 0: no limit.
        keep_days: How long jobs are kept after their end. 0: no bound.
        keep_jobs: How many jobs that have ended a home keeps; the oldest go first. 0: no bound.
        keep_mb: Disk space of the jobs of a home, above which the oldest that have ended go. 0: no bound.
        spare_workers: Warm workers that are kept ready. With 0 the first call waits for a process.
        worker_idle_seconds: A worker beyond the spares ends after this long without work.
        record_after_seconds: A call that lasts longer gets a durable record.
        cancel_grace_seconds: How long a cancelled body or script may clean up before it is killed, and a
            script at its time limit.
        sample_seconds: How often memory and CPU of running jobs are read.
        output_chars: Characters of stdout, and of stderr, that a result shows: head and tail together.
        max_pictures: How many pictures come with a result as images.
        max_picture_bytes: How large these pictures may be together.
        scripts_dir: Where saved scripts are. Default: `scripts` in the home.
        lock_seconds: How long a call waits for a lock of the store; the error names the holder, where
            that is known.
        fsync: Whether records also survive a loss of power. Writes take longer then.
        tools: The groups of tools that the server has, separated by commas. Default: all but `commands`,
            `schedules` and `dead_letters`.
        on_exit: `keep` or `cancel`: what becomes of background jobs when the server exits.
        http_token: The access token of HTTP clients, 16 characters or more; never stored or logged.
        http_token_file: The file or pipe that has the access token, instead of `PYTHON_MCP_HTTP_TOKEN`.
        http_allowed_hosts: Further host names of the HTTP server, separated by commas.
        http_max_connections: Connections that the HTTP server keeps open at once; one address other than
            this machine's may hold half. 0: a quarter of the files that it may open, at most 4,096.
        debug: Detailed logs.
    """

    home: Path = Path("~/.python_mcp")
    store: str = field(default="", repr=False)  # it may have a password
    max_workers: int = 8
    max_background_jobs: int = 8
    min_free_memory_mb: float = 500.0
    max_load: float = 0.0
    max_disk_mb: float = 0.0
    keep_days: float = 0.0
    keep_jobs: int = 0
    keep_mb: float = 0.0
    spare_workers: int = 1
    worker_idle_seconds: float = 60.0
    record_after_seconds: float = 1.0
    cancel_grace_seconds: float = DEFAULT_GRACE_S
    sample_seconds: float = 0.5
    output_chars: int = 20_000
    max_pictures: int = 5
    max_picture_bytes: int = 700_000
    scripts_dir: str = ""
    lock_seconds: float = 10.0
    fsync: bool = False
    tools: tuple[str, ...] = ()
    on_exit: str = "keep"
    http_token: str = field(default="", repr=False)
    http_token_file: str = ""
    http_allowed_hosts: tuple[str, ...] = ()
    http_max_connections: int = 0
    debug: bool = False

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None, **given: Any) -> Self:
        """Read the environment; arguments that are given win over it.

        Raises:
            InvalidInput: A variable has a value of the wrong kind; the text names both.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {
            "max_workers": max(8, 4 * _cores()),
            "max_background_jobs": max(8, 2 * _cores()),
        }
        for f in fields(cls):
            for name in (_FORMER_VARIABLES.get(f.name, ""), variable(f.name)):  # the present one wins
                if (text := given_text(environ.get(name))) is not None:
                    values[f.name] = _parse(name, text, f.default)
        values |= {key: value for key, value in given.items() if value is not None}
        values["home"] = _absolute("home", values.get("home", cls.home_default()))
        if values.get("on_exit", "keep") not in ("keep", "cancel"):
            raise InvalidInput(f"PYTHON_MCP_ON_EXIT is {values['on_exit']!r}; it must be 'keep' or 'cancel'")
        return cls(**values)

    @staticmethod
    def home_default() -> Path:
        """The home where none is set."""
        return Path("~/.python_mcp")

    @property
    def scripts(self) -> Path:
        """The directory of saved scripts."""
        return _absolute("scripts_dir", self.scripts_dir) if self.scripts_dir else self.home / "scripts"

    @property
    def logs(self) -> Path:
        """The directory of the server's rotating log."""
        return self.home / "logs"


def variable(field_name: str) -> str:
    """Return the environment variable of a field of `Settings`."""
    return "MCP_DEBUG" if field_name == "debug" else PREFIX + field_name.upper()


def unknown_variables(environ: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
    """Return `(name, nearest)` of each variable that looks like a setting but is not one.

    `nearest` is the setting's variable that is most like it; empty if no variable is like it.
    """
    ours = {f.name.upper(): variable(f.name) for f in fields(Settings)}
    known = {*ours.values(), *_FORMER_VARIABLES.values(), *_OF_OUR_PROCESSES}
    names = os.environ if environ is None else environ
    found = sorted(name for name in names if name.upper().startswith(PREFIX) and name not in known)
    if not found:
        return []
    from difflib import get_close_matches  # seldom needed, and a start counts in milliseconds

    # compared without the prefix, which makes all of them alike
    nearest = [get_close_matches(name.upper().removeprefix(PREFIX), ours, n=1) for name in found]
    return [(name, ours[near[0]] if near else "") for name, near in zip(found, nearest, strict=True)]


def given_text(text: str | None) -> str | None:
    """Return the value of a variable or an option; None where it is blank, which counts as not set."""
    return text if text is not None and text.strip() else None


def budget(variable_name: str, default_s: float, environ: Mapping[str, str] | None = None) -> float:
    """Return how long a caller waits, in seconds: the variable's value, else the default.

    Raises:
        InvalidInput: The value is not a positive, finite number.
    """
    text = given_text((os.environ if environ is None else environ).get(variable_name))
    if text is None:
        return positive(default_s, "default_timeout")
    return positive(text, variable_name)


def positive(value: object, name: str) -> float:
    """Return `value` as a positive, finite float.

    Raises:
        InvalidInput: The value is not one; the text names the setting and its value.
    """
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not (math.isfinite(number) and number > 0):
        raise InvalidInput(f"{name} is {value!r}; it must be a positive number of seconds")
    return number


def _absolute(field_name: str, path: str | Path) -> Path:
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        name = variable(field_name)
        raise InvalidInput(f"{name} is {str(path)!r}; its '~' must be somebody's home directory") from None


def _parse(name: str, text: str, default: object) -> Any:
    if isinstance(default, bool):
        return _boolean(name, text)
    if isinstance(default, tuple):
        return tuple(part for word in text.split(",") if (part := word.strip()))
    if isinstance(default, (int, float)):
        return _number(name, text, type(default))
    return Path(text) if isinstance(default, Path) else text


def _boolean(name: str, text: str) -> bool:
    word = text.strip().lower()
    if word in _TRUE | _FALSE:
        return word in _TRUE
    raise InvalidInput(f"{name} is {text!r}; it must be true or false")


def _number(name: str, text: str, kind: type[int | float]) -> int | float:
    try:
        number = kind(text)
        fits = math.isfinite(number) and number >= 0
    except (ValueError, OverflowError):
        number, fits = 0, False
    if not fits:
        article = "a whole" if kind is int else "a"
        raise InvalidInput(f"{name} is {text!r}; it must be {article} number, 0 or more")
    return number
