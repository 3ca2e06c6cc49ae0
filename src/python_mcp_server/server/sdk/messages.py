"""Tells messages of the protocol from data that only looks like one, for every transport.

The SDK's models ignore members that they do not know, so they take a request whose id is null or `1.0` for a
valid notification, which gets no answer. The protocol forbids such ids:
https://modelcontextprotocol.io/specification/2025-11-25/basic#requests
"""

from __future__ import annotations

import json
import logging
from typing import Any, Final, cast

from mcp_types import (
    INVALID_REQUEST,
    PARSE_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    jsonrpc_message_adapter,
)
from pydantic import ValidationError
from pydantic_core import from_json

from python_mcp_server.server.text import repair_unicode

_log: Final = logging.getLogger(__name__)
_JSON_NAMES: Final[dict[type, str]] = {
    bool: "a boolean",
    float: "a number with a fraction",
    list: "an array",
    dict: "an object",
}


class NotAMessage(Exception):
    """A line or a body is no message that can be served.

    Attributes:
        error: The answer to the client. It quotes nothing of the message, which may hold secrets.
    """

    def __init__(self, request_id: str | int | None, code: int, text: str) -> None:
        super().__init__(text)
        _log.warning("the client sent something that cannot be served: %s", text)
        self.error = refusal(request_id, code, text)


def refusal(request_id: str | int | None, code: int, text: str) -> JSONRPCError:
    """Return an answer that refuses; an id that could not be read is null, as JSON-RPC has it."""
    return JSONRPCError(jsonrpc="2.0", id=request_id, error=ErrorData(code=code, message=text))


def parse(line: bytes) -> JSONRPCMessage:
    """Return the message that a line holds.

    Raises:
        NotAMessage: The line holds none, or a request that could not be answered.
    """
    try:
        message = jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValidationError:
        raise _diagnosis(line) from None
    if isinstance(message, JSONRPCNotification):
        check_notification(line)
    return message


def check_notification(line: bytes) -> None:
    """Refuse a message that passes for a notification and has an id; log a request that has none.

    Raises:
        NotAMessage: It has an id.
    """
    try:
        data = from_json(line)
    except ValueError:
        return  # the receiver of the message refuses it
    if not isinstance(data, dict) or "method" not in data:
        return
    fields = cast("dict[str, Any]", data)
    if "id" in fields and not _is_id(fields["id"]):
        raise NotAMessage(None, INVALID_REQUEST, _about_id(fields["id"], len(line)))
    if "id" not in fields and not str(fields["method"]).startswith("notifications/"):
        _log.warning("a message of %d bytes has no id and is no notification: it gets no answer", len(line))


def _is_id(value: object) -> bool:
    if isinstance(value, str):
        return repair_unicode(value) is value
    return isinstance(value, int) and not isinstance(value, bool)


def _about_id(value: object, size: int) -> str:
    found = "null" if value is None else _JSON_NAMES.get(type(value), "no valid Unicode")
    return f"the id of a request of {size} bytes is {found}; it must be a string or an integer"


def _diagnosis(line: bytes) -> NotAMessage:
    """Describe the fault of a line that the SDK's models refuse."""
    size = f"{len(line)} bytes"
    try:
        data: Any = json.loads(line.decode())  # of bytes it would take other encodings, too
    except ValueError:
        return NotAMessage(None, PARSE_ERROR, f"a line of {size} is no JSON in UTF-8")
    except RecursionError:
        return NotAMessage(None, PARSE_ERROR, f"a line of {size} is nested too deeply")
    if isinstance(data, list):
        text = f"a line of {size} is an array; messages must come one by one, a line each"
        return NotAMessage(None, INVALID_REQUEST, text)
    fields = cast("dict[str, Any]", data) if isinstance(data, dict) else {}
    given = fields.get("id") if "method" in fields else None
    known = cast("str | int", given) if _is_id(given) else None
    if _broken(data):
        text = f"a message of {size} holds half of a surrogate pair, no valid Unicode"
        return NotAMessage(known, INVALID_REQUEST, text)
    return NotAMessage(
        known, INVALID_REQUEST, f"a line of {size} is no JSON-RPC 2.0 message: {_fault(fields)}"
    )


def _fault(fields: dict[str, Any]) -> str:
    """Say which member is wrong."""
    if fields.get("jsonrpc") != "2.0":
        return 'it must be an object with "jsonrpc": "2.0"'
    if "method" not in fields:
        return "a request must have a method, a response an id and a result or an error"
    if not isinstance(fields["method"], str):
        return "its method must be a string"
    if not isinstance(fields.get("params"), dict | None):
        return "its params must be an object"
    if "id" in fields and not _is_id(fields["id"]):
        return "its id must be a string or an integer"
    return "it is nested too deeply"


def _broken(data: Any) -> bool:
    try:
        return repair_unicode(data) is not data
    except RecursionError:
        return False
