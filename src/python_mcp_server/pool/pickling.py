"""Pickling beyond plain pickle: cloudpickle behind types, loaded only where needed, and files that let other
threads run. Only the pool uses this module.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# (cloudpickle has no types)

from __future__ import annotations

import copyreg
import io
import pickle
import sys
from collections.abc import Callable, Collection, Iterable
from contextlib import ExitStack
from functools import cache
from types import CodeType, ModuleType
from typing import Any, Final, cast

from python_mcp_server.errors import InvalidInput
from python_mcp_server.pool.main_module import GO_BY_NAME, MAIN, MainFile, MainModule

_NO_FILE: Final = "<dynamic-code>"
"""The text that cloudpickle puts in place of a file name."""

_Look = Callable[[Any], bool]


class YieldingBytesIO(io.BytesIO):
    """A file for large pickles in a thread. pickle holds the interpreter from the first byte to the last,
    except during the calls of these methods, one for every 64 KiB.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as `io.BytesIO` does, in Python code that lets other threads run."""
        return super().read(size)

    def write(self, data: Any, /) -> int:
        """Write as `io.BytesIO` does, in Python code that lets other threads run."""
        return super().write(data)


def dumps_by_value(value: object, *modules: ModuleType, look: _Look | None = None) -> bytes:
    """Pickle objects that plain pickle refuses: functions and classes of `__main__`, closures, lambdas.

    Args:
        value: What to pickle.
        modules: Modules whose functions and classes are sent by value too, although they are loaded here:
            cloudpickle would send them by a name that only this process knows.
        look: Called with each object that is not plain data, also code; returns whether it is sent by its
            name.

    Raises:
        Exception: The value cannot be pickled; its own code may raise anything.
    """
    import cloudpickle

    file = io.BytesIO()
    with ExitStack() as stack:
        for module in modules:
            cloudpickle.register_pickle_by_value(module)
            stack.callback(cloudpickle.unregister_pickle_by_value, module)
        _pickler()(file, look).dump(value)
    return file.getvalue()


@cache
def _pickler() -> Any:
    import cloudpickle

    base: Any = cloudpickle.Pickler

    class ByValue(base):
        """Keeps the names of files, so that a traceback can show the lines of a body."""

        def __init__(self, file: io.BytesIO, look: _Look | None) -> None:
            reducers = base.dispatch_table
            self.dispatch_table = reducers.new_child({CodeType: self._reduce_code})
            self._look, self._taken_apart = look, reducers[CodeType]
            super().__init__(file)

        def _reduce_code(self, code: CodeType) -> Any:
            make, parts = self._taken_apart(code)
            return make, tuple(code.co_filename if type(p) is str and p == _NO_FILE else p for p in parts)

        def reducer_override(self, obj: Any) -> Any:
            """Do as cloudpickle does, except for objects that are sent by their names."""
            if self._look is not None and self._look(obj):
                return NotImplemented
            if _has_lost_its_slots(obj):
                return copyreg.__newobj__, (type(obj),), (None, vars(obj))  # pyright: ignore[reportAttributeAccessIssue]
            return base.reducer_override(self, obj)

    return ByValue


def _has_lost_its_slots(obj: Any) -> bool:
    """Whether an object's class is a copy, made by cloudpickle, of a class with slots: instances of the copy
    have a dictionary, and instances of the original class have none.
    """
    kind = cast("type[object]", type(obj))
    slots = cast("str | Iterable[str] | None", vars(kind).get("__slots__"))
    if slots is None or not hasattr(obj, "__dict__"):
        return False
    names = [slots] if isinstance(slots, str) else list(slots)
    own = ("__reduce_ex__", "__reduce__", "__getstate__")
    return not any(name in vars(kind) for name in names) and not any(
        getattr(kind, name) is not getattr(object, name) for name in own
    )


# ---- the arguments of a call

HEAVY_BYTES: Final = 1 << 18
"""The size from which pickling blocks a loop for too long; measured: below it, a millisecond at the worst."""

_NODE_BYTES: Final = 64
"""The least size that a value counts, so that looking at many small values is bounded too."""

_ATOMS: Final = frozenset({int, float, bool, complex, type(None)})
_TEXTS: Final = frozenset({str, bytes, bytearray})
_CONTAINERS: Final = frozenset({list, tuple, set, frozenset})


def exceed_inline_size(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether these arguments are too large to be pickled on the loop. The check looks at no more of them
    than it needs. An object that hides its contents counts by the size that it states.
    """
    if not args and not kwargs:
        return False
    room_bytes = HEAVY_BYTES
    queue: list[Any] = [*args, *kwargs.values()]
    for value in queue:
        inside, size = _contents(value)
        room_bytes -= _NODE_BYTES + size + _NODE_BYTES * len(inside)
        if room_bytes < 0:
            return True
        queue += inside
    return False


