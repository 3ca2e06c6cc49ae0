"""The expected end of a job, derived from its label alone: a job whose id no client got is checked too."""

from __future__ import annotations

from typing import Any, Final

from chaos_testing.job_script import ANSWER_FACTOR
from python_mcp_server.job_result import UNSUCCESSFUL

SCRIPTS: Final = {
    "quick": 24, "sleeps": 16, "computes": 8, "forks": 10, "session": 8, "ignores-term": 6, "floods": 4,
    "fails": 6, "dies": 4, "lasts": 5,
}  # fmt: skip
"""Kinds of scripts with their weights, see `job_script.py`."""

BODIES: Final = {"body-quick": 8, "body-sleeps": 6, "body-computes": 2, "body-raises": 2, "body-exits": 1}
"""Kinds of Python bodies with their weights, see `bodies.py`."""

QUEUED: Final = {
    "q-quick": (), "q-flaky": ("exception",), "q-raises": ("exception",), "q-dies": (), "q-snoozes": (),
    "q-lasts": (), "q-far": (),
}  # fmt: skip
"""Kinds of jobs that are queued with options, see `queue_bodies.py`, and how they may fail by themselves."""

NEVER_COMPLETED: Final = ("q-raises", "q-dies", "q-far")

RAW: Final = "raw"
"""A record that a program writes through the store. No process belongs to it."""

REUSED: Final = "reused"
"""The record of a running job whose worker and owner are gone, while an unrelated process has their pid."""

_EXIT_CODES: Final = {"fails": 3, "dies": -9}
_ERROR_KINDS: Final = {"body-raises": "exception", "body-exits": "worker_died", REUSED: "worker_died"}
_CAUSES: Final = frozenset({"worker_died", "server_died", "no_worker", "lost"})


def label_of(kind: str, value: int) -> str:
    """Return the label of such a job."""
    return f"{kind} {value}"


def mismatch(record: dict[str, Any], *, hit: bool) -> str | None:
    """Return how the end of a job differs from the expected one, or None.

    Args:
        record: The job in a terminal state.
        hit: Whether one of its processes, other than its worker, was killed.
    """
    kind, _, value = record["label"].partition(" ")
    if kind in QUEUED:
        return _queued_mismatch(kind, int(value), record)
    if record["error_kind"] == UNSUCCESSFUL:  # a command with another exit code than 0
        return _script_mismatch(kind, int(value), record["result"], hit=hit)
    if record["status"] == "failed":
        return _failure_mismatch(kind, record)
    if record["status"] != "completed" or kind == RAW:
        return None
    if kind in _ERROR_KINDS:
        return f"a body that never returns is completed with {record['result']!r:.200}"
    if kind in BODIES:
        return _unequal("result", record["result"], int(value) * ANSWER_FACTOR)
    return _script_mismatch(kind, int(value), record["result"], hit=hit)


def _queued_mismatch(kind: str, value: int, record: dict[str, Any]) -> str | None:
    if record["status"] == "failed":
        if record["error_kind"] in _CAUSES | {"skipped", *QUEUED[kind]}:
            return None
        return f"it failed with {record['error_kind']}: {record['error']:.300}"
    if record["status"] != "completed":
        return None
    if kind in NEVER_COMPLETED:
        return f"a body that never returns is completed with {record['result']!r:.200}"
    return _unequal("result", record["result"], value * ANSWER_FACTOR)


def _failure_mismatch(kind: str, record: dict[str, Any]) -> str | None:
    if not record["error"] or not record["error_kind"]:
        return f"it failed without a cause: {record['error']!r}, {record['error_kind']!r}"
    if record["error_kind"] not in _CAUSES | {_ERROR_KINDS.get(kind)}:
        return f"it failed with {record['error_kind']}: {record['error']:.300}"
    return None


def _script_mismatch(kind: str, value: int, result: Any, *, hit: bool) -> str | None:
    if not isinstance(result, dict):
        return f"a script's result is {result!r:.200}"
    code = result.get("exit_code")
    if hit and code == -9:  # noqa: PLR2004  SIGKILL
        return None
    if code != _EXIT_CODES.get(kind, 0):
        return f"exit code {code} instead of {_EXIT_CODES.get(kind, 0)}: {result.get('stderr', '')!r:.300}"
    if kind in _EXIT_CODES:
        return None
    lines = str(result.get("stdout", "")).splitlines() or [""]
    return _unequal("last line", lines[-1], str(value * ANSWER_FACTOR))


def _unequal(what: str, found: object, wanted: object) -> str | None:
    return None if found == wanted else f"its {what} is {found!r:.200} instead of {wanted!r}"
