"""A matplotlib that draws nothing, for tests of our backend: the names that it uses, no more."""

from __future__ import annotations

from pathlib import Path
from typing import Final

PNG: Final = b"\x89PNG\r\n\x1a\n"
PNG_END: Final = b"IEND\xaeB`\x82"

_FILES: Final = {
    "__init__.py": "interactive = False\ndef is_interactive():\n    return interactive\n",
    "_pylab_helpers.py": """
class Gcf:
    figs = {}
    @classmethod
    def get_all_fig_managers(cls):
        return list(cls.figs.values())
    @classmethod
    def destroy(cls, num):
        del cls.figs[num]
""",
    "backend_bases.py": """
class FigureManagerBase:
    def __init__(self, canvas, num):
        self.canvas, self.num = canvas, num
        canvas.manager = self
    def show(self):
        raise RuntimeError("no window")
""",
    "backends/__init__.py": "",
    "backends/backend_agg.py": """
class FigureCanvasAgg:
    def __init__(self, figure):
        self.figure = figure
        figure.canvas = self
    def print_figure(self, filename, dpi=100, **kwargs):
        with open(filename, "wb") as file:
            file.write(b"\\x89PNG\\r\\n\\x1a\\n" + self.figure.content * int(dpi) + b"IEND\\xaeB`\\x82")
""",
    "figure.py": """
class Figure:
    dpi = 100
    def __init__(self, content=b"."):
        self.content = content
    def savefig(self, filename, **kwargs):
        self.canvas.print_figure(filename, **kwargs)
    def show(self):
        self.canvas.manager.show()
""",
    "pyplot.py": """
import importlib, itertools, os
from matplotlib._pylab_helpers import Gcf
_backend = importlib.import_module(os.environ["MPLBACKEND"].removeprefix("module://"))
_numbers = itertools.count(1)
def figure(content=b"."):
    num = next(_numbers)
    Gcf.figs[num] = _backend.new_figure_manager(num, content)
    return Gcf.figs[num].canvas.figure
def show(**kwargs):
    _backend.show(**kwargs)
""",
}


def write_fake_matplotlib(folder: Path) -> None:
    """Put it where a script in this folder imports it from."""
    for name, text in _FILES.items():
        path = folder / "matplotlib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
