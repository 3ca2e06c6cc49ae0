"""cloudpickle behind types, loaded only where plain pickle does not do. Used by the pool only."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# (cloudpickle has no types)

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType


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
