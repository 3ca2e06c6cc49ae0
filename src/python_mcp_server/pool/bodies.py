"""How a body is named on one side and found on the other.

By name, `"module:qualname"`, where the worker can find that very file under that name and the name
leads back to this body; otherwise by value, cloudpickled, under the digest of its bytes. Used by the
front (`refer`) and by the worker (`Bodies`).
"""

from __future__ import annotations

import hashlib
import importlib
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

from python_mcp_server.context import BODY_ATTRIBUTE
from python_mcp_server.errors import InvalidInput
from python_mcp_server.pool.pickling import dumps_by_value

_DIGEST: Final = "digest:"


@dataclass(frozen=True, slots=True)
class BodyReference:
    """A body as it travels: a name, or a digest with the code that has it."""

    name: str
    code: bytes | None = None


def refer(body: Callable[..., Any]) -> BodyReference:
    """Return how this body travels.

    Raises:
        InvalidInput: It has no importable name and cannot be sent by value.
    """
    if name := _importable_name(body):
        return BodyReference(name)
    try:
        code = _by_value(body)
    except Exception as error:
        raise InvalidInput(
            f"{_title(body)} cannot be sent to a worker: {error}; "
            "define it in a module that can be imported, or keep what it refers to out of it"
        ) from error
    return BodyReference(_DIGEST + hashlib.sha256(code).hexdigest(), code)


def _by_value(body: Callable[..., Any]) -> bytes:
    module = sys.modules.get(getattr(body, "__module__", None) or "__main__")
    if module is None or module.__name__ == "__main__" or worker_finds(module.__name__, module):
        return dumps_by_value(body)
    return dumps_by_value(body, module)


def _title(body: Callable[..., Any]) -> str:
    return f"{getattr(body, '__module__', '?')}.{getattr(body, '__qualname__', repr(body))}"


def _importable_name(body: Callable[..., Any]) -> str | None:
    module_name: str = getattr(body, "__module__", None) or "__main__"
    qualname: str = getattr(body, "__qualname__", "<locals>")
    module = sys.modules.get(module_name)
    if module is None or "<" in qualname or not worker_finds(module_name, module):
        return None
    return f"{module_name}:{qualname}" if _lookup(module, qualname) is body else None


def worker_finds(module_name: str, module: ModuleType) -> bool:
    """Whether importing this name elsewhere loads this file: servers that are started by the path
    of their file carry names that nobody else can import."""
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


def _lookup(module: ModuleType, qualname: str) -> Any:
    found: Any = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return getattr(found, BODY_ATTRIBUTE, found)


class Bodies:
    """The bodies a worker has found so far."""

    def __init__(self, on_found: Callable[[], object] = bool) -> None:
        """Begin without any; `on_found` is called after each that was not known."""
        self._on_found = on_found
        self._known: dict[str, Callable[..., Any]] = {}

    def find(self, name: str, code: bytes | None) -> Callable[..., Any]:
        """Return the undecorated body of this name.

        Raises:
            ImportError, AttributeError: The name leads nowhere here.
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
            return pickle.loads(code)
        module_name, _, qualname = name.partition(":")
        found = _lookup(importlib.import_module(module_name), qualname)
        if not callable(found):
            raise AttributeError(f"{name} leads to {found!r}, which cannot be called")
        return found
