"""cloudpickle behind types, loaded only where plain pickle does not do. Used by the pool only."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# (cloudpickle has no types)

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType


def dumps_by_value(value: object, module: ModuleType | None = None) -> bytes:
    """Pickle what plain pickle refuses: functions and classes of `__main__`, closures, lambdas.

    Args:
        value: What to pickle.
        module: Whose functions and classes go by value too, though the module is loaded here:
            cloudpickle would send them by a name that only this process knows.

    Raises:
        Exception: The value refuses, in whatever way it likes.
    """
    import cloudpickle

    if module is None:
        return cloudpickle.dumps(value)
    cloudpickle.register_pickle_by_value(module)
    try:
        return cloudpickle.dumps(value)
    finally:
        cloudpickle.unregister_pickle_by_value(module)
