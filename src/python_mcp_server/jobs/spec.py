"""The spec in the record of a queued job, with which any server may start it.

It names a body, with arguments that are plain JSON of bounded size and hold no secret. An author declares
which parameters hold secrets. Without that, names and texts that look like secrets count: a job that only its
own server can start is better than a password on disk. The spec is removed from the record when the body has
begun, unless the body may run again.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from python_mcp_server.errors import InvalidInput
from python_mcp_server.jobs.arguments import decoded, encoded
from python_mcp_server.jobs.redaction import (
    code_looks_secret,
    command_looks_secret,
    name_looks_secret,
    value_looks_secret,
)
from python_mcp_server.jobs.request import Request
from python_mcp_server.kinds import is_plain
from python_mcp_server.limits import Limits
from python_mcp_server.model import cut
from python_mcp_server.pool.references import Bodies, importable_name, refer

if TYPE_CHECKING:
    from python_mcp_server.model import Job
    from python_mcp_server.pool.references import BodyReference


_log: Final = logging.getLogger(__name__)
LIMIT_BYTES: Final = 256 * 1024
"""Guessed: a script is far shorter, and each look at the queued jobs reads this much."""

_NOWHERE: Final = ""
_OWN: Final = "python_mcp_server."
_OF_CLASSES: Final = "python_mcp_server.kinds:execute_named"
_OF_INSTANCES: Final = "python_mcp_server.kinds:execute"
_REASON_CHARS: Final = 200
_PROGRAMS: Final[Mapping[str, Callable[[list[str]], bool]]] = {
    **dict.fromkeys(("argv", "command", "cmd"), command_looks_secret),
    **dict.fromkeys(("script_content", "start", "stdin"), lambda texts: any(map(code_looks_secret, texts))),
}
"""Parameters and attributes that are command lines, or code, by their names, with what tells a secret."""
_OF_OURS: Final = ("args", "args_list")
"""Parameters of our own bodies that are command lines, too."""
_PATHS: Final = ("directory", "cwd", "script_path")
"""Parameters of our own bodies that are paths. The others are relative to the first one given."""


class NotReplayable(Exception):
    """Raised for a call that may not, or cannot, be written into a record; the text says why."""


def to_spec(request: Request, reference: BodyReference) -> dict[str, Any] | None:
    """Return the spec with which another server may start this body, or None where no other may."""
    try:
        return spec_of(request, reference)
    except NotReplayable:
        return None


def why_not_kept(request: Request, reference: BodyReference) -> str | None:
    """Return why no record may, or can, hold this call; None where one holds it."""
    try:
        spec_of(request, reference)
    except NotReplayable as reason:
        return cut(str(reason), _REASON_CHARS)
    return None


def spec_of(request: Request, reference: BodyReference) -> dict[str, Any]:
    """Return the spec with which another server may start this body.

    Raises:
        NotReplayable: No other server may.
    """
    _refuse_elsewhere(request, reference)
    try:
        signature, secret = inspect.signature(request.body), request.secret_parameters
        args, kwargs = list(request.args), request.kwargs
        if request.results:
            args, kwargs = encoded(args), encoded(kwargs)
        named = signature.bind(*args, **kwargs).arguments
        _refuse_secrets(secret or (), signature, named)
        if secret is None and reference.name.startswith(_OWN):
            _refuse_programs_of_ours(named)
        _check(dict(named), LIMIT_BYTES, guess=secret is None)
        args, kwargs = _as_json([args, kwargs])
    except (TypeError, ValueError, RecursionError) as error:
        raise NotReplayable(str(error)) from error
    subject = subject_of(reference.name, args)
    own = subject.startswith(_OWN)
    limits = None if request.limits is None else request.limits.to_json()
    spec = {"body": reference.name, "args": args, "kwargs": kwargs, "file": None, "cwd": None}
    spec["limits"] = limits
    if request.results:
        spec["results"] = list(request.results)
    if not own:
        spec["file"] = _file_of(subject)
    if not own or not _anchored(named):
        spec["cwd"] = _working_directory()
    if spec["cwd"] == _NOWHERE:
        raise NotReplayable("the working directory was removed")
    return spec


def _refuse_elsewhere(request: Request, reference: BodyReference) -> None:
    """Refuse a body that no other program can find, or may run."""
    if not request.replayable or request.isolation != "process":
        raise NotReplayable("only its own server may run it")
    if reference.name == _OF_INSTANCES:
        raise NotReplayable(_why_not_named(request.args[0]))
    if reference.code is not None or reference.main is not None:
        raise NotReplayable("only this program has its code; define it in a module that servers import")


def _why_not_named(job: Any) -> str:
    """Return why no other process can make a job of its class's name and its attributes."""
    kind = cast("type[Any]", type(job))
    if importable_name(kind) is None:
        where = "in the main file" if kind.__module__ == "__main__" else "where no other process finds it"
        return f"its class {kind.__name__} is {where}; define it in a module that servers import"
    if job.isolation == "inline":
        return "its class is inline, so it runs in its own program only"
    given: Any = job.__getstate__()
    state = cast("dict[str, Any]", given) if isinstance(given, dict) else {}
    wrong = next((name for name, value in state.items() if not is_plain(value)), None)
    if wrong is None:
        return f"its class {kind.__name__} has slots, or changes how it is pickled"
    return f"its attribute {wrong} is a {type(state[wrong]).__name__} that is not JSON"


