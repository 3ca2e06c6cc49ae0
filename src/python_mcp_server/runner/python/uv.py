"""uv as a child of a call: found, run under the call's time limit, its errors in one sentence."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from python_mcp_server.context import report_progress
from python_mcp_server.errors import LimitExceeded, ToolchainError, UvRefused
from python_mcp_server.limits import TIME
from python_mcp_server.runner.child import Command, Session
from python_mcp_server.runner.output import end_of
from python_mcp_server.runner.python.environ import child_environment
from python_mcp_server.runner.textfile import split_lines

_SETTINGS: Final = {"NO_COLOR": "1", "UV_NO_PROGRESS": "1"}
_REFUSALS: Final = (
    "No solution found",
    "not found in the package registry",
    "Failed to parse",
    "Distribution not found",
    "Couldn't parse requirement",
    "Error parsing included file",
    "failed to decode file",
    "failed to read from file",
    "the start of a requirement",
    "Hash mismatch",
)
_UNREACHABLE: Final = (
    "error sending request",
    "HTTP status server error",
    "network timeout",
    "Could not resolve host",
    "Failed to connect to",
)
"""The words of uv, or of the git that it starts, for a network or an index that does not answer."""

_UNTRUSTED: Final = ("invalid peer certificate",)
_SYSTEM_CERTIFICATES: Final = "UV_SYSTEM_CERTS"
_START: Final = re.compile(r"(error:|\N{MULTIPLICATION SIGN} )")
_BRANCH: Final = re.compile(r"^(error: |cause: |hint: |[\N{MULTIPLICATION SIGN}\u2500-\u257f\u25b6]+ )+")
_ADDS_NOTHING: Final = re.compile(
    r"^No solution found when resolving dependencies[;:] Because "
    r"|, we can conclude that your requirements are unsatisfiable"
)
"""What uv says around its reason."""
_SENTENCE_CHARS: Final = 700
_MOST_BYTES: Final = 1 << 20
"""Of the end of what uv wrote: it may start programs that write much."""


@dataclass(frozen=True, slots=True)
class Uv:
    """uv within one call."""

    session: Session

    def __call__(self, *args: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
        """Run uv with these arguments and return what it wrote to stdout.

        Where uv's own certificates do not know the index, those of the system are tried: a client may start
        its server without the variables that name others. Where the network does not answer, uv is run once
        more offline, with its cache.

        Raises:
            ToolchainError: uv is not installed.
            UvRefused: uv ended with an error; the text is uv's own sentence.
            LimitExceeded: uv met a limit of the call.
        """
        env = env or {}
        said = self._run(args, cwd, env)
        if said.failed and _says(_UNTRUSTED, said.err) and not self._chosen(_SYSTEM_CERTIFICATES):
            said = self._run(args, cwd, {**env, _SYSTEM_CERTIFICATES: "1"})
        if said.failed and _says(_UNREACHABLE, said.err):
            report_progress(0, None, "the package index cannot be reached; looking in uv's cache")
            # Second, not first: offline at once would pin stale packages.
            again = self._run(args, cwd, {**env, "UV_OFFLINE": "1"})
            if again.failed:
                raise UvRefused(_unreachable(said.err))
            return again.out
        if said.failed:
            raise UvRefused(sentence(said.err), by_request=_says(_REFUSALS, said.err))
        return said.out

    def _chosen(self, name: str) -> bool:
        """Whether the caller or the environment of the server has set a variable."""
        return name in self.session.given or name in os.environ

    def _run(self, args: Sequence[str], cwd: Path | None, env: Mapping[str, str]) -> Said:
        session = self.session
        variables = child_environment(session.given, session.job_id, own=False)
        variables.update(_SETTINGS, **env)
        command = Command((find_uv(), *args), cwd or session.folder, variables)
        return run_before(session, command, "install", f"while uv was at work ({' '.join(args[:2])})")


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended, and what it wrote."""

    exit_code: int
    out: str
    err: str

    @property
    def failed(self) -> bool:
        """Whether it ended with an error."""
        return self.exit_code != 0


def run_before(session: Session, command: Command, name: str, doing: str) -> Said:
    """Run a command of ours before the script of a call.

    Args:
        session: The call.
        command: The command.
        name: The name of its files, which stay in the folder of the call.
        doing: What the call does meanwhile, for an error.

    Raises:
        LimitExceeded: It met a limit of the call.
    """
    out, err = session.folder / f"{name}.stdout", session.folder / f"{name}.stderr"
    out.unlink(missing_ok=True)
    err.unlink(missing_ok=True)
    ending = session.run(command, out, err)
    if ending.breach is not None:
        raise LimitExceeded(f"{ending.breach.sentence}, {doing}", ending.breach.kind)
    if ending.timed_out:
        raise LimitExceeded(f"the time limit came {doing}", TIME)
    texts = [end_of(path, _MOST_BYTES).decode("utf-8", "replace") for path in (out, err)]
    return Said(ending.exit_code, *texts)


def _unreachable(stderr: str) -> str:
    """Return the error where neither the index nor the cache has what is asked for."""
    help_ = (
        "set SSL_CERT_FILE to the file of its certificates"
        if _says(_UNTRUSTED, stderr)
        else "try again once it can be reached, or set HTTPS_PROXY where a proxy leads to it"
    )
    return (
        "uv asked the package index, then its own cache, and has not all that is needed: "
        f"{sentence(stderr)}; {help_} (in the environment that the MCP client gives to this server)"
    )


def _says(signs: Sequence[str], text: str) -> bool:
    return any(sign in text for sign in signs)


def find_uv() -> str:
    """Return the path of uv: that of its package, else one on the PATH.

    Raises:
        ToolchainError: uv was not found.
    """
    try:
        from uv import find_uv_bin

        return find_uv_bin()
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if found is None:
        raise ToolchainError(
            "uv was not found; install it with 'pip install uv', or run plain scripts with use_uv=false"
        )
    return found


def sentence(stderr: str) -> str:
    """Return uv's error as one line: from its first `error:` on, without the text before."""
    lines = [line.strip() for line in split_lines(stderr)]
    starts = [i for i, line in enumerate(lines) if _START.match(line)]
    useful = (
        lines[starts[0] :] if starts else [line for line in lines if line and not line.startswith("warning:")]
    )
    text = ""
    for line in useful:
        words = _BRANCH.sub("", line)
        if words.strip("^ ") and not line.startswith(("warning:", "[")):
            text += ("" if not text else " " if words == line else "; ") + words
    text = _ADDS_NOTHING.sub("", re.sub(r"\s+", " ", text).replace(":;", ":").replace(".;", "."))
    return text[:_SENTENCE_CHARS] or "uv ended without saying why"
