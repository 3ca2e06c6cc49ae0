"""What the script tools share: a call's folder and time limit, its phases, its result."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from python_mcp_server.context import JobContext, current_job, report_progress
from python_mcp_server.errors import InvalidInput, LimitExceeded, StoreError
from python_mcp_server.model import new_job_id
from python_mcp_server.runner.child import Command, Ending, Watch, run_child
from python_mcp_server.runner.command import UV, Interpreter, Script, check_arguments, command_for
from python_mcp_server.runner.inline import write_script
from python_mcp_server.runner.output import excerpt, mark_timeout, size_of
from python_mcp_server.runner.session import Session, deadline_after
from python_mcp_server.runner.uv import Uv
from python_mcp_server.settings import Settings
from python_mcp_server.tools.results import CommandResult, ScriptResult

_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
_KILLED = -int(getattr(signal, "SIGKILL", signal.SIGTERM))


@dataclass(frozen=True, slots=True)
class Finished:
    """A call that ended, with what its result is made of."""

    result: ScriptResult
    interpreter: Interpreter
    ending: Ending


@dataclass(frozen=True, slots=True)
class ScriptCall:
    """One call of a script tool, within its folder.

    Attributes:
        session: Its folder, limit and variables.
        job: The job that it is; None when it is called outside of one.
        output_chars: How much of each stream the result shows.
    """

    session: Session
    job: JobContext | None
    output_chars: int

    def run(
        self,
        script: Script,
        cwd: Path,
        args: Sequence[str] | None,
        choose: Callable[[Uv], Interpreter],
        watch: Watch | None = None,
    ) -> Finished:
        """Prepare the interpreter, run the script with it, and return how that ended."""
        check_arguments(args)
        starts = {name: size_of(path) for name, path in self._streams.items()}
        try:
            interpreter = choose(Uv(self.session))
        except LimitExceeded as late:
            interpreter, ending = _never_started(self._streams["stderr"], late)
        else:
            if interpreter.install_s is not None:
                report_progress(1, None, "running")
            ending = self._run(command_for(interpreter, script, args, cwd, self.session), watch)
        result: ScriptResult = {
            **self._result(starts, ending),
            "execution_strategy": interpreter.strategy,
            "strategy_detail": interpreter.detail,
        }
        if interpreter.install_s is not None:
            result["install_seconds"] = round(interpreter.install_s, 6)
        return Finished(result, interpreter, ending)

    def run_command(self, command: Command) -> CommandResult:
        """Run a command that needs no interpreter of ours, and return how that ended."""
        starts = {name: size_of(path) for name, path in self._streams.items()}
        return self._result(starts, self._run(command, None))

    @property
    def _streams(self) -> dict[str, Path]:
        return {name: self.session.folder / name for name in ("stdout", "stderr")}

    def _run(self, command: Command, watch: Watch | None) -> Ending:
        session = self.session
        return run_child(
            command, **self._streams, job_id=session.job_id, deadline=session.deadline, watch=watch
        )

    def _result(self, starts: dict[str, int], ending: Ending) -> CommandResult:
        if ending.timed_out:
            mark_timeout(self._streams["stderr"])
        job_id = None if self.job is None else self.job.id
        shown = {
            name: excerpt(path, start=starts[name], limit_chars=self.output_chars, job_id=job_id)
            for name, path in self._streams.items()
        }
        result = CommandResult(
            stdout=shown["stdout"].text,
            stderr=shown["stderr"].text,
            exit_code=ending.exit_code,
            elapsed_seconds=round(ending.elapsed_s, 6),
        )
        if ending.timed_out:
            result["timed_out"] = True
        elif ending.exit_code < 0:
            result["ended_by_signal"] = _signal_name(-ending.exit_code)
        if self.job is not None and any(stream.cut for stream in shown.values()):
            self.job.keep_record()
            result["job_id"] = self.job.id
        return result


@contextmanager
def script_call(timeout_seconds: float, given: dict[str, str]) -> Generator[ScriptCall]:
    """Open a call in its job's folder; outside a job, in a private directory that goes with it.

    Raises:
        InvalidInput: The time limit is none.
        StoreError: A file of the call cannot be written.
    """
    deadline = deadline_after(timeout_seconds)
    settings = Settings.from_environ()
    job = current_job()
    if job is not None:
        session = Session(job.folder, settings.home, job.id, given, deadline)
        with stored(job.folder, settings.home):
            yield ScriptCall(session, job, settings.output_chars)
        return
    from tempfile import mkdtemp

    folder = Path(mkdtemp(prefix="python-mcp-"))
    try:
        session = Session(folder, settings.home, new_job_id(), given, deadline)
        with stored(folder, settings.home):
            yield ScriptCall(session, None, settings.output_chars)
    finally:
        shutil.rmtree(folder)


@contextmanager
def stored(*folders: Path) -> Generator[None]:
    """Tell of a full or locked disk below these folders in one sentence.

    Raises:
        StoreError: It names the path.
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


def one_of(script_path: str | None, script_content: str | None) -> None:
    """Refuse both or neither of path and content."""
    if (script_path is None) == (script_content is None):
        given = (
            "neither was given" if script_path is None else f"both were given (script_path {script_path!r})"
        )
        raise InvalidInput(f"exactly one of script_path and script_content is needed; {given}")


def existing_script(script_path: str, base: Path) -> Path:
    """Return the file of a script; a relative path starts at `base`."""
    path = base / Path(script_path).expanduser()
    if not path.is_file():
        raise InvalidInput(f"script_path {script_path!r} is no file (looked at {path})")
    return path


def existing_directory(directory: str) -> Path:
    """Return a directory as an absolute path."""
    if not directory:
        raise InvalidInput("directory is ''; give the path of one that exists, such as '.'")
    path = Path(directory).expanduser().absolute()
    if not path.is_dir():
        raise InvalidInput(f"directory {directory!r} is no directory; give the path of one that exists")
    return path


def place(call: ScriptCall, script: Path | None, content: str | None, home: Path) -> Script:
    """Return what to run: the file where it lies, or the content as if it lay in `home`."""
    if script is not None:
        return Script(script)
    return Script(write_script(call.session.folder, content or ""), home)


def source_of(script: Path | None, content: str | None) -> str:
    """Return a script's text, for its header."""
    return content or "" if script is None else script.read_bytes().decode("utf-8", errors="replace")


def _never_started(stderr: Path, late: LimitExceeded) -> tuple[Interpreter, Ending]:
    with stderr.open("a", encoding="utf-8") as file:
        file.write(f"{late}\n")
    return Interpreter("", UV, str(late), install_s=None), Ending(_KILLED, 0.0, timed_out=True)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
