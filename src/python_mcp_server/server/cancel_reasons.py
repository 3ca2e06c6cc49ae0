"""Why clients cancelled their requests: the SDK drops what they say of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from mcp.shared.dispatcher import as_request_id, coerce_request_id

_KEPT: Final = 256


class CancelReasons:
    """The reasons that one connection's cancel notifications gave, the latest 256 of them."""

    def __init__(self) -> None:
        self._reasons: OrderedDict[str | int, str] = OrderedDict()

    def __call__(self, method: str, params: Mapping[str, Any] | None) -> bool:
        """Look at one notification, and let it pass."""
        request_id = as_request_id((params or {}).get("requestId"))
        if method == "notifications/cancelled" and request_id is not None:
            self._reasons[coerce_request_id(request_id)] = str((params or {}).get("reason") or "")
            if len(self._reasons) > _KEPT:
                self._reasons.popitem(last=False)
        return False

    def reason(self, request_id: str | int | None) -> str:
        """Return what the cancel of this request gave as its reason."""
        return "" if request_id is None else self._reasons.get(coerce_request_id(request_id), "")
