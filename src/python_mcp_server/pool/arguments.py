"""The arguments of a call as bytes that its worker can read."""

from __future__ import annotations

import io
import pickle
import sys
from functools import cache
from types import FunctionType, ModuleType
from typing import Any

from python_mcp_server.errors import InvalidInput
from python_mcp_server.pool.bodies import worker_finds
from python_mcp_server.pool.pickling import dumps_by_value


class _Pickler(pickle.Pickler):
    """Takes note of the modules that a worker will import; plain data costs it nothing more."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self.modules: set[Any] = set()

    def reducer_override(self, obj: Any, /) -> Any:
        if issubclass(type(obj), (type, FunctionType)):
            self.modules.add(obj.__module__)
        return NotImplemented


def dump_arguments(fields: tuple[Any, ...]) -> bytes:
    """Pickle a call; by value where it has to be.

    Raises:
        InvalidInput: An argument cannot be sent to another process.
    """
    file = io.BytesIO()
    pickler = _Pickler(file)
    try:
        pickler.dump(fields)
        unknown = _unknown_to_workers(pickler.modules)
        if not unknown:
            return file.getvalue()
    except Exception:  # noqa: BLE001  an argument may refuse in any way; cloudpickle takes more kinds
        unknown = _unknown_to_workers(pickler.modules)
    try:
        return dumps_by_value(fields, *(module for module in unknown if module.__name__ != "__main__"))
    except Exception as error:
        raise InvalidInput(
            f"an argument of {fields[1]} cannot be sent to a worker: {error}; pass plain data"
        ) from error


def _unknown_to_workers(names: set[Any]) -> list[ModuleType]:
    """Those that a worker would not find, or would take another file for."""
    modules = {name: sys.modules.get(name) for name in names}
    return [module for name, module in modules.items() if module is not None and not _known(name, module)]


def _known(name: str, module: ModuleType) -> bool:
    file: str | None = getattr(module, "__file__", None)
    return name != "__main__" and (file is None or _found(name, file))


@cache
def _found(name: str, _file: str) -> bool:
    """Looked up once: a search takes longer than the rest of a small call."""
    return worker_finds(name, sys.modules[name])
