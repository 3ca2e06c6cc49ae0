"""What a job runs, in words: the script with its arguments, or a line of its code, and where.

Only calls of our own tools are described, because only their parameters are known here. What looks like a
secret is left out, as it is from the spec of a queued job.
"""

from __future__ import annotations

import inspect
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, cast

from python_mcp_server.jobs.redaction import HIDDEN, name_looks_secret, without_secrets
from python_mcp_server.jobs.rows import one_line
from python_mcp_server.model import OUR_TOOLS

_MOST_CHARS: Final = 300
_MOST_WORDS: Final = 20
_MOST_LINES: Final = 200
_STATEMENT: Final = re.compile(r"(?:^|:[ \t]*)pass$")
_CODE_BYTES: Final = 20_000
"""How much of a code is looked at for its first line."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a job runs.

    Attributes:
        program: The program in one line of at most 300 characters; None where it is not known.
        directory: The directory that the caller named; None where there is none.
    """

    program: str | None = None
    directory: str | None = None


def what_ran(body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Ran:
    """Return what a call of one of our tools runs; nothing for another body, or where it refuses these."""
    if not (getattr(body, "__module__", None) or "").startswith(OUR_TOOLS):
        return Ran()
    try:
        named = inspect.signature(body).bind(*args, **kwargs).arguments
        words = ["pytest"] if body.__name__ == "run_tests" else []
        text = " ".join([*words, *_program(named)])
    except (TypeError, ValueError):  # such as a number where a text is meant
        return Ran()
    directory = named.get("directory", named.get("cwd"))
    return Ran(
        one_line(text, _MOST_CHARS) or None,
        one_line(directory, _MOST_CHARS) if isinstance(directory, str) else None,
    )


def _program(named: Mapping[str, Any]) -> Iterator[str]:
    """Yield the words of the program, as a shell would take them."""
    if isinstance(start := named.get("start"), list):
        yield from _started(cast("list[str]", start), named.get("stdin"))
    code, path, name = (named.get(key) for key in ("script_content", "script_path", "script_name"))
    if isinstance(code, str):
        yield first_line(code)
    elif isinstance(path, str):
        yield shlex.quote(os.path.basename(path))
    elif isinstance(name, str):
        yield shlex.quote(name)
    words = [*_texts(named.get("argv")), *_texts(named.get("args")), *_texts(named.get("paths"))]
    yield from without_secrets(words)
    if isinstance(lists := named.get("args_list"), Sequence):
        yield f"({len(cast('Sequence[Any]', lists))} times)"
    elif isinstance(file := named.get("args_file"), str):
        yield f"(for each line of {os.path.basename(file)})"
    if isinstance(earlier := named.get("resume"), str):
        yield f"(the rest of {earlier})"


def _started(start: list[str], stdin: Any) -> Iterator[str]:
    """Yield the words behind `python`: code is told by a line."""
    if start[0] == "-c" or (start[0] == "-" and isinstance(stdin, str)):
        yield first_line(start[1] if start[0] == "-c" else stdin)
    elif start[0] == "-m":
        yield from map(shlex.quote, start)
    else:
        yield shlex.quote(os.path.basename(start[0]))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        yield from islice(map(str, cast("Sequence[Any]", value)), _MOST_WORDS)


def _looks_secret(line: str) -> bool:
    """Whether a line names a secret; the statement `pass` at its end is none."""
    return name_looks_secret(_STATEMENT.sub("", line))


def first_line(code: str) -> str:
    """Return the first line of a code that says what it does: no comment, import or secret if possible."""
    lines = [line.strip() for line in code[:_CODE_BYTES].splitlines()[:_MOST_LINES]]
    lines = [line for line in lines if line and not line.startswith("#") and not _looks_secret(line)]
    telling = (line for line in lines if not line.startswith(("import ", "from ", '"""', "'''")))
    return next(telling, lines[0] if lines else HIDDEN)
