"""What plain pickle does not do: cloudpickle behind types, loaded only where it is needed, and files that
let other threads run. Used by the pool only."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# (cloudpickle has no types)

from __future__ import annotations

import io
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType


class GivingWay(io.BytesIO):
    """A file for large pickles in a thread: pickle holds the interpreter from the first byte to the last,
    but for the calls of these methods, one for every 64 KiB."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Do what `io.BytesIO` does."""
        return super().read(size)

    def write(self, data: Any, /) -> int:
        """Do what `io.BytesIO` does."""
        return super().write(data)


def dumps_by_value(value: object, *modules: ModuleType) -> bytes:
    """Pickle what plain pickle refuses: functions and classes of `__main__`, closures, lambdas.

    Args:
        value: What to pickle.
        modules: Whose functions and classes go by value too, though the modules are loaded here:
            cloudpickle would send them by a name that only this process knows.

    Raises:
        Exception: The value refuses, in whatever way it likes.
    """
    import cloudpickle

    with ExitStack() as stack:
        for module in modules:
            cloudpickle.register_pickle_by_value(module)
            stack.callback(cloudpickle.unregister_pickle_by_value, module)
        return cloudpickle.dumps(value)
