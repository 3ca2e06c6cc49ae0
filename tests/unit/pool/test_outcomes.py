"""Outcomes as data: whatever a body ends with, the front can read it."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.errors import RemoteError, WorkerDied
from python_mcp_server.jobs.request import deliver, rebuild
from python_mcp_server.jobs.settle import settle
from python_mcp_server.model import Failure, Job, JobState, Outcome, new_job_id, utc_now
from python_mcp_server.pool import outcomes
from python_mcp_server.store.memory import InMemoryJobStore
from tests.helpers import bodies


def failure(body):
    with pytest.raises(BaseException) as caught:  # noqa: PT011  each body has its own
        body()
    return outcomes.failure_of(caught.value)


def test_a_picklable_exception_is_raised_with_the_workers_traceback():
    error = rebuild(failure(bodies.raise_value_error))
    assert type(error) is ValueError
    assert error.args == ("seven is right out",)
    assert "raise_value_error" in "".join(error.__notes__)


def test_only_an_input_that_has_no_stdin_is_explained_and_once():
    asked, other = EOFError("EOF when reading a line"), EOFError("Ran out of input")
    for error in (asked, other):
        outcomes.explain(error)
    assert ["request_input" in note for note in asked.__notes__] == [True]
    assert not hasattr(other, "__notes__")
    assert "request_input" in outcomes.failure_of(asked).traceback_text


def test_a_relative_path_is_explained_where_a_file_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    relative, absolute = (
        FileNotFoundError(2, "no", "data.txt"),
        FileNotFoundError(2, "no", str(tmp_path / "x")),
    )
    for error in (relative, absolute, FileNotFoundError("no file is named")):
        outcomes.explain(error)
        assert [str(tmp_path) in note for note in getattr(error, "__notes__", ())] == [True] * (
            error is relative
        )


@pytest.mark.parametrize(
    "body", [bodies.raise_unpicklable, bodies.raise_broken_rebuild, bodies.raise_system_exit]
)
def test_an_unpicklable_exception_becomes_a_remote_error_with_its_name(body):
    found = failure(body)
    assert found.pickled is None
    error = rebuild(found)
    assert isinstance(error, RemoteError)
    assert error.type_name == found.type_name


def test_an_exception_without_a_text_says_so():
    assert failure(bodies.raise_broken_text).message == "<its text cannot be made: RuntimeError>"


@pytest.mark.parametrize("background", [True, False])
def test_a_value_that_cannot_travel_fails_no_finished_work(background: bool):
    store = InMemoryJobStore()
    job_id = new_job_id()
    store.create(Job(job_id, "x", JobState.RUNNING, utc_now(), background=background))
    value = {"lock": threading.Lock()}
    outcome = outcomes.decode(outcomes.encode(Outcome(value)))
    job = settle(store, job_id, outcome)
    assert (job.status, job.result) == (JobState.COMPLETED, {"lock": str(value["lock"])})
    assert "lock has no form in JSON" in (job.result_note or "")
    assert deliver("x", outcome).value == {"lock": str(value["lock"])}


class Sealed:
    """Has a form in JSON, and cannot be pickled."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __reduce__(self) -> Any:
        raise TypeError("sealed")

    def model_dump(self, **_: object) -> dict[str, int]:
        return {"rows": self.rows}


def test_a_note_says_that_a_form_stands_for_the_value():
    form, note = outcomes.decode(outcomes.encode(Outcome(Sealed(4)))).shown or (None, None)
    assert form == {"rows": 4}
    assert "Sealed, cannot be sent back: sealed" in (note or "")


def test_a_result_that_cannot_be_rebuilt_becomes_a_failure():
    found = outcomes.decode(b"no pickle at all")
    assert found.failure is not None
    assert "cannot be rebuilt" in found.failure.message


def test_a_worker_that_died_is_raised_with_its_exit_code():
    from python_mcp_server.pool.outcomes import death

    error = rebuild(death(-11))
    assert isinstance(error, WorkerDied)
    assert (error.exit_code, "SIGSEGV" in str(error)) == (-11, True)
    assert isinstance(pickle.loads(pickle.dumps(error)), WorkerDied)


class Ambiguous:
    """As an array: what it is equal to is no truth."""

    def __eq__(self, other: object) -> Ambiguous:  # type: ignore[override]
        return self

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise ValueError("the truth of this is ambiguous")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad", Ambiguous()),
        RuntimeError("outer", ValueError("inner")),
        ExceptionGroup("several", [ValueError("a"), KeyError("b")]),
    ],
)
def test_an_exception_with_a_value_unequal_to_itself_is_pickled(error: Exception):
    pickled = outcomes.failure_of(error).pickled
    assert pickled is not None
    copy = pickle.loads(pickled)
    assert (type(copy), len(copy.args)) == (type(error), len(error.args))


class Prefixed(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(f"told: {text}")


def test_an_exception_whose_text_changes_with_pickling_is_not_pickled():
    assert outcomes.failure_of(Prefixed("once")).pickled is None


class Rude:
    def __reduce__(self) -> str:
        raise SystemExit("not me")


class RudeError(Exception):
    def __str__(self) -> str:
        raise SystemExit("no text")

    def __reduce__(self) -> str:
        raise SystemExit("not me")


def end_the_front() -> None:
    raise KeyboardInterrupt


class Trick:
    """Its pickle is a call that was harmless in the worker."""

    def __init__(self, call: Any, *args: object) -> None:
        self.call = call, args

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("trick", [Trick(end_the_front), Trick(SystemExit, 3), Trick(len, "no error")])
def test_an_exception_that_unpickles_as_another_is_a_remote_error(trick: Trick):
    error = rebuild(Failure("their.Error", "told", "Traceback", pickled=pickle.dumps(trick)))
    assert isinstance(error, RemoteError)
    assert error.type_name == "their.Error"


def test_foreign_code_that_wants_to_end_the_process_ends_nothing():
    found = outcomes.failure_of(RudeError())
    assert (found.message, found.pickled) == ("<its text cannot be made: SystemExit>", None)
    returned = outcomes.decode(outcomes.encode(Outcome(Rude())))
    assert (returned.failure, returned.value) == (None, None)
    assert "Rude" in str(returned.shown)


class Secretive(type):
    """Tells nobody what its classes are called."""

    def __getattribute__(cls, name: str) -> Any:
        if name in {"__module__", "__qualname__"}:
            raise SystemExit("no name")
        return super().__getattribute__(name)


class Nameless(metaclass=Secretive):
    pass


class NamelessError(Exception, metaclass=Secretive):
    pass


def test_a_class_that_does_not_tell_its_name_costs_no_outcome():
    returned = outcomes.decode(outcomes.encode(Outcome(Nameless())))
    assert (returned.failure, returned.value) == (None, None)
    assert outcomes.failure_of(NamelessError("told")).message == "told"


class OwnNoteError(Exception):
    def add_note(self, note: str, author: str) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise AssertionError(f"{author}: {note}")


class NoNotesError(Exception):
    @property
    def __notes__(self) -> list[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        raise RuntimeError("no notes")


def test_an_exception_that_takes_no_note_is_raised_without_it():
    own, none = (rebuild(outcomes.failure_of(kind("x"), stays=True)) for kind in (OwnNoteError, NoNotesError))
    assert (type(own), type(none)) == (OwnNoteError, NoNotesError)
    assert own.__notes__
