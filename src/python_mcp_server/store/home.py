"""The locks of a home, for the stores whose processes share files: they lie beside the files. Used by the
stores only.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from python_mcp_server.atomic import translate_os_errors
from python_mcp_server.store.folders import FolderStore
from python_mcp_server.store.layout import check_name
from python_mcp_server.store.locks import Locks


class HomeStore(FolderStore):
    """A store whose locks and whose jobs' files lie in a home.

    Args:
        home: The directory, absolute.
        lock_s: How long to wait for a lock before `StoreLocked` names who holds it.
        fsync: Whether files survive a loss of power too.
    """

    def __init__(self, home: str, lock_s: float, *, fsync: bool) -> None:
        super().__init__(home, fsync=fsync)
        self._lock_s = lock_s
        self._locks = Locks(self._layout.locks, self._layout.home, lock_s)

    def exclusive(self, name: str) -> AbstractContextManager[None]:
        """Hold a lock of this name over the block, against all processes of this home. Not reentrant."""
        check_name(name)
        return self._locks.hold(f"own-{name}")

    def long_locks(self, at_least_s: float) -> list[str]:
        """Return who holds a lock of the home, for at least so long, in words."""
        with translate_os_errors(self._layout.home, "look at the locks"):
            return self._locks.held_for(at_least_s)
