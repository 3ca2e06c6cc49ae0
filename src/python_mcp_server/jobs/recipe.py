"""What another server needs to start a queued job, as JSON in its record; and the way back.

Only a body that can be named, with arguments that are plain JSON of bounded size and hold nothing that
sounds like a secret. The record loses it once the body has begun, or the job ends.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from python_mcp_server.jobs.request import Request
from python_mcp_server.jobs.secrecy import names_a_secret, tells_a_secret
from python_mcp_server.limits import Limits
from python_mcp_server.pool.bodies import Bodies, refer

if TYPE_CHECKING:
    from python_mcp_server.model import Job
    from python_mcp_server.pool.bodies import BodyReference

_log: Final = logging.getLogger(__name__)
LIMIT_BYTES: Final = 256 * 1024
"""Guessed: a script is far shorter, and every look at the queued jobs reads it."""

_NOWHERE: Final = ""
_OWN: Final = "python_mcp_server."
_PATHS: Final = ("directory", "cwd", "script_path")
"""Parameters of our own bodies that are paths. The first that is given anchors the others."""


class _NotPlain(Exception):
    """A value may not, or cannot, be written into a record; the text says why."""


def recipe_of(request: Request, reference: BodyReference) -> dict[str, Any] | None:
    """Return what another server needs to start this, or None where it may not be started by another.

    Args:
        request: The body and its arguments.
        reference: How the body travels.
    """
    if not request.replayable or request.isolation != "process":
        return None
    if reference.code is not None or reference.main is not None:
        return None  # only this program has it
    try:
        named = inspect.signature(request.body).bind(*request.args, **request.kwargs).arguments
        _check(dict(named), LIMIT_BYTES)
        args, kwargs = _as_json(list(request.args)), _as_json(request.kwargs)
    except (_NotPlain, TypeError, ValueError, RecursionError):
        return None
    own = reference.name.startswith(_OWN)
    limits = None if request.limits is None else request.limits.to_json()
    recipe = {"body": reference.name, "args": args, "kwargs": kwargs, "file": None, "cwd": None}
    recipe["limits"] = limits
    if not own:
        recipe["file"] = _file_of(reference.name)
    if not own or not _anchored(named):
        recipe["cwd"] = _working_directory()
    return None if recipe["cwd"] == _NOWHERE else recipe


def _check(value: Any, room: int) -> int:
    """Return how much room is left after a value of nothing but JSON's own types and no secrets."""
    kind = cast("type[object]", type(value))
    if kind is dict:
        room = _check_named(value, room)
    elif kind is list or kind is tuple:
        for inner in value:
            room = _check(inner, room)
    elif kind is str:
        room -= len(value)
        if room >= 0 and tells_a_secret(value):
            raise _NotPlain("it sounds like a secret")
    elif kind is int:
        room -= value.bit_length() // 3
    elif kind not in (float, bool, type(None)):
        raise _NotPlain(f"a {kind.__qualname__} is no JSON")
    if room < 1:
        raise _NotPlain("it is too large")
    return room - 1


def _check_named(values: dict[Any, Any], room: int) -> int:
    for name, value in values.items():
        if value and names_a_secret(name):
            raise _NotPlain("it sounds like a secret")
        room = _check(value, _check(name, room))
    return room


def _as_json(value: Any) -> Any:
    """Return the value as it comes back from its record, where that is the very same."""
    text = json.dumps(value, allow_nan=False)
    back = json.loads(text)
    if len(text) > LIMIT_BYTES or back != value:
        raise _NotPlain("it comes back as something else, or is too large")
    return back


def _file_of(name: str) -> str | None:
    return getattr(sys.modules.get(name.partition(":")[0]), "__file__", None)


def _anchored(named: Mapping[str, Any]) -> bool:
    """Whether the arguments of a body of ours mean the same in every working directory."""
    first = next((named[name] for name in _PATHS if named.get(name) is not None), None)
    return first is None or Path(first).is_absolute()


def request_of(job: Job) -> Request | None:
    """Return what starts this queued job here, or None where that cannot be done in this process:
    its module is not loaded here, or from another file, or the working directory is another.

    Blocks: it may import a module of our own.
    """
    recipe = job.call
    try:
        if recipe is None or recipe["cwd"] not in (None, _working_directory()):
            return None
        body = _body(recipe["body"], recipe["file"])
        args, kwargs = tuple(recipe["args"]), dict(recipe["kwargs"])
        limits = Limits.given(**(recipe.get("limits") or {}))
    except (ImportError, AttributeError, LookupError, TypeError, ValueError) as error:
        _log.info("job %s cannot be started here: %s", job.id, error)
        return None
    return body and Request(body, args, kwargs, job.label, job.tool, principal=job.principal, limits=limits)


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return _NOWHERE  # removed under our feet


def _body(name: str, file: str | None) -> Callable[..., Any] | None:
    if not name.startswith(_OWN) and (file is None or _file_of(name) != file):
        return None
    body = Bodies().find(name, None)
    return body if refer(body).name == name else None
