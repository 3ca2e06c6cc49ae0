"""Outcomes as bytes: a worker never raises, and its frames can always be decoded."""

from __future__ import annotations

import json
import os
import pickle
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Final, cast

from python_mcp_server.errors import LimitExceeded, PythonMcpError
from python_mcp_server.model import Failure, Outcome
from python_mcp_server.pool.main_module import COPY, MAIN, is_of_main
from python_mcp_server.pool.pickling import YieldingBytesIO, dumps_by_value
from python_mcp_server.processes import KILL, signal_name
from python_mcp_server.processes.host import shortage_in

_POOL: Final = os.path.dirname(os.path.abspath(__file__)) + os.sep
_PACKAGE: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_PLAIN: Final = (str, bytes, int)
_END_OF_INPUT: Final = "EOF when reading a line"
_NO_INPUT: Final = "A body has no stdin: take the value as a parameter, or ask the user with request_input()."
_NO_EXIT: Final = (
    "sys.exit() ends only this call: return a value, or raise an exception that says what is wrong."
)
_RELATIVE: Final = (
    "{!r} is looked up in {}, the working directory of the server, which its client chose: use an absolute "
    "path, or one beside __file__."
)
_LOOKUPS: Final = frozenset({"AttributeError", "ImportError", "_pickle.PicklingError"})
"""The exceptions that are raised where a name is not found."""

NEVER_STARTED: Final = "never_started"
"""The kind of failure of a call that no worker has read: it may be sent to another worker."""

UNREADABLE: Final = "unreadable"
"""The kind of failure of a result that this process cannot rebuild: the worker is asked for its JSON form."""

_TRACEBACK: Final = "Traceback (most recent call last):"
_TAIL_BYTES: Final = 16_384
_LINE_CHARS: Final = 300
_TEXT_LIMIT: Final = 100_000
"""Characters kept of a message or a traceback; guessed: several screens."""


def failure_of(error: BaseException, *, stays: bool = False) -> Failure:
    """Return an exception as data, with itself attached only if it survives a round trip.

    Args:
        error: The exception.
        stays: Whether the exception is raised in this process itself, so that it need not survive a round
            trip.
    """
    bases = tuple(map(_name_of, type(error).__mro__[:-1]))
    # SystemExit and its like would end the server instead of informing it: they are sent as RemoteError
    ordinary = error if isinstance(error, Exception) else None
    pickled = _travelling(ordinary) if ordinary and not stays else None
    cause = error.kind if isinstance(error, LimitExceeded) else "exception"
    failure = Failure(bases[0], _text(error), _traceback(error), pickled, cause, bases)
    failure = replace(failure, rpc_error=_rpc_error(error))
    return replace(failure, error=ordinary) if stays else failure


def _name_of(kind: type) -> str:
    module, qualname = _names_of(kind)
    return qualname if module == "builtins" else f"{module}.{qualname}"


def death(exit_code: int | None, *, never_started: bool = False) -> Failure:
    """Return the failure of a call whose worker ended in this way."""
    return Failure(
        "python_mcp_server.errors.WorkerDied",
        f"the worker process {how_ended(exit_code)} before the body returned",
        kind=NEVER_STARTED if never_started else "worker_died",
        exit_code=exit_code,
    )


def how_ended(exit_code: int | None) -> str:
    """Return the words for the end of a process, behind its name."""
    if exit_code is None:
        return "ended without a word"
    if exit_code >= 0:
        return f"exited with code {exit_code}"
    name = signal_name(-exit_code)
    return f"was ended by signal {-exit_code}{f' ({name})' if name else ''}"


def early_end(exit_code: int | None, log: str) -> RuntimeError:
    """Return the error of a start whose worker has ended; its cause is a shortage where the worker was short
    of something.

    The log says why, because a worker without memory may send no frame, and loky prints what is raised before
    our code runs.
    """
    text = _tail_of(log)
    said = _last_words(text.rpartition(_TRACEBACK)[2])
    if _TRACEBACK in text:  # whatever the exit code is: loky may have killed the worker on its way out
        error = RuntimeError(f"the worker process ended before it was ready: {said}")
        error.__cause__ = shortage_in(said)
        return error
    about = f": {said}" if said else ""
    error = RuntimeError(f"the worker process {how_ended(exit_code)} before it was ready{about}")
    if exit_code == -KILL:  # a worker without a call does nothing that it would be killed for
        error.__cause__ = MemoryError("the system kills processes where memory is short")
    return error


def _tail_of(log: str) -> str:
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _last_words(text: str) -> str:
    """Return the last line that is neither indented nor one of loky's rulers."""
    told = [line for line in text.splitlines() if line.strip("- ") and not line[0].isspace()]
    return told[-1][:_LINE_CHARS] if told else ""


def explain(error: BaseException) -> None:
    """Add a note to a body's exception that has its cause in how bodies run: what to do instead."""
    if type(error) is EOFError and error.args == (_END_OF_INPUT,):
        error.add_note(_NO_INPUT)
    elif type(error) is SystemExit:
        error.add_note(_NO_EXIT)
    elif type(error) is FileNotFoundError and _is_relative(error.filename):
        with suppress(OSError):  # the working directory is gone
            error.add_note(_RELATIVE.format(error.filename, os.getcwd()))


def _is_relative(name: object) -> bool:
    return isinstance(name, str) and bool(name) and not os.path.isabs(name)


def with_missing_main(failure: Failure, reason: str | None) -> Failure:
    """Add to a failure that a missing copy of the main program caused, why the copy is missing."""
    if reason is None or MAIN not in failure.message or failure.type_name not in _LOOKUPS:
        return failure
    told = (
        f"The worker has no copy of the main program, because {reason}; "
        "define what the body needs in a module that can be imported.\n"
    )
    return replace(failure, traceback_text=failure.traceback_text + told)


