"""What plain pickle does not do: cloudpickle behind types, loaded only where it is needed, and files that
let other threads run. Used by the pool only."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# (cloudpickle has no types)

from __future__ import annotations

import copyreg
import io
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import cache
from types import CodeType
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from types import ModuleType

_NO_FILE: Final = "<dynamic-code>"
"""What cloudpickle says in the place of the file that code came from."""

_Look = Callable[[Any], bool]


class YieldingBytesIO(io.BytesIO):
    """A file for large pickles in a thread: pickle holds the interpreter from the first byte to the last,
    but for the calls of these methods, one for every 64 KiB."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Do what `io.BytesIO` does."""
        return super().read(size)

    def write(self, data: Any, /) -> int:
        """Do what `io.BytesIO` does."""
        return super().write(data)


def dumps_by_value(value: object, *modules: ModuleType, look: _Look | None = None) -> bytes:
    """Pickle what plain pickle refuses: functions and classes of `__main__`, closures, lambdas.

    Args:
        value: What to pickle.
        modules: Whose functions and classes go by value too, though the modules are loaded here:
            cloudpickle would send them by a name that only this process knows.
        look: Sees each object that is not plain data, also code, and says whether it goes by its name.

    Raises:
        Exception: The value refuses, in whatever way it likes.
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
            """Do what cloudpickle does, but for what is to go by its name."""
            if self._look is not None and self._look(obj):
                return NotImplemented
            if _has_lost_its_slots(obj):
                return copyreg.__newobj__, (type(obj),), (None, vars(obj))  # pyright: ignore[reportAttributeAccessIssue]
            return base.reducer_override(self, obj)

    return ByValue


def _has_lost_its_slots(obj: Any) -> bool:
    """Whether its class is a copy that cloudpickle has made of one with slots: the copy's instances have a
    dictionary, and those of the class that they go back to have none."""
    kind = cast("type[object]", type(obj))
    slots = cast("str | Iterable[str] | None", vars(kind).get("__slots__"))
    if slots is None or not hasattr(obj, "__dict__"):
        return False
    names = [slots] if isinstance(slots, str) else list(slots)
    own = ("__reduce_ex__", "__reduce__", "__getstate__")
    return not any(name in vars(kind) for name in names) and not any(
        getattr(kind, name) is not getattr(object, name) for name in own
    )
