"""The state of the server's process that a body sees at the time of its call: the environment, `sys.path` and
the working directory.

A worker inherits them at its start. Changes of the environment and of the working directory are sent to it
before the call that is to see them. A worker with an outdated `sys.path` is replaced, because it may have
loaded modules that would be others now.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Any, Final

from python_mcp_server import processes
from python_mcp_server.pool.start import variables_of

_OF_THE_WORKER: Final = frozenset({processes.JOB_VARIABLE, processes.WORKER_VARIABLE})


@dataclass(frozen=True, slots=True)
class StateChange:
    """The changes that a worker must make to see the server's state.

    Attributes:
        set: Variables with their new values.
        removed: Variables that are gone.
        directory: The working directory; None where it has not changed, or is gone.
    """

    set: dict[str, str]
    removed: list[str]
    directory: str | None


@dataclass(frozen=True, slots=True, eq=False)
class ServerState:
    """The server's process at one time.

    Attributes:
        variables: The mapping behind `os.environ`.
        path: `sys.path`; the same list as long as it is equal.
        directory: The working directory; None where it was removed.
    """

    variables: dict[Any, Any]
    path: list[str]
    directory: str | None

    def change_to(self, later: ServerState) -> StateChange | None:
        """Return the changes of the environment and the directory, or None."""
        before, now = self.variables, later.variables
        changed = {key: value for key, value in now.items() if before.get(key) != value}
        new = {os.fsdecode(key): os.fsdecode(value) for key, value in changed.items()}
        removed = [os.fsdecode(key) for key in before.keys() - now.keys()]
        change = StateChange(
            {name: value for name, value in new.items() if name not in _OF_THE_WORKER},
            [name for name in removed if name not in _OF_THE_WORKER],
            later.directory if later.directory != self.directory else None,
        )
        return change if change.set or change.removed or change.directory else None


def present_state(former: ServerState | None = None) -> ServerState:
    """Return the present state: `former` itself where nothing has changed; this check takes 3 us."""
    variables, directory = variables_of(os.environ), present_directory()
    if former is None:
        return ServerState(dict(variables), list(sys.path), directory)
    same_path = former.path == sys.path
    if same_path and former.directory == directory and former.variables == variables:
        return former
    return ServerState(dict(variables), former.path if same_path else list(sys.path), directory)


def present_directory() -> str | None:
    """Return the working directory, or None where it was removed."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None
