"""The main module of a program, which its workers load too where a body needs it.

A worker runs the main file once, as `__mp_main__`, as `multiprocessing` does with the start method
"spawn": the block under `if __name__ == "__main__":` stays with the program. A main module without a file
or without such a block is never run a second time, because it would repeat the work of the program, such as
to start a server.

The server's side is `MainModule`, the worker's is `load_main`.
"""

from __future__ import annotations

import ast
import contextlib
import dis
import importlib.util
import io
import logging
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final, NewType, cast

from python_mcp_server.context import LOADED_AT
from python_mcp_server.pool.start import refused_processes

MAIN: Final = "__main__"
COPY: Final = "__mp_main__"
"""The name that `multiprocessing` gives to the main module of a child, in the child and in the program."""

_GUARD: Final = f'if __name__ == "{MAIN}":'
_DEATHS: Final = 3
"""How many workers in a row may end while they load the main module, until no other tries; guessed."""

_log: Final = logging.getLogger(__name__)
GO_BY_NAME: Final = (type, FunctionType, type(cache(int)), NewType)
"""The opcodes of pickle for a name in a module."""

_METHODS: Final = (staticmethod, classmethod)
_OWN_NAMES: Final = frozenset({*vars(ModuleType("")), "__file__", "__builtins__"})
"""The names that every module has, the copy of a worker included."""

_INERT: Final = (
    *(ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assert, ast.Pass),
    *(ast.Assign, ast.AnnAssign, ast.AugAssign, ast.If, ast.Try, ast.Expr, ast.Delete, ast.Raise),
)
"""Statements at the top of a file that only set names of the module; `_sets_up` looks into some."""


@dataclass(frozen=True, slots=True)
class MainFile:
    """The facts with which a worker loads the main module.

    Attributes:
        path: The file.
        module: Its name where the program was started with `python -m`, else None.
        package: The package that its relative imports refer to.
        changed_ns: When the file was changed last.
    """

    path: str
    module: str | None
    package: str | None
    changed_ns: int


class MainModule:
    """The main module of this program.

    Attributes:
        trouble: Why a worker could not load the module, once a worker has failed to.
    """

    def __init__(self) -> None:
        self.trouble: str | None = None
        self._deaths = 0
        self._module: ModuleType | None = None
        self._survey: _Survey | str = ""

    @property
    def module(self) -> ModuleType | None:
        """Return the module itself."""
        return sys.modules.get(MAIN)

    @property
    def file(self) -> MainFile | str:
        """Return the file that a worker loads, or the reason for not loading it."""
        if self.trouble is not None:
            return self.trouble
        if self._module is not self.module:
            self._module = self.module
            self._survey = _look_at(self._module)
        if isinstance(self._survey, str):
            return self._survey
        return self._survey.file if self._survey.runs_guarded(vars(self._module)) else self._survey.unguarded

    def on_loaded(self, trouble: str, *, died: bool) -> None:
        """Note that a worker has tried to load the module.

        Args:
            trouble: Why the worker could not load the module; empty if it loaded the module.
            died: Whether the worker died meanwhile, which may have had another cause.
        """
        self._deaths = self._deaths + 1 if died else 0
        if self._deaths >= _DEATHS:
            trouble = f"{self._deaths} processes in a row ended while they loaded it"
        if trouble and self.trouble is None:
            self.trouble = trouble
            _log.warning("workers have no copy of the main program, because %s", trouble)

    def has(self, names: Iterable[str]) -> bool:
        """Whether a worker's copy has these names too, with the same meaning."""
        return not isinstance(self._survey, str) and all(map(self._survey.has, names))

    @property
    def sets_up(self) -> bool:
        """Whether the top of the file does more than set names, such as set up logging."""
        return not isinstance(self._survey, str) and self._survey.sets_up


@dataclass(frozen=True, slots=True)
class _Survey:
    file: MainFile
    names: frozenset[str]
    changing: frozenset[str]
    has_star: bool
    guarded: tuple[range, ...]
    sets_up: bool

    def has(self, name: str) -> bool:
        known = self.has_star or name in self.names or name in _OWN_NAMES
        return known and name not in self.changing

    @property
    def unguarded(self) -> str:
        return f"{self.file.path} makes calls outside of its `{_GUARD}` block"

    def runs_guarded(self, namespace: dict[str, Any]) -> bool:
        """Whether the code of the file that runs now, if any, is under the guard."""
        line = _running_line(namespace)
        return line is None or any(line in lines for lines in self.guarded)


def _running_line(namespace: dict[str, Any]) -> int | None:
    frames = sys._current_frames()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  it is documented
    frame = frames.get(threading.main_thread().ident or 0)
    while frame is not None:
        if frame.f_globals is namespace and frame.f_code.co_name == "<module>":
            return frame.f_lineno
        frame = frame.f_back
    return None


