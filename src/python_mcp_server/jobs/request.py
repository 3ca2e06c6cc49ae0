"""What goes into the manager and what comes out: plain data, no processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from python_mcp_server.jobs.reply import Replies
from python_mcp_server.limits import Limits
from python_mcp_server.model import JobProgress, JobState, Usage
from python_mcp_server.questions.model import Question


@dataclass(frozen=True, slots=True)
class Request:
    """One body to be run.

    Attributes:
        body: The undecorated function, sync or async.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        label: What the caller calls the job; the tool's name where None.
        tool: The name of the tool or function.
        isolation: "process", or "inline" for an async body that only waits.
        replayable: Whether another server may start it from its record, should this one end while it
            is queued. Even then only if its arguments are plain JSON and none sounds like a secret.
        principal: Whose job it is; None for the account's owner.
        limits: What it may use; inline only a time limit can be kept.
        replies: How its tool answers; None where it is no call of a tool.
    """

    body: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])
    label: str | None = None
    tool: str = ""
    isolation: str = "process"
    principal: str | None = None
    replayable: bool = True
    limits: Limits | None = None
    replies: Replies | None = None


AsyncJob = Request
"""A Python call to be run as a job: `await manager.submit(AsyncJob(function, (1, 2)))`."""


@dataclass(frozen=True, slots=True)
class CommandJob:
    """A program to be run as a job: `await manager.submit(CommandJob(("make", "all"), cwd="project"))`.

    Attributes:
        argv: The program and its arguments; no shell is involved.
        cwd: Its working directory.
        env: Environment variables on top of the present ones; they are never stored.
        timeout_seconds: After this long its tree is killed; 0 for no limit.
        label: What the caller calls the job; the program's name where None.
        limits: What it and whatever it starts may use besides.
    """

    argv: tuple[str, ...]
    cwd: str = "."
    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    timeout_seconds: float = 0
    label: str | None = None
    limits: Limits | None = None

    def request(self) -> Request:
        """Return the Python call that runs it."""
        from python_mcp_server.tools.commands import run_command

        cwd = os.path.abspath(self.cwd)
        args = (list(self.argv), cwd, self.timeout_seconds, dict(self.env))
        limits = {} if self.limits is None else {"limits": self.limits.to_json()}
        program = os.path.basename(self.argv[0]) if self.argv else "command"
        return Request(run_command, args, limits, label=self.label or program, tool="command")


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a caller gets: the value, or a handle on the job that goes on.

    Attributes:
        job_id: The job's id; known to others only if the job has a record.
        status: Where the job stands.
        value: What the body returned, if it did so in time.
        note: Why `value` is the JSON form of what the body returned; None where it is that itself.
        handed_over: Whether the job goes on in the background.
        message: A sentence on why there is no value yet.
        questions: What the job asks.
    """

    job_id: str
    status: JobState
    value: Any = None
    handed_over: bool = False
    message: str | None = None
    questions: tuple[Question, ...] = ()
    note: str | None = None

    def handle(self) -> dict[str, Any]:
        """Return the wire form of a job that goes on: `{"job_id", "status", "message"?}`."""
        handle = {"job_id": self.job_id, "status": self.status.value}
        return handle | {"message": self.message} if self.message else handle


@dataclass(frozen=True, slots=True)
class Notice:
    """What a caller may hear while it waits.

    Attributes:
        job_id: The job, once it has a record that others can read.
        progress: The latest progress, or None.
        usage: The latest sample of memory and CPU, or None.
        message: A sentence on what is being waited for, or None.
    """

    job_id: str | None = None
    progress: JobProgress | None = None
    usage: Usage | None = None
    message: str | None = None


Listener = Callable[[Notice], None]
"""Called on the event loop; it must not block."""
