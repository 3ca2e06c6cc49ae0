"""Where a script comes from: what a caller says of its file, its text and its directory, checked."""

from __future__ import annotations

import os
from pathlib import Path

from python_mcp_server.errors import InvalidInput
from python_mcp_server.runner.textfile import read_bytes


def one_of(script_path: str | None, script_content: str | None) -> None:
    """Refuse both or neither of path and content."""
    if (script_path is None) == (script_content is None):
        given = (
            "neither was given" if script_path is None else f"both were given (script_path {script_path!r})"
        )
        raise InvalidInput(f"exactly one of script_path and script_content is needed; {given}")


def existing_script(script_path: str, base: Path) -> Path:
    """Return the file of a script; a relative path starts at `base`."""
    path = base / os.path.expanduser(script_path)
    if not os.path.isfile(path):  # which, unlike a Path, says no of a name that is too long
        raise InvalidInput(f"script_path {script_path!r} is no file (looked at {path})")
    return path


def existing_directory(directory: str) -> Path:
    """Return a directory as an absolute path."""
    if not directory:
        raise InvalidInput("directory is ''; give the path of one that exists, such as '.'")
    path = Path(os.path.expanduser(directory)).absolute()
    if not os.path.isdir(path):
        raise InvalidInput(f"directory {directory!r} is no directory; give the path of one that exists")
    return path


def source_of(script: Path | None, content: str | None) -> str:
    """Return a script's text, for its header."""
    if script is None:
        return (content or "").removeprefix("\ufeff")
    text = read_bytes(script, f"script {str(script)!r}").decode("utf-8", errors="replace")
    return text.removeprefix("\ufeff")
