"""The references of bodies: the server names a body, the worker finds it.

A body is sent by name, `"module:qualname"`, where the worker finds the same file under that name and the name
refers to this body; otherwise by value, cloudpickled, under the digest of its bytes. The server uses `refer`,
the worker `Bodies`.

A body of the main file is sent by value as long as a copy works: where it refers to modules and plain data
only, and the top of the file sets nothing up. Otherwise the worker loads the main file, and the body is sent
by name.
"""

from __future__ import annotations

import hashlib
import importlib
import linecache
import os
import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

from python_mcp_server.context import BODY_ATTRIBUTE
from python_mcp_server.errors import InvalidInput
from python_mcp_server.pool.main_module import MAIN, MainFile, MainModule, names_read
from python_mcp_server.pool.pickling import dumps_by_value, worker_finds

_DIGEST: Final = "digest:"


@dataclass(frozen=True, slots=True)
class BodyReference:
    """The reference of a body: a name, or a digest with the code that has this digest.

    Attributes:
        name: The name.
        code: The code of a body that is sent by value.
        main: The part of the main module that the worker loads first, or why it must not; None where that
            does not matter.
    """

    name: str
    code: bytes | None = None
    main: MainFile | str | None = None


def refer(body: Callable[..., Any], main: MainModule | None = None) -> BodyReference:
    """Return the reference that this body is sent by.

    Args:
        body: The body.
        main: The main module of this program, where workers may have it too.

    Raises:
        InvalidInput: The body has no importable name and cannot be sent by value.
    """
    if name := importable_name(body):
        return BodyReference(name)
    look, code, trouble = _Look(body), b"", None
    try:
        code = _by_value(body, look)
    except (Exception, SystemExit) as error:  # noqa: BLE001  what it refers to may refuse in any way
        trouble = error
    told = None if main is None else _told(main, look, failed=trouble is not None)
    if main is not None and isinstance(told, MainFile) and main.has(look.names):
        if name := _name_in_main(body):
            return BodyReference(name, main=told)
        if look.needs_main:
            code = _by_value(body, _Look(body, main_by_name=True))
    if trouble is not None:
        why = f"; workers have no copy of the main program, because {told}" if isinstance(told, str) else ""
        name = _culprit(body)
        used = "what it refers to" if name is None else f"its variable {name!r}"
        raise InvalidInput(
            f"{_title(body)} cannot be sent to a worker: {trouble}{why}; "
            f"define it in a module that can be imported, or make {used} in its body"
        ) from trouble
    return BodyReference(_DIGEST + hashlib.sha256(code).hexdigest(), code, told)


def _told(main: MainModule, look: _Look, *, failed: bool) -> MainFile | str | None:
    file = main.file
    if isinstance(file, str):
        return file if look.is_of_main or look.needs_main else None
    needed = look.needs_main or (look.is_of_main and (failed or main.sets_up))
    return file if needed else None


class _Look:
    """Collects the objects that a body refers to while it is pickled by value.

    Attributes:
        is_of_main: Whether the body is of the main module.
        needs_main: Whether the body refers to a function, a class or another named object of the main module.
        names: The names of the main module that the body refers to, directly or indirectly.
        files: The files that its code comes from.
    """

    def __init__(self, body: Callable[..., Any], *, main_by_name: bool = False) -> None:
        self.is_of_main = (getattr(body, "__module__", None) or MAIN) == MAIN
        self.needs_main = False
        self.names: set[str] = set()
        self.files: set[str] = set()
        self._body = body
        self._main: Any = sys.modules.get(MAIN)
        self._by_name = main_by_name

    def __call__(self, obj: Any) -> bool:
        """Note an object; return whether it is sent by its name."""
        if isinstance(obj, CodeType):
            self.files.add(obj.co_filename)
            return False
        if isinstance(obj, FunctionType) and obj.__globals__ is vars(self._main):
            self.names.update(names_read(obj) & obj.__globals__.keys())
        qualname: Any = getattr(obj, "__qualname__", None)
        named = isinstance(qualname, str) and "<" not in qualname
        if obj is self._body or not named or getattr(obj, "__module__", None) != MAIN:
            return False
        self.needs_main = True
        self.names.add(qualname.partition(".")[0])
        return self._by_name and _lookup(self._main, qualname, bare=True) is obj


