"""One text for equal calls whose arguments are no plain JSON, or that no record has: such as a set, an
object, a secret, or a body of the main program.

Pickles will not do: those of equal sets differ between processes. A value is taken apart as pickle takes it
apart, and the members of sets and mappings are put in order.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from types import CodeType, FunctionType, NoneType
from typing import TYPE_CHECKING, Any, Final, cast

from python_mcp_server.errors import InvalidInput
from python_mcp_server.jobs.arguments import encoded

if TYPE_CHECKING:
    from python_mcp_server.jobs.request import Request

_ATOMS: Final = frozenset({str, bytes, int, float, complex, bool, NoneType})
_PROTOCOL: Final = 2
_WHY_CHARS: Final = 160


def call_text(request: Request) -> str:
    """Return the text that equal calls have in common, in every process. It holds the arguments, so that it
    is for a digest only. The code of the arguments may run.

    Raises:
        InvalidInput: An argument cannot be compared.
    """
    try:
        args, kwargs = encoded(request.args), encoded(request.kwargs)
        try:
            named: Any = inspect.signature(request.body).bind(*args, **kwargs).arguments
        except (TypeError, ValueError):  # the arguments do not fit, or the body has no signature
            named = [args, kwargs]
        return _text([_module_file(request.body), os.getcwd(), request.body, named])
    except Exception as error:  # the values' own code may raise anything
        raise InvalidInput(
            "idempotency_key is given, and the call cannot be compared with others "
            f"({f'{type(error).__name__}: {error}':.{_WHY_CHARS}}); give plain data as arguments, or no key"
        ) from error


def _module_file(body: Callable[..., Any]) -> str | None:
    file = getattr(sys.modules.get(getattr(body, "__module__", None) or ""), "__file__", None)
    return file and os.path.abspath(file)


def _text(value: Any) -> str:
    kind = cast("type[object]", type(value))
    if kind in _ATOMS:
        return f"{kind.__name__} {value!r}"
    if kind is list or kind is tuple:
        return f"{kind.__name__}[{','.join(map(_text, value))}]"
    if kind is set or kind is frozenset:
        return f"{kind.__name__}[{','.join(sorted(map(_text, value)))}]"
    if kind is dict:
        return f"dict[{','.join(sorted(f'{_text(name)}:{_text(each)}' for name, each in value.items()))}]"
    if isinstance(value, type | FunctionType):
        return _definition(value)
    if isinstance(value, CodeType):
        return f"code{_text([value.co_code, value.co_consts, value.co_names])}"
    return _parts(value)


def _definition(value: type | FunctionType) -> str:
    """Return the name of a class or a function; a function without one that others know is its code."""
    name = f"{value.__module__}:{value.__qualname__}"
    if "<" not in value.__qualname__ or not isinstance(value, FunctionType):
        return name
    cells = [cell.cell_contents for cell in value.__closure__ or ()]
    return name + _text([value.__code__, value.__defaults__, value.__kwdefaults__, cells])


def _parts(value: Any) -> str:
    """Return the text of what pickle makes an object of."""
    made = value.__reduce_ex__(_PROTOCOL)
    if isinstance(made, str):  # the name of a global object
        return f"{getattr(value, '__module__', None)}:{made}"
    function, args, *rest = made
    state = rest[0] if rest else None
    items = [list(each) for each in rest[1:3] if each is not None]
    return f"{_text(function)}({_text(args)},{_text(state)},{_text(items)})"