def _rpc_error(error: BaseException) -> dict[str, Any] | None:
    """Return the data of the SDK's `MCPError`; the class is recognised by its name, because this module does
    not load the SDK.
    """
    if ("mcp.shared.exceptions", "MCPError") not in map(_names_of, type(error).__mro__):
        return None
    try:
        said = cast("Any", error).error
        facts = {"code": said.code, "message": said.message, "data": said.data}
        return json.loads(json.dumps(facts, default=_text))
    except Exception:  # noqa: BLE001  the body's data may refuse in any way: then it is told of as a text
        return None


def _names_of(kind: type[object]) -> tuple[str, str]:
    """Return the module and the name of a class, which its metaclass may refuse to return."""
    try:
        return MAIN if kind.__module__ == COPY else kind.__module__, kind.__qualname__
    except BaseException:  # noqa: BLE001  the metaclass's own code
        return "unknown", "class"


def _text(error: object) -> str:
    try:
        return str(error)[:_TEXT_LIMIT]
    except BaseException as broken:  # noqa: BLE001  the exception's own __str__: report that it is broken
        return f"<its text cannot be made: {type(broken).__name__}>"


def _traceback(error: BaseException) -> str:
    try:
        frames = _body_frames(error)
        if isinstance(error, PythonMcpError) and _is_own(frames):
            return ""  # its sentence says what is wrong, and a caller can do nothing about our code
        text = "".join(traceback.format_exception(type(error), error, frames))
    except BaseException as broken:  # noqa: BLE001  again the exception's own code
        return f"<its traceback cannot be made: {type(broken).__name__}>"
    text = text.replace(f"\n{COPY}.", "\n")  # as Python names the exceptions of a main file
    return text if len(text) <= _TEXT_LIMIT else "... (cut)\n" + text[-_TEXT_LIMIT:]


def _body_frames(error: BaseException) -> TracebackType | None:
    """Return the traceback without our own frames at its top, which do not help the body's author."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_POOL):
        frames = frames.tb_next
    return frames or error.__traceback__


def _is_own(frames: TracebackType | None) -> bool:
    """Whether all frames are of this package."""
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        frames = frames.tb_next
    return frames is None


def _travelling(error: BaseException) -> bytes | None:
    return _round_trip(error, pickle.dumps) or _round_trip(error, partial(dumps_by_value, look=is_of_main))


def _round_trip(error: BaseException, dumps: Callable[[object], bytes]) -> bytes | None:
    try:
        data = dumps(error)
        copy = pickle.loads(data)
        return data if type(copy) is type(error) and _alike(copy.args, error.args) else None
    except BaseException:  # noqa: BLE001  any code of the exception's class may run here; None is the answer
        return None


def _alike(copies: tuple[object, ...], args: tuple[object, ...]) -> bool:
    """Whether these are the same arguments, as far as that is known without calling their code: objects other
    than plain data may compare in any way, and exceptions are equal only to themselves.
    """
    return len(copies) == len(args) and all(
        type(copy) is type(arg) and (type(arg) not in _PLAIN or copy == arg)
        for copy, arg in zip(copies, args, strict=True)
    )


def encode(outcome: Outcome) -> bytes:
    """Return the outcome as bytes; a value that cannot be sent is replaced by its JSON form."""
    try:
        return pickle.dumps(_plain(outcome), pickle.HIGHEST_PROTOCOL)
    except BaseException as plain:  # noqa: BLE001  a value may refuse in any way; cloudpickle takes more kinds
        return _encode_hard(outcome, plain)


def _encode_hard(outcome: Outcome, plain: BaseException) -> bytes:
    try:
        return dumps_by_value(_plain(outcome), look=is_of_main)
    except BaseException:  # noqa: BLE001
        return pickle.dumps(_plain(shown(outcome, _text(plain))))


def shown(outcome: Outcome, reason: str) -> Outcome:
    """Return the outcome with its value's JSON form, because the value itself cannot reach the caller."""
    from python_mcp_server.job_result import JobResult
    from python_mcp_server.jsonable import jsonable

    if isinstance(outcome.value, JobResult):
        return replace(outcome, value=outcome.value.portable())
    module, name = _names_of(cast("type[object]", type(outcome.value)))
    form, note = jsonable(outcome.value)
    sentence = f"the result, a {module}.{name}, cannot be sent back: {reason}; this is what it holds"
    return replace(outcome, value=None, shown=(form, note or sentence))


def decode(data: bytes, *, in_thread: bool = False) -> Outcome:
    """Decode the bytes of `encode`; an outcome that cannot be rebuilt here becomes an `UNREADABLE` failure.

    Args:
        data: The bytes.
        in_thread: Whether to let other threads run meanwhile.
    """
    try:
        return Outcome(*(pickle.load(YieldingBytesIO(data)) if in_thread else pickle.loads(data)))
    except BaseException as error:  # noqa: BLE001  a type of the worker may be missing here, or fail to rebuild
        message = f"the result cannot be rebuilt here: {type(error).__name__}: {_text(error)}"
        failure = Failure("python_mcp_server.errors.RemoteError", message, kind=UNREADABLE)
        return Outcome(failure=failure, touched=True)


def _plain(outcome: Outcome) -> tuple[Any, ...]:
    """Return the outcome as a tuple, which pickles in a fifth of the time."""
    return (
        outcome.value,
        outcome.failure,
        outcome.cancelled,
        outcome.wants_record,
        outcome.touched,
        outcome.shown,
    )