def _by_value(body: Callable[..., Any], look: _Look) -> bytes:
    module = sys.modules.get(getattr(body, "__module__", None) or MAIN)
    if module is None or module.__name__ == MAIN or worker_finds(module.__name__, module):
        code = dumps_by_value(body, look=look)
    else:
        code = dumps_by_value(body, module, look=look)
    return pickle.dumps((code, _lines_of(look.files)))


def _culprit(body: Callable[..., Any]) -> str | None:
    """Return the name of a variable of a body that cannot be pickled; None where it is not one of its own."""
    if not isinstance(body, FunctionType):
        return None
    used = {name: body.__globals__[name] for name in names_read(body) & body.__globals__.keys()}
    for name, cell in zip(body.__code__.co_freevars, body.__closure__ or (), strict=True):
        with suppress(ValueError):  # it is not set yet
            used[name] = cell.cell_contents
    return next((name for name, value in used.items() if not _travels(value)), None)


def _travels(value: object) -> bool:
    try:
        dumps_by_value(value)
    except (Exception, SystemExit):  # noqa: BLE001  its own code may refuse in any way
        return False
    return True


def _lines_of(files: set[str]) -> dict[str, list[str]]:
    """Return the lines of files that a worker cannot read, such as the cells of a notebook."""
    return {
        file: lines
        for file in sorted(files)
        if not os.path.exists(file) and (lines := linecache.getlines(file))
    }


def _name_in_main(body: Callable[..., Any]) -> str | None:
    qualname: str = getattr(body, "__qualname__", "<locals>")
    module: str = getattr(body, "__module__", None) or ""
    if module != MAIN or "<" in qualname or _lookup(sys.modules[MAIN], qualname) is not body:
        return None
    return f"{MAIN}:{qualname}"


def _title(body: Callable[..., Any]) -> str:
    return f"{getattr(body, '__module__', '?')}.{getattr(body, '__qualname__', repr(body))}"


def importable_name(body: Callable[..., Any]) -> str | None:
    """Return the name, `"module:qualname"`, by which a worker finds this function or class, or None."""
    module_name: str = getattr(body, "__module__", None) or "__main__"
    qualname: str = getattr(body, "__qualname__", "<locals>")
    module = sys.modules.get(module_name)
    if module is None or "<" in qualname or not worker_finds(module_name, module):
        return None
    return f"{module_name}:{qualname}" if _lookup(module, qualname) is body else None


def _lookup(module: ModuleType, qualname: str, *, bare: bool = False) -> Any:
    found: Any = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found if bare else getattr(found, BODY_ATTRIBUTE, found)


class Bodies:
    """Cache of the bodies that a worker has resolved."""

    def __init__(self, on_found: Callable[[], object] = bool) -> None:
        """Begin without bodies; `on_found` is called after each body that was not known."""
        self._on_found = on_found
        self._known: dict[str, Callable[..., Any]] = {}

    def find(self, name: str, code: bytes | None) -> Callable[..., Any]:
        """Return the undecorated body with this name.

        Raises:
            ImportError, AttributeError: The name is not found here.
        """
        body = self._known.get(name)
        if body is None:
            body = self._known[name] = self._load(name, code)
            self._on_found()
        return body

    def _load(self, name: str, code: bytes | None) -> Callable[..., Any]:
        if name.startswith(_DIGEST):
            if code is None:
                raise ImportError(f"body {name} was never sent to this worker")
            body, lines = pickle.loads(code)
            for file, text in lines.items():
                linecache.cache[file] = (sum(map(len, text)), None, text, file)
            return pickle.loads(body)
        module_name, _, qualname = name.partition(":")
        found = _lookup(importlib.import_module(module_name), qualname)
        if not callable(found):
            raise AttributeError(f"{name} leads to {found!r}, which cannot be called")
        return found
