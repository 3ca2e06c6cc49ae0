"""What all actors of one run share: its options, its mark, its files, its facts."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from attack.eyes import Eyes
from attack.history import History
from attack.machine import MARK
from attack.mortal import DEATHS_VARIABLE, STEP_VARIABLE

BYSTANDER_VARIABLE: Final = "CHAOS_BYSTANDER"
_OURS: Final = ("PYTHON_MCP_", "SMART_ASYNC_TIMEOUT_SECONDS", "MCP_DEBUG")


PLACES: Final = 6
"""How many background jobs may run at once: few, so that jobs queue, and are left behind queued."""


class Death(NamedTuple):
    """The end of a process by its own hand: at which step of the store, and when."""

    step: str
    at: float


@dataclass(frozen=True, slots=True)
class Stage:
    """One run.

    Attributes:
        folder: Where everything of it lies.
        mark: What its processes carry.
        seed: Of all its dice.
        seconds: How long the attack lasts.
        servers: How many run at once.
        eyes: Sees what is on the disk.
        history: What everybody was told.
        bystanders: The pid of a stranger, once it runs.
        over: Set when nobody acts any more.
        quiet: Set when every client has had its last answer: the servers may leave.
    """

    folder: Path
    mark: str
    seed: int
    seconds: float
    servers: int
    eyes: Eyes
    history: History = field(default_factory=History)
    bystanders: list[int] = field(default_factory=list[int])
    over: asyncio.Event = field(default_factory=asyncio.Event)
    quiet: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def home(self) -> Path:
        """The home that all share."""
        return self.folder / "home"

    @property
    def starts(self) -> Path:
        """The file to which each job's script appends a line when it starts."""
        return self.folder / "starts"

    @property
    def deaths(self) -> Path:
        """The file to which processes append a line before they die at a step of the store."""
        return self.folder / "deaths"

    def errors(self, name: str) -> Path:
        """Where the stderr of this actor's processes goes."""
        return self.folder / f"{name}.stderr"

    def environment(self, *, budget_s: float = 0.5, step: int = 0) -> dict[str, str]:
        """Return the environment of a process of this run.

        Args:
            budget_s: After which a call is handed over.
            step: The step of the store at which it dies; 0 for never.
        """
        env = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        env |= {
            MARK: self.mark,
            BYSTANDER_VARIABLE: " ".join(map(str, self.bystanders)),
            "PYTHON_MCP_HOME": str(self.home),
            "SMART_ASYNC_TIMEOUT_SECONDS": f"{budget_s:g}",
            "PYTHON_MCP_RECORD_AFTER_SECONDS": "0.2",
            "PYTHON_MCP_CANCEL_GRACE_SECONDS": "0.5",
            "PYTHON_MCP_MAX_BACKGROUND_JOBS": str(PLACES),
        }
        return env | ({STEP_VARIABLE: str(step), DEATHS_VARIABLE: str(self.deaths)} if step else {})

    async def rest(self, seconds: float) -> bool:
        """Wait this long, or until the attack is over; return whether it goes on."""
        try:
            async with asyncio.timeout(seconds):
                await self.over.wait()
        except TimeoutError:
            return not self.over.is_set()  # no time at all is over before anybody looks
        await asyncio.sleep(0)  # whoever asks in a loop must let the others have their turn
        return False

    def died_at_a_step(self, pid: int) -> bool:
        """Whether this process killed itself at a step of the store."""
        return pid in self.steps_died_at()

    def steps_died_at(self) -> dict[int, Death]:
        """Return who killed itself, and at which step."""
        if not self.deaths.exists():
            return {}
        lines = (line.split() for line in self.deaths.read_text(encoding="ascii").splitlines())
        return {int(pid): Death(step, float(at)) for pid, step, at in lines}