def with_arguments(
    spec: dict[str, Any], args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return a spec with other arguments.

    Args:
        spec: The spec.
        args: The positional arguments; those of the spec where None.
        kwargs: Keyword arguments in the place of those with the same names; the others stay.

    Raises:
        InvalidInput: They are no list and no mapping, or an argument is no JSON, is too large, or looks like
            a secret.
    """
    if args is not None and (isinstance(args, str) or not isinstance(cast("object", args), Sequence)):
        raise InvalidInput(f"args is {args!r:.160}; it must be a list")
    if kwargs is not None and not isinstance(cast("object", kwargs), Mapping):
        raise InvalidInput(f"kwargs is {kwargs!r:.160}; it must be arguments by name")
    changed = {
        "args": list(spec["args"] if args is None else args),
        "kwargs": spec["kwargs"] | dict(kwargs or {}),
    }
    if spec["body"] == _OF_CLASSES:
        changed = _with_attributes(spec, args, kwargs)
    try:
        _check({"args": list(args or ()), "kwargs": dict(kwargs or {})}, LIMIT_BYTES, guess=True)
        kept = spec | _as_json(changed)
        _check_fit(spec, changed)
    except (NotReplayable, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"the arguments cannot be kept in a record: {error}; submit a new job") from None
    return kept


def _with_attributes(
    spec: dict[str, Any], args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the arguments for a job of a class: keyword arguments are attributes of the job."""
    name, state = spec["args"]
    unknown = next((each for each in kwargs or {} if each not in state), None)
    if args is not None or unknown is not None:
        told = "args are given" if args is not None else f"{unknown!r:.160} is no attribute of the job"
        raise InvalidInput(
            f"{told}; arguments of a job of a class are attributes by name: {', '.join(state):.300}"
        )
    return {"args": [name, state | dict(kwargs or {})], "kwargs": {}}


def _check_fit(spec: dict[str, Any], changed: dict[str, Any]) -> None:
    """Refuse arguments that the body does not take, where this process has its code: it loads none of others.

    Raises:
        InvalidInput: They do not fit.
        NotReplayable: A program among them has a secret in it.
    """
    name, own = spec["body"], spec["body"].startswith(_OWN)
    if not own and (name.partition(":")[0] not in sys.modules or _file_of(name) != spec["file"]):
        return
    signature = inspect.signature(Bodies().find(name, None))
    try:
        named = signature.bind(*changed["args"], **changed["kwargs"]).arguments
    except TypeError as error:
        raise InvalidInput(f"the arguments do not fit: {error}; it takes {signature!s:.300}") from None
    if own:
        _refuse_programs_of_ours(named)
        _check(dict(named), LIMIT_BYTES, guess=True)


def _refuse_secrets(names: Iterable[str], signature: inspect.Signature, named: Mapping[str, Any]) -> None:
    for name in names:
        if name not in signature.parameters or named.get(name):
            raise NotReplayable(f"{name} holds a secret")  # also where its argument is not known


def _refuse_programs_of_ours(named: Mapping[str, Any]) -> None:
    for name in _OF_OURS:
        _refuse_program(name, named.get(name), command_looks_secret)


def _refuse_program(name: str, value: Any, looks_secret: Callable[[list[str]], bool]) -> None:
    """Refuse a program with a secret in it, which a list of jobs would not show either."""
    if any(map(looks_secret, _commands(value))):
        raise NotReplayable(f"{name} has what looks like a secret in it")


def _commands(value: Any) -> Iterator[list[str]]:
    """Yield the command lines in an argument: a text, the words of one, or a list of such."""
    if isinstance(value, str):
        yield [value]
    elif isinstance(value, (list, tuple)):
        inner = cast("Sequence[Any]", value)
        yield [text for text in inner if isinstance(text, str)]
        for each in inner:
            if not isinstance(each, str):
                yield from _commands(each)


def _check(value: Any, room: int, *, guess: bool) -> int:
    """Return the space left after a value; raise unless it has JSON's own types and, by a guess, holds no
    secret.
    """
    kind = cast("type[object]", type(value))
    if kind is dict:
        room = _check_named(value, room, guess=guess)
    elif kind is list or kind is tuple:
        room = reduce(lambda left, inner: _check(inner, left, guess=guess), value, room)
    elif kind is str:
        room -= len(value)
        if guess and room >= 0 and value_looks_secret(value):
            raise NotReplayable("a text looks like a secret")
    elif kind is int:
        room -= value.bit_length() // 3
    elif kind not in (float, bool, type(None)):
        raise NotReplayable(f"a {kind.__qualname__} is not JSON")
    if room < 1:
        raise NotReplayable(f"its arguments are larger than {LIMIT_BYTES // 1024} KiB")
    return room - 1


def _check_named(values: dict[Any, Any], room: int, *, guess: bool) -> int:
    for name, value in values.items():
        if guess and value and name_looks_secret(name):
            raise NotReplayable(f"{name} looks like a secret")
        if guess and name in _PROGRAMS:
            _refuse_program(name, value, _PROGRAMS[name])
        room = _check(value, _check(name, room, guess=guess), guess=guess)
    return room


def _as_json(value: Any) -> Any:
    """Return the value as it is read from a record, if that is equal to the value."""
    text = json.dumps(value, allow_nan=False)
    back = json.loads(text)
    if len(text) > LIMIT_BYTES or back != value:
        raise NotReplayable("its arguments are not plain JSON")
    return back


def _file_of(name: str) -> str | None:
    return getattr(sys.modules.get(name.partition(":")[0]), "__file__", None)


def _anchored(named: Mapping[str, Any]) -> bool:
    """Whether the arguments of our own body mean the same in every working directory."""
    first = next((named[name] for name in _PATHS if named.get(name) is not None), None)
    return first is None or Path(first).is_absolute()


def from_spec(job: Job) -> Request | None:
    """Return the request that starts this queued job here, or None where this process cannot start it: its
    module is not loaded, or is loaded from another file, or the working directory differs.

    Blocks: it may import a module of our own.
    """
    spec = job.call
    try:
        if spec is None or spec["cwd"] not in (None, _working_directory()):
            return None
        body = _body(spec["body"], spec["file"], spec["args"])
        results = tuple(spec.get("results") or ())
        args, kwargs = tuple(decoded(spec["args"], results)), decoded(dict(spec["kwargs"]), results)
        limits = Limits.given(**(spec.get("limits") or {}))
    except (ImportError, AttributeError, LookupError, TypeError, ValueError) as error:
        _log.info("job %s cannot be started here: %s", job.id, error)
        return None
    known: dict[str, Any] = {"principal": job.principal, "limits": limits, "grace_s": job.grace_s}
    known["results"] = results
    return body and Request(body, args, kwargs, job.label, job.tool, **known)


def module_of(spec: Mapping[str, Any]) -> str | None:
    """Return the module that a server must have loaded to start this; None where every server has it."""
    name = subject_of(spec.get("body", ""), spec.get("args", ()))
    return None if name.startswith(_OWN) else name.partition(":")[0]


def missing_part(spec: Mapping[str, Any]) -> str | None:
    """Return what of a spec is gone, so that no process can start it: its file, its working directory, or the
    name of a body of ours; None where nothing is known to be. Blocks: it may import a module of our own.
    """
    file, cwd = spec.get("file"), spec.get("cwd")
    if file is not None and not any(map(os.path.isfile, (file, *map(str, Path(file).parents)))):
        return file  # of a module in an archive, the archive is there
    if cwd is not None and not os.path.isdir(cwd):
        return cwd
    name = subject_of(spec.get("body", ""), spec.get("args", ()))
    try:
        if name.startswith(_OWN):
            Bodies().find(name, None)
    except (ImportError, AttributeError, LookupError):
        return name
    return None


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return _NOWHERE  # the directory was removed


def subject_of(body: str, args: Sequence[Any]) -> str:
    """Return the name of what a spec starts: of a job its class, not the function that runs it."""
    return args[0] if body == _OF_CLASSES else body


def _body(name: str, file: str | None, args: Sequence[Any]) -> Callable[..., Any] | None:
    subject = subject_of(name, args)
    if not subject.startswith(_OWN) and (file is None or _file_of(subject) != file):
        return None
    body = Bodies().find(name, None)
    return body if refer(body).name == name else None
