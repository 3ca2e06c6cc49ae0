"""What a job must have become, told from its label alone: so jobs that nobody was told of are judged too."""

from __future__ import annotations

import random
from typing import Any, Final

from attack.victim import ANSWER_FACTOR

SCRIPTS: Final = {
    "quick": 24, "sleeps": 16, "computes": 8, "forks": 10, "session": 8, "deaf": 6, "floods": 4,
    "fails": 6, "dies": 4, "lasts": 5,
}  # fmt: skip
"""How often each kind of script is chosen."""

BODIES: Final = {"body-quick": 8, "body-sleeps": 6, "body-computes": 2, "body-raises": 2, "body-exits": 1}
"""The same of Python bodies, see `bodies.py`."""

RAW: Final = "raw"
"""A record that a program writes through the store, without a process behind it."""

REUSED: Final = "reused"
"""The same, of a job whose worker and owner are gone, and somebody else has their pid."""

_EXIT_CODES: Final = {"fails": 3, "dies": -9}
_ERROR_KINDS: Final = {"body-raises": "exception", "body-exits": "worker_died", REUSED: "worker_died"}
_CAUSES: Final = frozenset({"worker_died", "server_died", "no_worker", "lost"})


def chosen(dice: random.Random, kinds: dict[str, int]) -> tuple[str, int]:
    """Return a kind and the value that its answer is made from."""
    return dice.choices(list(kinds), list(kinds.values()))[0], dice.randrange(1_000_000)


def label_of(kind: str, value: int) -> str:
    """Return the label of such a job."""
    return f"{kind} {value}"


def wrong(record: dict[str, Any], *, hurt: bool) -> str | None:
    """Return what is wrong with the end of a job, or None.

    Args:
        record: The job in a terminal state.
        hurt: Whether one of its own processes, other than its worker, was killed.
    """
    kind, _, value = record["label"].partition(" ")
    if record["status"] == "failed":
        return _wrong_failure(kind, record)
    if record["status"] != "completed" or kind == RAW:
        return None
    if kind in _ERROR_KINDS:
        return f"a body that never returns is completed with {record['result']!r:.200}"
    if kind in BODIES:
        return _unequal("result", record["result"], int(value) * ANSWER_FACTOR)
    return _wrong_script(kind, int(value), record["result"], hurt=hurt)


def _wrong_failure(kind: str, record: dict[str, Any]) -> str | None:
    if not record["error"] or not record["error_kind"]:
        return f"it failed without a cause: {record['error']!r}, {record['error_kind']!r}"
    if record["error_kind"] not in _CAUSES | {_ERROR_KINDS.get(kind)}:
        return f"it failed with {record['error_kind']}: {record['error']:.300}"
    return None


def _wrong_script(kind: str, value: int, result: Any, *, hurt: bool) -> str | None:
    if not isinstance(result, dict):
        return f"a script's result is {result!r:.200}"
    code = result.get("exit_code")
    if hurt and code == -9:  # noqa: PLR2004  SIGKILL
        return None
    if code != _EXIT_CODES.get(kind, 0):
        return f"exit code {code} instead of {_EXIT_CODES.get(kind, 0)}: {result.get('stderr', '')!r:.300}"
    if kind in _EXIT_CODES:
        return None
    lines = str(result.get("stdout", "")).splitlines() or [""]
    return _unequal("last line", lines[-1], str(value * ANSWER_FACTOR))


def _unequal(what: str, found: object, wanted: object) -> str | None:
    return None if found == wanted else f"its {what} is {found!r:.200} instead of {wanted!r}"