def _contents(value: Any) -> tuple[Collection[Any], int]:
    """Return the contents of a value, and the size of the rest."""
    kind = cast("type[object]", type(value))
    if kind in _ATOMS:
        return (), 0
    if kind in _TEXTS:
        return (), len(value)
    if kind in _CONTAINERS:
        return value, 0
    if kind is dict:
        return value.values(), _NODE_BYTES * len(value)
    return _contents_of_object(value)


def _contents_of_object(value: Any) -> tuple[Collection[Any], int]:
    inside: Any = getattr(value, "__dict__", None)
    size: Any = getattr(value, "nbytes", 0)
    values = cast("Collection[Any]", inside.values()) if type(inside) is dict else ()
    return values, size if type(size) is int else 0


class _Pickler(pickle.Pickler):
    """Notes the modules that a worker will import; plain data costs nothing more."""

    main_names: frozenset[str] = frozenset()

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self.modules: set[Any] = set()

    def reducer_override(self, obj: Any, /) -> Any:
        if issubclass(type(obj), GO_BY_NAME):
            self.modules.add(obj.__module__)
            if obj.__module__ == MAIN:
                self.main_names |= {obj.__qualname__.partition(".")[0]}
        return NotImplemented


def dump_arguments(
    fields: tuple[Any, ...],
    main: MainModule | None = None,
    on_main: Callable[[MainFile | str], object] = bool,
    *,
    in_thread: bool = False,
) -> bytes:
    """Pickle a call, by value where necessary.

    Args:
        fields: Its facts.
        main: The main module of this program, where workers may have it too.
        on_main: Called where the worker must load the main module first, or must not load it, with the
            reason.
        in_thread: Whether to let other threads run meanwhile.

    Raises:
        InvalidInput: An argument cannot be sent to another process.
    """
    file = YieldingBytesIO() if in_thread else io.BytesIO()
    pickler = _Pickler(file)
    try:
        pickler.dump(fields)
        if not pickler.modules:
            return file.getvalue()
        unknown = _unknown_to_workers(pickler.modules)
        if pickler.main_names and main is not None and _finds_main(pickler.main_names, main, on_main):
            unknown = [module for module in unknown if module.__name__ != MAIN]
        if not unknown:
            return file.getvalue()
    except (Exception, SystemExit):  # noqa: BLE001  an argument may refuse in any way; cloudpickle takes more
        unknown = _unknown_to_workers(pickler.modules)
    try:
        return dumps_by_value(fields, *(module for module in unknown if module.__name__ != MAIN))
    except (Exception, SystemExit) as error:
        raise InvalidInput(
            f"an argument of {fields[1]} cannot be sent to a worker: {error}; pass plain data"
        ) from error


def _finds_main(names: frozenset[str], main: MainModule, on_main: Callable[[MainFile | str], object]) -> bool:
    """Whether the worker finds these names in its copy of the main module."""
    file = main.file
    found = isinstance(file, MainFile) and main.has(names)
    if found or isinstance(file, str):
        on_main(file)
    return found


def _unknown_to_workers(names: set[Any]) -> list[ModuleType]:
    """Return the modules that a worker would not find, or would find in another file."""
    modules = {name: sys.modules.get(name) for name in names}
    return [module for name, module in modules.items() if module is not None and not _known(name, module)]


def _known(name: str, module: ModuleType) -> bool:
    file: str | None = getattr(module, "__file__", None)
    return name != MAIN and (file is None or _found(name, file))


def forget_modules() -> None:
    """Forget which modules a worker finds, because `sys.path` has changed."""
    _found.cache_clear()


@cache
def _found(name: str, _file: str) -> bool:
    """Return the file of a module, looked up once: a search takes longer than a small call."""
    return worker_finds(name, sys.modules[name])


def worker_finds(module_name: str, module: ModuleType) -> bool:
    """Whether importing this name elsewhere loads this file: a server that is started by the path of its file
    has modules that no other process can import.
    """
    if module_name == "__main__":
        return False
    own_file: str | None = getattr(module, "__file__", None)
    if own_file is None:
        return False
    parent = sys.modules.get(module_name.rpartition(".")[0])
    search_path = getattr(parent, "__path__", None)
    for finder in sys.meta_path:
        found = finder.find_spec(module_name, search_path)
        if found is not None:
            return found.origin == own_file
    return False
