# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false, reportAssignmentType=false
# pyright: reportArgumentType=false
"""A backend of matplotlib without a screen: figures that a script shows or leaves open become files.

matplotlib itself loads this module, in the interpreter of the script, so it imports nothing of ours and uses
nothing newer than Python 3.7. `plt.show()` saves the figures and closes them, as a person would; where it
would not wait for a person, they stay open. Figures that are open when the script ends are saved then.

https://matplotlib.org/stable/users/explain/figure/writing_a_backend_pyplot_interface.html
"""

import atexit
import os
import sys
from typing import Any, Optional

from matplotlib import is_interactive
from matplotlib._pylab_helpers import Gcf
from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_FOLDER = os.environ.get("PYTHON_MCP_FIGURES")
_WORKING_DIRECTORY = os.environ.get("PYTHON_MCP_FIGURES_FROM", "")
_PID = os.getpid()
_MOST = 100  # pictures of one run
_LARGE_BYTES = 300_000  # a picture beyond it gets a smaller copy, to be sent in its place
_DEEPEST = 3  # parts of a path below the working directory that are found there by themselves
_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp")


class FigureManager(FigureManagerBase):
    """The manager of a figure without a window."""

    def show(self) -> None:
        """Do nothing: figures that are open at the end are saved then."""


class FigureCanvas(FigureCanvasAgg):
    """Draws as Agg does, and notes whether the script saved the figure itself."""

    manager_class = FigureManager

    def print_figure(self, filename: Any, *args: Any, **kwargs: Any) -> Any:
        """Save the figure."""
        made = super().print_figure(filename, *args, **kwargs)
        if isinstance(filename, (str, os.PathLike)) and _is_found(os.fspath(filename)):
            self.figure._python_mcp_saved = True  # noqa: SLF001  a name of our own
        return made


def new_figure_manager(num: int, *args: Any, **kwargs: Any) -> FigureManager:
    """Return the manager of a new figure."""
    make = kwargs.pop("FigureClass", Figure)
    return new_figure_manager_given_figure(num, make(*args, **kwargs))


def new_figure_manager_given_figure(num: int, figure: Any) -> FigureManager:
    """Return a manager of this figure."""
    return FigureManager(FigureCanvas(figure), num)


def show(*_args: Any, **kwargs: Any) -> None:
    """Save all open figures and close them; where `show` would not wait for them to be closed, do nothing."""
    block = kwargs.get("block")
    if block is None:
        block = not is_interactive()
    if block:
        for manager in Gcf.get_all_fig_managers():
            _save(manager.canvas.figure)
            Gcf.destroy(manager.num)


def _save_open() -> None:
    """Save the figures that are open at the end, but those that the script saved where they are found."""
    if os.getpid() == _PID:  # a forked process has inherited the figures, but not their end
        for manager in Gcf.get_all_fig_managers():
            if not getattr(manager.canvas.figure, "_python_mcp_saved", False):
                _save(manager.canvas.figure)


def _save(figure: Any) -> None:
    path = _new_path()
    if path is None:
        return
    figure.savefig(path, format="png")
    size = os.path.getsize(path)
    if size > _LARGE_BYTES:
        small = path[: -len(".png")] + "-small.png"
        _create(small)
        figure.savefig(small, format="png", dpi=max(20.0, 0.9 * figure.dpi * (_LARGE_BYTES / size) ** 0.5))


def _new_path() -> Optional[str]:  # noqa: UP045  as old as it can be
    """Return a new file, also beside other processes of the script; None where the limit is reached."""
    if not _FOLDER:
        return None
    os.makedirs(_FOLDER, mode=0o700, exist_ok=True)
    for number in range(1, _MOST + 1):
        path = os.path.join(_FOLDER, "figure-%d.png" % number)  # noqa: UP031
        try:
            _create(path)
        except FileExistsError:
            continue
        return path
    sys.stderr.write("More than %d figures: this one is not kept.\n" % _MOST)  # noqa: UP031
    return None


def _create(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _is_found(filename: Any) -> bool:
    """Whether a file lies where pictures that the script saves are looked for."""
    below = os.path.relpath(os.path.abspath(os.fsdecode(filename)), _WORKING_DIRECTORY or os.curdir)
    parts = below.split(os.sep)
    return parts[0] != os.pardir and len(parts) <= _DEEPEST and below.lower().endswith(_SUFFIXES)


atexit.register(_save_open)
