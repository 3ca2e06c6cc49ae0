"""A stand-in for the SDK's `Context` that works inside a worker, for bodies that declare one."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from python_mcp_server.context import report_progress


class BodyContext:
    """Stands in for the SDK's `Context` inside a worker.

    `report_progress` travels as any progress does; `elicit` asks as `request_input` does; `debug`,
    `info`, `warning` and `error` become lines on the job's stderr, where `py_job_output` shows them.
    """

    async def report_progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        """Report how far the body is."""
        report_progress(progress, total, message)

    async def elicit(self, message: str, schema: Any) -> Any:
        """Ask the user a question and wait for the answer.

        Args:
            message: What the user reads.
            schema: A pydantic model with flat fields.

        Returns:
            What the SDK's `elicit` returns: `action` is "accept", "decline" or "cancel", and `data` of an
            accepted one is an instance of the model. The classes are the SDK's own where the SDK is loaded
            here.

        Raises:
            ValueError: The answer does not fit the model.
        """
        from python_mcp_server.asking import request_input

        answer = await request_input(message, schema)
        if not answer.accepted:
            return _result(answer.action)
        try:
            data = schema.model_validate(answer.content)
        except ValueError as error:
            raise ValueError(f"the answer does not fit {schema.__name__}: {error}") from error
        return _result(answer.action, data)

    async def debug(self, message: str, **_extra: object) -> None:
        """Write a debug line to the job's stderr."""
        _write_line("debug", message)

    async def info(self, message: str, **_extra: object) -> None:
        """Write an info line to the job's stderr."""
        _write_line("info", message)

    async def warning(self, message: str, **_extra: object) -> None:
        """Write a warning line to the job's stderr."""
        _write_line("warning", message)

    async def error(self, message: str, **_extra: object) -> None:
        """Write an error line to the job's stderr."""
        _write_line("error", message)


@dataclass(frozen=True, slots=True)
class Elicited:
    """The result of `elicit` where the SDK is not loaded."""

    action: str
    data: Any = None


_NAMES = {
    "accept": "AcceptedElicitation",
    "decline": "DeclinedElicitation",
    "cancel": "CancelledElicitation",
}


def _result(action: str, data: Any = None) -> Any:
    sdk = sys.modules.get("mcp.server.elicitation")
    if sdk is None:
        return Elicited(action, data)
    kind: Any = getattr(sdk, _NAMES[action])
    return kind(data=data) if action == "accept" else kind()


def _write_line(level: str, message: str) -> None:
    sys.stderr.write(f"[{level}] {message}\n")
