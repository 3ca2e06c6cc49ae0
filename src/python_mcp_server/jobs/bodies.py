"""How bodies are sent to workers: their references, the modules that workers load ahead, the server's
state.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from python_mcp_server.pool.main_module import MainFile, MainModule
from python_mcp_server.pool.pickling import forget_modules
from python_mcp_server.pool.references import BodyReference, refer
from python_mcp_server.pool.server_state import ServerState, present_state

if TYPE_CHECKING:
    from python_mcp_server.model import Call
    from python_mcp_server.pool.pool import Pool


class BodyRegistry:
    """The bodies that one manager knows, for the pools of all its engines."""

    def __init__(self, modules: list[str], pools: Callable[[], Iterable[Pool]]) -> None:
        """Begin without bodies.

        Args:
            modules: What new workers load; the modules of the bodies that are added come to it.
            pools: Returns the pools of the engines that are open.
        """
        self.main = MainModule()
        self._pools = pools
        self._references: weakref.WeakKeyDictionary[Callable[..., Any], BodyReference] = (
            weakref.WeakKeyDictionary()
        )
        self._modules = modules
        self._main_file: MainFile | None = None
        self._state = present_state()

    def prepare(self, pool: Pool) -> None:
        """Let the workers of a new pool load the same modules as those of the other pools."""
        if self._main_file is not None:
            pool.preload_main(self._main_file)
        for module in self._modules:
            pool.preload(module)

    def server_state(self) -> ServerState:
        """Return the state of the server that the next call sees. After a change of `sys.path` a name may
        mean another module, so no worker that has loaded modules is used again.
        """
        former = self._state
        present = present_state(former)
        if present is former:
            return former
        self._state = present
        if present.path is not former.path:
            self._references.clear()
            forget_modules()
            here = asyncio.get_running_loop()
            for pool in self._pools():
                if pool.loop is here:
                    pool.renew()
                elif not pool.loop.is_closed():
                    pool.loop.call_soon_threadsafe(pool.renew)
        return present

    def refer(self, body: Callable[..., Any]) -> BodyReference:
        """Return the reference that a body is sent by; from then on new workers load its module in their idle
        time.

        Raises:
            InvalidInput: The body cannot be sent to a worker.
        """
        try:
            reference = self._references[body]
        except (KeyError, TypeError):
            reference = None
        if reference is not None and (reference.main is None or self.main.trouble is None):
            return reference
        reference = refer(body, self.main)
        self._preload(reference)
        if reference.code is not None:
            return reference  # by value: the objects that it refers to may change until the next call
        try:
            self._references[body] = reference
        except TypeError:
            return reference  # a callable that cannot be cached, such as a builtin
        return reference

    def _preload(self, reference: BodyReference) -> None:
        if isinstance(reference.main, MainFile) and self._main_file is None:
            self._main_file = reference.main
            for pool in self._pools():
                pool.preload_main(reference.main)
        if reference.code is None and reference.main is None:
            self.load_ahead(reference.name)

    def load_ahead(self, name: str) -> None:
        """Let new workers load the module of a name, `"module:qualname"`, in their idle time: that of a body,
        or of a kind of job.
        """
        module, separator, _ = name.partition(":")
        if separator and module not in self._modules:
            self._modules.append(module)
            for pool in self._pools():
                pool.preload(module)


def without_main(call: Call, body: Callable[..., Any], main: MainModule) -> Call:
    """Return the call, without the main module where workers have failed to load it meanwhile.

    Raises:
        InvalidInput: The body cannot travel without the main module.
    """
    if main.trouble is None or not isinstance(call.main, MainFile):
        return call
    reference = refer(body, main)
    return replace(call, body=reference.name, code=reference.code, main=reference.main)