def _look_at(module: ModuleType | None) -> _Survey | str:
    path = getattr(module, "__file__", None)
    if module is None or not isinstance(path, str) or sys.modules.get(COPY) is not module:
        return "the program has no main file"
    path = os.path.abspath(path)
    if not os.path.isfile(path):
        return "the program has no main file"
    try:
        changed_ns = os.stat(path).st_mtime_ns
        with io.open_code(path) as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError) as error:
        return f"{path} cannot be read as Python: {error}"
    if changed_ns > LOADED_AT * 1e9:
        return f"{path} was changed after the program started"
    guards = [each for each in tree.body if isinstance(each, ast.If) and _tells_main(each.test)]
    if not guards:
        return f"{path} has no `{_GUARD}` block"
    spec: Any = getattr(module, "__spec__", None)
    name = None if spec is None or spec.name == MAIN else str(spec.name)
    return _surveyed(tree, MainFile(path, name, getattr(module, "__package__", None), changed_ns), guards)


def _surveyed(tree: ast.Module, file: MainFile, guards: list[ast.If]) -> _Survey:
    top: list[ast.stmt] = []
    for statement in tree.body:
        top += statement.orelse if statement in guards and isinstance(statement, ast.If) else [statement]
    inside = [statement for guard in guards for statement in guard.body]
    changing = set(_bound(inside))
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            changing.update(node.names)
    names = frozenset(_bound(top))
    return _Survey(
        file,
        names,
        frozenset(changing),
        "*" in names,
        tuple(range(guard.body[0].lineno, (guard.body[-1].end_lineno or 0) + 1) for guard in guards),
        any(map(_sets_up, top)),
    )


def _tells_main(test: ast.expr) -> bool:
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return any(map(_tells_main, test.values))
    if not (isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq)):
        return False
    return sorted(map(ast.unparse, (test.left, *test.comparators))) == [repr(MAIN), "__name__"]


def _bound(statements: Iterable[ast.AST]) -> Iterator[str]:
    """Yield the names that these statements of a module set."""
    for node in statements:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
            continue
        if isinstance(node, ast.alias):
            yield node.asname or node.name.partition(".")[0]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
            yield node.name
        yield from _bound(ast.iter_child_nodes(node))


def _sets_up(statement: ast.AST) -> bool:
    if not isinstance(statement, _INERT):
        return True
    if isinstance(statement, ast.Expr):
        return not isinstance(statement.value, ast.Constant)
    if isinstance(statement, (ast.If, ast.Try)):
        inside: list[ast.stmt] = [*statement.body, *statement.orelse, *getattr(statement, "finalbody", [])]
        return any(map(_sets_up, inside))
    targets: list[ast.expr] = getattr(statement, "targets", None) or [getattr(statement, "target", None)]  # type: ignore[list-item]
    return any(isinstance(target, (ast.Attribute, ast.Subscript)) for target in targets)


def names_read(function: FunctionType) -> set[str]:
    """Return the names of its module that a function refers to."""
    return set(_globals_of(function.__code__))


def _globals_of(code: CodeType) -> Iterator[str]:
    for step in dis.get_instructions(code):
        if step.opname.endswith("_GLOBAL"):
            yield step.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _globals_of(constant)


# ---- the worker's side


def stand_in_for_main() -> None:
    """Let `__main__` be an empty module instead of the start of a loky worker."""
    sys.modules[MAIN] = sys.modules[COPY] = ModuleType(MAIN)


def load_main(main: MainFile) -> None:
    """Run the main file as `__mp_main__`, which is `__main__` too from now on. A start of a process by the
    file is refused, as by `multiprocessing`: that process would load the main file again, and so on.

    Raises:
        BaseException: The exception of the file; `ImportError` where the file has changed.
    """
    if os.stat(main.path).st_mtime_ns != main.changed_ns:
        raise ImportError("it was changed after the program started")
    with io.open_code(main.path) as file:
        code = compile(file.read(), main.path, "exec", dont_inherit=True)
    module = ModuleType(COPY)
    module.__file__, module.__package__ = main.path, main.package
    module.__spec__ = importlib.util.find_spec(main.module) if main.module else None
    sys.modules[MAIN] = sys.modules[COPY] = module
    path = list(sys.path)  # the server's, to which the file's changes are made already
    try:
        with refused_processes():
            exec(code, vars(module))  # noqa: S102  the user's own program
    finally:
        sys.path[:] = path
    _call_main(module.__dict__)
    module.__name__ = MAIN


def _call_main(namespace: Mapping[str, Any]) -> None:
    """Make the definitions of the copy belong to `__main__`, as in the program. cloudpickle, and so loky and
    joblib, sends these by value; their processes would not find names of `__mp_main__`.
    """
    for each in list(namespace.values()):
        thing: Any = each.__func__ if type(each) in _METHODS else each
        with contextlib.suppress(Exception):  # the code of a metaclass
            if issubclass(type(thing), GO_BY_NAME) and thing.__module__ == COPY:
                thing.__module__ = MAIN
                _call_main(cast("dict[str, Any]", vars(thing)))


def is_of_main(thing: Any) -> bool:
    """Whether the main module has this object under its name, so that another program finds it there."""
    if not issubclass(type(thing), GO_BY_NAME) or thing.__module__ != MAIN:
        return False
    found: Any = sys.modules[MAIN]
    for part in str(thing.__qualname__).split("."):
        found = getattr(found, part, None)
    return found is thing
