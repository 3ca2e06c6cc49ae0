"""Images with a result: the pictures that it names are read and sent with it.

Not on the event loop, and never more than a bound, whatever a record says. A result with images has its
JSON as text in front of them and no structured content: Claude Code and Codex show their models nothing
else where there is some.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from typing import Any, Final, cast

from mcp_types import CallToolResult, ImageContent

from python_mcp_server.runner.pictures import content_of, kind_of

_MOST: Final = 50
_MOST_BYTES: Final = 8_000_000
"""Of all pictures of one answer: a client takes a second for so many."""
TOOLS: Final = frozenset({
    "py_run_script_in_dir", "py_run_script_with_dependencies", "py_run_saved_script", "py_benchmark_script",
})  # fmt: skip
"""The tools whose results name pictures; what another's result says is its own affair."""


_SHOW_A_JOB: Final = frozenset({"py_wait_job", "py_job_status"})


async def with_pictures(result: CallToolResult, tool: str) -> CallToolResult:
    """Add the pictures of a tool's result to it; where it shows a job, those of the job's result."""
    answer = cast("dict[str, Any]", result.structured_content or {})
    if tool in _SHOW_A_JOB:
        job = cast("dict[str, Any]", answer.get("job") or {})
        tool, answer = job.get("tool", ""), job.get("result")
    if tool in TOOLS and (images := await _images(answer)):
        result.content.extend(images)
        result.structured_content = None
    return result


async def add_pictures(wire: dict[str, Any] | None, tool: str) -> None:
    """Add the pictures of a tool's result to its wire form."""
    if wire is not None and tool in TOOLS and (images := await _images(wire.get("structuredContent"))):
        content = cast("list[Any]", wire["content"])
        content += [image.model_dump(by_alias=True, mode="json", exclude_none=True) for image in images]
        del wire["structuredContent"]


async def _images(answer: Any) -> list[ImageContent]:
    listed: Any = cast("Mapping[str, Any]", answer).get("pictures") if isinstance(answer, dict) else None
    pictures = cast("list[Mapping[str, Any]]", listed if isinstance(listed, list) else [])
    wanted = [each for each in pictures if each.get("attached")]
    return await asyncio.to_thread(_read, wanted[:_MOST]) if wanted else []


def _read(wanted: list[Mapping[str, Any]]) -> list[ImageContent]:
    """Read those that are there and still what the result says."""
    images: list[ImageContent] = []
    left = _MOST_BYTES
    for each in wanted:
        small = each.get("preview")
        data = content_of(str(small or each["path"]), left)
        kind = kind_of(data)
        if kind is not None and (small or len(data) == each["size_bytes"]):
            left -= len(data)
            images.append(ImageContent(type="image", data=base64.b64encode(data).decode(), mime_type=kind))
    return images
