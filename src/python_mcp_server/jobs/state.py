"""The states of a run: where it is, whether its caller waits, how far its record is.

A call that ends within its first second touches no file: its record stays NONE. A body is ended in this
order: the reason in the record, `JobCancelled`, the grace, the kill, the settled record.
"""

from __future__ import annotations

from enum import Enum, IntEnum, auto
from typing import Final


class RunState(IntEnum):
    """Where a run is; it is over from ENDING on, even if its worker still runs.

               worker             sent             body ended
    QUEUED ─────────▶ STARTING ─────────▶ RUNNING ──────────▶ FINALISING ──▶ DONE
      ▲ │  no slot, │  │  ▲               │   │                  ▲  ▲
      │ │  worker   │  │  └───────────────┘   │                  │  │
      └─┼──gone─────┘  │    worker gone       │ cancel, limit    │  │
        │              │    before it read    ▼                  │  │
        │              └────────────────▶  ENDING ───────────────┘  │
        └────────────────────────────────────▲  │                   │
             no worker, server closes: ─────────┴───────────────────┘
    """

    QUEUED = 0  # waits for a worker; in the background for a slot before
    STARTING = 1  # has a worker that was not sent the call yet
    RUNNING = 2  # the worker has the call
    ENDING = 3  # a cancel or a limit ends the body
    FINALISING = 4  # the outcome is known; processes and record follow
    DONE = 5  # nothing more happens


NEXT_STATES: Final[tuple[tuple[RunState, ...], ...]] = (
    (RunState.STARTING, RunState.ENDING, RunState.FINALISING),
    (RunState.RUNNING, RunState.QUEUED, RunState.ENDING, RunState.FINALISING),
    (RunState.FINALISING, RunState.ENDING, RunState.STARTING),
    (RunState.FINALISING,),
    (RunState.DONE,),
    (),
)
"""The transitions, by state; tuples, because hashing a state is slow."""


class CallerState(Enum):
    """Whether a caller waits for the value: attached -> detaching -> detached."""

    ATTACHED = auto()
    DETACHING = auto()  # the record says that no caller waits, but may not be durable yet
    DETACHED = auto()  # the job runs in the background


class RecordState(Enum):
    """How far a job's record is: none -> writing -> durable; back to none where the record cannot be
    written.
    """

    NONE = auto()
    WRITING = auto()
    DURABLE = auto()  # others can read the job
