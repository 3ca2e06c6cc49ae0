"""What all parts of one run share: options, files, variables, history, and the events that end it."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from chaos_testing.crash_point import CRASH_STEP_VARIABLE, CRASHES_VARIABLE
from chaos_testing.history import History
from chaos_testing.observer import StoreObserver
from chaos_testing.process_table import MARK
from python_mcp_server.store.opening import StorePlace

BYSTANDER_VARIABLE: Final = "CHAOS_BYSTANDER"
_PRODUCT_VARIABLES: Final = ("PYTHON_MCP_", "SMART_ASYNC_TIMEOUT_SECONDS", "MCP_DEBUG")

SLOTS: Final = 6
"""How many background jobs may run at once: so few that jobs are queued, also when their server dies."""


class Crash(NamedTuple):
    """A process that killed itself at a step of the store."""

    step: str
    at: float


@dataclass(frozen=True, slots=True)
class Environment:
    """The environment of one run.

    Attributes:
        folder: The directory of all its files.
        mark: The value by which its processes are found.
        seed: The seed of all its random generators.
        seconds: How long the actors run.
        servers: How many servers run at once.
        observer: Reads the records.
        place: Where the store is that they share.
        history: What was reported and done during the run.
        bystanders: The pid of an unrelated process, once it runs.
        finished: Set when the actors are to stop.
        clients_done: Set when every client has its last answer, so that the servers may end.
    """

    folder: Path
    mark: str
    seed: int
    seconds: float
    servers: int
    observer: StoreObserver
    place: StorePlace
    history: History = field(default_factory=History)
    bystanders: list[int] = field(default_factory=list[int])
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    clients_done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def home(self) -> Path:
        """The home that all processes share."""
        return self.folder / "home"

    @property
    def starts(self) -> Path:
        """The file to which each job's script appends a line when it starts."""
        return self.folder / "starts"

    @property
    def notes(self) -> Path:
        """The file to which the bodies of queued jobs append notes."""
        return self.folder / "notes"

    @property
    def crashes(self) -> Path:
        """The file to which processes append a line before they kill themselves at a step of the store."""
        return self.folder / "crashes"

    def errors(self, name: str) -> Path:
        """The file for the stderr of the processes of this name."""
        return self.folder / f"{name}.stderr"

    def variables(self, *, budget_s: float = 0.5, step: int = 0) -> dict[str, str]:
        """Return the environment variables of a process of this run.

        Args:
            budget_s: The budget of a call.
            step: The step of the store at which the process kills itself; 0 for never.
        """
        env = {name: value for name, value in os.environ.items() if not name.startswith(_PRODUCT_VARIABLES)}
        env |= {
            MARK: self.mark,
            BYSTANDER_VARIABLE: " ".join(map(str, self.bystanders)),
            "PYTHON_MCP_HOME": str(self.home),
            "PYTHON_MCP_STORE": self.place.setting,
            "SMART_ASYNC_TIMEOUT_SECONDS": f"{budget_s:g}",
            "PYTHON_MCP_RECORD_AFTER_SECONDS": "0.2",
            "PYTHON_MCP_CANCEL_GRACE_SECONDS": "0.5",
            "PYTHON_MCP_MAX_BACKGROUND_JOBS": str(SLOTS),
        }
        return env | ({CRASH_STEP_VARIABLE: str(step), CRASHES_VARIABLE: str(self.crashes)} if step else {})

    async def pause(self, seconds: float) -> bool:
        """Wait this long, or until the actors are to stop; return whether they go on."""
        try:
            async with asyncio.timeout(seconds):
                await self.finished.wait()
        except TimeoutError:
            return not self.finished.is_set()  # a time of 0 s ends before the event is looked at
        await asyncio.sleep(0)  # a caller in a loop must not starve the others
        return False

    def crashed(self, pid: int) -> bool:
        """Whether this process killed itself at a step of the store."""
        return pid in self.crashes_by_pid()

    def crashes_by_pid(self) -> dict[int, Crash]:
        """Return the processes that killed themselves, by pid."""
        if not self.crashes.exists():
            return {}
        lines = (line.split() for line in self.crashes.read_text(encoding="ascii").splitlines())
        return {int(pid): Crash(step, float(at)) for pid, step, at in lines}
