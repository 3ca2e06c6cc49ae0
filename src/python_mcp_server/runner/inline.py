"""Code without a file of its own, run as if it lay in a directory, without leaving a file there.

The code becomes a real file in the job's folder, so that tracebacks show its lines and
`multiprocessing` finds `__main__` again by its `__file__`; a launcher puts the directory where a
script's own directory stands, `sys.path[0]`.
"""

from __future__ import annotations

import codecs
import os
import re
from pathlib import Path
from typing import Final

from python_mcp_server.regular import open_own

SCRIPT_NAME: Final = "script.py"
_ENCODING: Final = re.compile(
    r"((?:[ \t\f]*(?:#[^\n]*)?\r?\n)??[ \t\f]*#[^\n]*?coding[:=][ \t]*)([-\w.]+)", re.ASCII
)
"""https://docs.python.org/3/reference/lexical_analysis.html#encoding-declarations"""

LAUNCHER: Final = """\
def _launch():
    import sys
    main = sys.modules["__main__"]
    path, home = sys.argv[1:3]
    sys.argv[:3] = [path]
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = home
    def show(kind, error, trace):
        while trace is not None and trace.tb_frame.f_code.co_filename == "<string>":
            trace = trace.tb_next
        sys.__excepthook__(kind, error.with_traceback(trace), trace)
    sys.excepthook = show
    del main._launch
    main.__file__ = path
    main.__cached__ = None
    main.__loader__ = sys.modules["_frozen_importlib_external"].SourceFileLoader("__main__", path)
    with open(path, "rb") as file:
        return compile(file.read(), path, "exec", dont_inherit=True)
exec(_launch())
"""
"""Runs in any Python 3, in the `__main__` of the script, and leaves no name of its own there. The
hook hides the launcher's own frame from tracebacks."""


def write_script(folder: Path, source: str) -> Path:
    """Write the code into a job's folder and return the file."""
    path = folder / SCRIPT_NAME
    descriptor = open_own(str(path), os.O_WRONLY | os.O_CREAT)
    with open(descriptor, "w", encoding="utf-8", errors="surrogatepass", newline="") as file:
        file.truncate(0)
        file.write(as_utf8(source))
    return path


def short_names(stderr: str, folder: Path) -> str:
    """Return what a script wrote to stderr, with the file in a job's folder called `script.py`.

    The name is changed only where Python itself writes it, in tracebacks and warnings: elsewhere the path may
    be meant.
    """
    path = str(folder / SCRIPT_NAME)
    if path not in stderr:
        return stderr
    text = stderr.replace(f'File "{path}"', f'File "{SCRIPT_NAME}"')
    return re.sub(rf"^{re.escape(path)}(?=:\d+: )", SCRIPT_NAME, text, flags=re.MULTILINE)


def launcher_arguments(script: Path, home: Path) -> tuple[str, ...]:
    """Return the arguments of the interpreter that run `script` as if it lay in `home`."""
    return ("-c", LAUNCHER, str(script), str(home))


def as_utf8(source: str) -> str:
    """Return code for a file in UTF-8: it has no byte order mark, and names no other encoding."""
    text = source.removeprefix("\ufeff")
    found = None if text.isascii() else _ENCODING.match(text)
    if found is None or not _is_other_encoding(found[2]):
        return text
    return f"{found[1]}utf-8{text[found.end() :]}"


def _is_other_encoding(name: str) -> bool:
    try:
        return codecs.lookup(name).name != "utf-8"
    except LookupError:
        return False  # Python itself will report what is wrong with it
