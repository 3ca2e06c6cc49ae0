"""One call of a script tool: its folder and time limit, the run of the script, and the result.

All pictures of a run are listed by path, and the first few are sent as images. The worker decides which; the
process that answers the client reads the files.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from python_mcp_server.context import JobContext, current_job, report_progress
from python_mcp_server.errors import InvalidInput, LimitExceeded, StoreError
from python_mcp_server.limits import TIME, Breach, Limits
from python_mcp_server.model import new_job_id
from python_mcp_server.processes import signal_name
from python_mcp_server.runner.child import ChildExit, Command, Session, Watch, deadline_after
from python_mcp_server.runner.command import UV, Interpreter, Script, check_arguments, command_for
from python_mcp_server.runner.enforce import OwnWork, check_here
from python_mcp_server.runner.inline import short_names, write_script
from python_mcp_server.runner.output import TIMEOUT_MARK, append_line, excerpt, size_of
from python_mcp_server.runner.pictures import (
    Picture,
    content_of,
    longest_side,
    saved_in,
    shown_in,
    with_backend,
)
from python_mcp_server.runner.python.unused import remove_unused_aside
from python_mcp_server.runner.python.uv import Uv
from python_mcp_server.settings import Settings
from python_mcp_server.tools.hints import Ended, hint_at_limit, hint_for
from python_mcp_server.tools.results import CommandResult, ScriptResult, ShownPicture

_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
_TAIL_CHARS = 4000
"""Characters of each stream in the error of a run that met a limit; guessed: a screen."""

_MOST_OUTPUT_CHARS = 1_000_000
_LISTED_PICTURES: Final = 20
_MOST_PIXELS: Final = 8_000
"""The longest side of a sent image: the API of Claude refuses a conversation with a larger one."""
_SENDABLE: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_KILLED = -int(getattr(signal, "SIGKILL", signal.SIGTERM))


@dataclass(frozen=True, slots=True)
class Finished:
    """A call that has ended, with the interpreter and the exit that its result is made of."""

    result: ScriptResult
    interpreter: Interpreter
    ending: ChildExit


@dataclass(frozen=True, slots=True)
class Prepared:
    """A script ready to run, once or many times."""

    session: Session
    interpreter: Interpreter
    script: Script
    args: tuple[str, ...]
    cwd: Path
    figures: Path | None = None

    @property
    def command(self) -> Command:
        """The command that runs the script."""
        command = command_for(self.interpreter, self.script, self.args, self.cwd, self.session)
        if self.figures is None:
            return command
        return replace(command, env=with_backend(command.env, self.session.given, self.figures, self.cwd))


Start = Callable[[Prepared], ChildExit]


@dataclass(frozen=True, slots=True)
class ScriptCall:
    """One call of a script tool.

    Attributes:
        session: The folder, time limit and variables of the call.
        job: The job of the call; None outside of a job.
        output_chars: How many characters of each stream the result shows.
        own_work: Checks what the tool itself does.
        with_pictures: Whether the result lists the pictures that the script makes.
        merged: Whether stderr is a part of stdout, so that the order of both is kept.
    """

    session: Session
    job: JobContext | None
    output_chars: int
    own_work: OwnWork
    with_pictures: bool = False
    merged: bool = False

    def check(self) -> None:
        """Check what the tool itself has done until now. May be called after each line that is read.

        Raises:
            LimitExceeded: That exceeds a limit of the call.
        """
        if (breach := self.own_work.look()) is not None:
            sentence = f"{breach.sentence}, before its script began"
            raise self._at_limit(replace(breach, sentence=sentence), self._sizes)

    def run(
        self,
        script: Script,
        cwd: Path,
        args: Sequence[str] | None,
        choose: Callable[[Uv], Interpreter],
        start: Start | None = None,
        *,
        watch: Watch | None = None,
        packages: Callable[[Interpreter], str] | None = None,
    ) -> Finished:
        """Prepare the interpreter, run the script with it, and return how the run ended.

        Args:
            script: The script.
            cwd: The working directory of the script.
            args: The arguments of the script.
            choose: Returns the interpreter.
            start: Runs the script in place of `run_child`, for a script that runs many times.
            watch: The `watch` of `run_child`, for a single run.
            packages: Returns how the script gets a package, a text of `hints`; None for no hint.
        """
        check_arguments(args)
        starts = self._sizes
        since_ns = time.time_ns()
        try:
            interpreter = choose(Uv(self.session))
        except LimitExceeded as late:
            if late.kind != TIME:
                raise self._at_limit(Breach(late.kind, str(late)), starts) from None
            interpreter, ending = _never_started(self._stderr, late)
        else:
            prepared = self._prepared(interpreter, script, cwd, args)
            ending = self._run(lambda: start(prepared) if start else self._child(prepared.command, watch))
        if interpreter.fresh:
            remove_unused_aside(self.session.home)
        result: ScriptResult = {
            **self._result(starts, ending),
            "execution_strategy": interpreter.strategy,
            "strategy_detail": interpreter.words,
        }
        if interpreter.install_s is not None:
            result["install_seconds"] = round(interpreter.install_s, 6)
        if self.with_pictures:
            self._add_pictures(result, cwd, since_ns)
        ended = None if packages is None else self._ended(ending, script, cwd, starts)
        if ended and packages and (hint := hint_for(ended, packages(interpreter))) is not None:
            result["hint"] = hint
        return Finished(result, interpreter, ending)

    def _prepared(
        self, interpreter: Interpreter, script: Script, cwd: Path, args: Sequence[str] | None
    ) -> Prepared:
        if interpreter.install_s is not None:
            report_progress(1, None, "running")
        figures = self.session.folder / "pictures" if self.with_pictures else None
        return Prepared(self.session, interpreter, script, tuple(args or ()), cwd, figures)

    def run_command(self, command: Command) -> CommandResult:
        """Run a command without preparing an interpreter, and return how it ended."""
        starts = self._sizes
        return self._result(starts, self._run(lambda: self._child(command)))

    def _ended(self, ending: ChildExit, script: Script, cwd: Path, starts: dict[str, int]) -> Ended | None:
        """Return the facts for a hint; None where the run succeeded and wrote something."""
        silent = not any(size_of(path) > starts[name] for name, path in self._streams.items())
        if ending.exit_code == 0 and not silent:
            return None
        start = starts[self._stderr.name]
        words = excerpt(self._stderr, start=start, limit_chars=_TAIL_CHARS, job_id=None).text
        return Ended(ending.exit_code, words, silent, ending.timed_out, script.path, cwd)

    def _add_pictures(self, result: ScriptResult, cwd: Path, since_ns: int) -> None:
        """Add pictures to the result; outside of a job, figures are removed with their folder."""
        shown = [] if self.job is None else shown_in(self.session.folder / "pictures")
        if shown and self.job is not None:
            self.job.keep_record()
        add_pictures(result, [*shown, *saved_in(cwd, since_ns)], Settings.from_environ())

    @property
    def _streams(self) -> dict[str, Path]:
        return {name: self.session.folder / name for name in ("stdout", "stderr")}

    @property
    def _sizes(self) -> dict[str, int]:
        return {name: size_of(path) for name, path in self._streams.items()}

    @property
    def _stderr(self) -> Path:
        return self._streams["stdout" if self.merged else "stderr"]

    def _child(self, command: Command, watch: Watch | None = None) -> ChildExit:
        folder = self.session.folder
        return self.session.run(command, self._streams["stdout"], self._stderr, watch=watch, folder=folder)

    def _run(self, work: Callable[[], ChildExit]) -> ChildExit:
        """Run the child, and raise `LimitExceeded` if it met a limit."""
        starts = self._sizes
        ending = work()
        if ending.breach is not None:
            raise self._at_limit(ending.breach, starts)
        return ending

    def _at_limit(self, breach: Breach, starts: dict[str, int]) -> LimitExceeded:
        """Return the error of a run that met a limit, with the end of its output."""
        job_id = None
        if self.job is not None:
            self.job.keep_record()
            job_id = self.job.id
        text = breach.sentence
        if (hint := hint_at_limit(breach.kind)) is not None:
            text += f". {hint}"
        for name, path in self._streams.items():
            shown = excerpt(path, start=starts[name], limit_chars=_TAIL_CHARS, job_id=job_id).text
            shown = short_names(shown, self.session.folder)
            if shown.strip():
                text += f"\n\nIts {name} until then:\n{shown.rstrip()}"
        return LimitExceeded(text if job_id is None else f"{text}\n\n(job {job_id})", breach.kind)

    def _result(self, starts: dict[str, int], ending: ChildExit) -> CommandResult:
        if ending.timed_out:
            append_line(self._stderr, TIMEOUT_MARK)
        job_id = None if self.job is None else self.job.id
        shown = {
            name: excerpt(path, start=starts[name], limit_chars=self.output_chars, job_id=job_id)
            for name, path in self._streams.items()
        }
        result = CommandResult(
            stdout=shown["stdout"].text,
            stderr=short_names(shown["stderr"].text, self.session.folder),
            exit_code=ending.exit_code,
            elapsed_seconds=round(ending.elapsed_s, 6),
        )
        if ending.timed_out:
            result["timed_out"] = True
        elif ending.exit_code < 0:
            result["ended_by_signal"] = signal_name(-ending.exit_code) or f"signal {-ending.exit_code}"
        if self.job is not None and any(stream.cut for stream in shown.values()):
            self.job.keep_record()
            result["job_id"] = self.job.id
        return result


@contextmanager
def script_call(
    timeout_seconds: float,
    given: Callable[[], dict[str, str]],
    limits: Limits | None = None,
    output_chars: int | None = None,
    *,
    with_pictures: bool = False,
    merged: bool = False,
) -> Generator[ScriptCall]:
    """Open a call in the folder of its job; outside a job, in a private directory that is removed at the end.

    Its limits hold from here on, so what a tool reads for it is read within.

    Args:
        timeout_seconds: Its time limit.
        given: Returns the variables that the caller sets.
        limits: Its other limits.
        output_chars: How many characters of each stream the result shows; None for the setting.
        with_pictures: Whether the result lists pictures.
        merged: Whether stderr is a part of stdout.

    Raises:
        InvalidInput: The time limit or `output_chars` is out of bounds, or this machine cannot enforce the
            limits.
        StoreError: A file of the call cannot be written.
    """
    deadline = deadline_after(timeout_seconds)
    check_here(limits)
    settings = Settings.from_environ()
    chars = settings.output_chars if output_chars is None else output_chars
    if not 0 <= chars <= _MOST_OUTPUT_CHARS:
        raise InvalidInput(f"output_chars is {chars}; it must be between 0 and {_MOST_OUTPUT_CHARS}")
    time_limit_s = None if deadline is None else timeout_seconds
    own_work = OwnWork(replace(limits or Limits(), timeout_seconds=time_limit_s))
    variables = given()
    job = current_job()
    if job is not None:
        session = Session(job.folder, settings.home, job.id, variables, deadline, limits, job.grace_s)
        with stored(job.folder, settings.home):
            yield ScriptCall(session, job, chars, own_work, with_pictures, merged)
        return
    from tempfile import mkdtemp

    folder = Path(mkdtemp(prefix="python-mcp-"))
    try:
        grace_s = settings.cancel_grace_seconds
        session = Session(folder, settings.home, new_job_id(), variables, deadline, limits, grace_s)
        with stored(folder, settings.home):
            yield ScriptCall(session, None, chars, own_work, with_pictures, merged)
    finally:
        shutil.rmtree(folder)


@contextmanager
def stored(*folders: Path) -> Generator[None]:
    """Translate the error of a full or locked disk below these folders into one sentence.

    Raises:
        StoreError: A file below the folders cannot be written; the text names it.
    """
    try:
        yield
    except OSError as error:
        path = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else folders[0]
        ours = any(path.is_relative_to(folder) for folder in folders)
        if error.errno not in _UNWRITABLE or not ours:
            raise
        raise StoreError(
            f"{path} cannot be written: {error.strerror}; free space there, or make it writable"
        ) from error


def script_of(call: ScriptCall, script: Path | None, content: str | None, home: Path) -> Script:
    """Return the script to run: the file, or the content, which runs as if it were a file in `home`."""
    if script is not None:
        return Script(script)
    return Script(write_script(call.session.folder, content or ""), home)


def add_pictures(result: ScriptResult, found: Sequence[Picture], settings: Settings) -> None:
    """Add pictures to a result. Two attached pictures with the same bytes are listed once."""
    left, left_bytes = settings.max_pictures, settings.max_picture_bytes
    seen: set[bytes] = set()
    listed: list[ShownPicture] = []
    left_out = 0
    for picture in found:
        if len(listed) == _LISTED_PICTURES:
            left_out += 1
            continue
        told = ShownPicture(
            path=str(picture.path),
            mime_type=picture.mime_type,
            size_bytes=picture.size_bytes,
            attached=False,
        )
        if left > 0 and (data := _content(picture, told, left_bytes)):
            digest = hashlib.sha256(data).digest()
            if digest in seen:
                continue
            seen.add(digest)
            told["attached"] = True
            left, left_bytes = left - 1, left_bytes - len(data)
        listed.append(told)
    if listed:
        result["pictures"] = listed
    if left_out:
        result["pictures_left_out"] = left_out


def _content(picture: Picture, told: ShownPicture, most: int) -> bytes:
    """Return the bytes to send, if any: of a large figure those of the smaller copy, whose path is added."""
    if picture.mime_type not in _SENDABLE or not _is_unicode(told["path"]):
        return b""
    if picture.preview is not None and (data := content_of(picture.preview, most)):
        told["preview"] = str(picture.preview)
        return data
    data = content_of(picture.path, most) if picture.size_bytes <= most else b""
    return data if longest_side(data) <= _MOST_PIXELS else b""


def _is_unicode(path: str) -> bool:
    """Whether JSON can carry the path, so that the process that answers finds the file."""
    return path.encode("utf-8", errors="ignore").decode() == path


def _never_started(stderr: Path, late: LimitExceeded) -> tuple[Interpreter, ChildExit]:
    append_line(stderr, f"{late}\n".encode())
    return Interpreter("", UV, str(late), install_s=None), ChildExit(_KILLED, 0.0, timed_out=True)
