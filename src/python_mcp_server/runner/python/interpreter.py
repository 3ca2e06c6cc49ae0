"""The interpreter that a caller or a project asks for, and its path."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

from python_mcp_server.errors import InvalidInput, ToolchainError, UvRefused
from python_mcp_server.regular import read_regular
from python_mcp_server.runner.python.pep723 import check_specifier
from python_mcp_server.runner.python.uv import Uv
from python_mcp_server.runner.textfile import MOST_BYTES

_NUMBER: Final = r"[23](\d{0,2}|(\.\d{1,3}){1,2})"
"""Of Python 2 or 3; 312 is 3.12 to uv."""

_VERSION: Final = re.compile(rf"{_NUMBER}((a|b|rc)\d+)?t?\Z", re.ASCII)
_NAMED: Final = re.compile(rf"(cpython|pypy|graalpy)[-@]?({_NUMBER})?\Z", re.ASCII)
_BEYOND: Final = re.compile(r"(?:[=~]=|>)=?\s*0*([4-9]|[1-3]\d)")
"""In a specifier: Python 4 or later."""


def own_version() -> str:
    """Return the version of this interpreter, such as 3.12.1."""
    return ".".join(map(str, sys.version_info[:3]))


def check_request(python_version: str) -> None:
    """Refuse a text that is not a version of Python, before any search.

    Raises:
        InvalidInput: The text names the value.
    """
    if not isinstance(python_version, str):  # type: ignore[reportUnnecessaryIsInstance]
        raise InvalidInput(f"python_version is {python_version!r}; it must be text such as '3.12'")
    if _VERSION.match(python_version) or _NAMED.match(python_version):
        return
    if re.match(r"\s*[<>=!~]", python_version):
        check_specifier(python_version, "python_version")
        if not _BEYOND.search(python_version):
            return
    raise InvalidInput(f"python_version is {python_version!r}; write a version such as '3.12' or '3.11.4'")


def is_own(request: str) -> bool:
    """Whether this interpreter meets a checked request."""
    if _VERSION.match(request):
        return re.match(rf"{re.escape(request)}(\.|\Z)", own_version()) is not None
    if not re.match(r"\s*[<>=!~]", request):
        return False
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(request).contains(own_version(), prereleases=True)


def find_python(uv: Uv, request: str, *, download: bool = True) -> str:
    """Return the path of an interpreter; uv finds it, or downloads it where that is allowed.

    Raises:
        InvalidInput: No interpreter was found; the text says why, and which are installed.
    """
    if is_own(request):
        return sys.executable
    try:
        return _find(uv, request)
    except UvRefused as missing:
        reason: ToolchainError = missing
    if download:
        try:
            uv("python", "install", request, env={"UV_HTTP_RETRIES": "1"})
            return _find(uv, request)
        except UvRefused as refused:
            reason = refused
    raise InvalidInput(f"python_version {request!r} cannot be had: {reason}; installed are {_installed(uv)}")


def _find(uv: Uv, request: str) -> str:
    return uv("python", "find", "--no-project", "--system", request).strip()


def _installed(uv: Uv) -> str:
    listed = uv("python", "list", "--only-installed", "--all-versions")
    versions = dict.fromkeys(re.findall(r"(?m)^[a-z]+-(\d+\.\d+\.\d+)", listed))
    return ", ".join(versions) or own_version()


def version_in(venv: Path) -> str:
    """Return the version of a virtual environment's Python, from its record; "" where that has none."""
    try:
        text = read_regular(str(venv / "pyvenv.cfg"), MOST_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return ""
    found = re.search(r"(?m)^version(?:_info)?\s*=\s*(\d+\.\d+\.\d+)", text)
    return found[1] if found else ""
