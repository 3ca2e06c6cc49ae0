"""The tools that the official conformance suite asks a server to have, decorated as a tool author would.

Names, texts and timings are the suite's. A module of its own, so that workers find the bodies by name.
Those that need no SDK are in `fixture_bodies`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Annotated, Any, Final

from mcp.server.mcpserver import Audio, Context, Elicit, Image, MCPServer, Resolve
from mcp_types import EmbeddedResource, TextContent, TextResourceContents
from pydantic import BaseModel

from python_mcp_server import smart_async
from tests.conformance import fixture_bodies as plain

_PNG: Final = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
)
_WAV: Final = b"RIFF$\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0@\x1f\0\0@\x1f\0\0\1\0\x08\0data\0\0\0\0"
_BUDGET_S: Final = 0.3
_PATIENT_S: Final = 20.0


class UserName(BaseModel):
    """What the user is asked for."""

    name: str


async def ask_user_name() -> Elicit[UserName]:
    """Ask for the user's name, before the job is made."""
    return Elicit("What is your name?", UserName)


def test_tool_with_task(user_name: Annotated[UserName, Resolve(ask_user_name)]) -> str:
    """Greet the user, as a task."""
    return f"Hello, {user_name.name}!"


def test_image_content() -> Image:
    """Answer with an image."""
    return Image(data=_PNG, format="png")


def test_audio_content() -> Audio:
    """Answer with a sound."""
    return Audio(data=_WAV, format="wav")


def test_embedded_resource() -> EmbeddedResource:
    """Answer with a resource."""
    return _resource("test://embedded-resource", "text/plain", "This is an embedded resource content.")


def test_multiple_content_types() -> list[TextContent | Image | EmbeddedResource]:
    """Answer with several kinds of content."""
    return [
        TextContent(type="text", text="Multiple content types test:"),
        Image(data=_PNG, format="png"),
        _resource("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
    ]


async def test_logging_tool(ctx: Context[Any, Any]) -> str:
    """Log a line."""
    await ctx.info("a line")
    return "logged"


def _resource(uri: str, kind: str, text: str) -> EmbeddedResource:
    return EmbeddedResource(
        type="resource", resource=TextResourceContents(uri=uri, mime_type=kind, text=text)
    )


_REQUIRED: Final = (plain.failing_job, test_tool_with_task)
_SLOW: Final = (plain.slow_compute, plain.protocol_error_job)
_FAST: Final[tuple[Callable[..., Any], ...]] = (
    plain.greet, plain.confirm_delete, plain.multi_input, plain.test_simple_text, plain.test_error_handling,
    plain.test_tool_with_progress, plain.test_missing_capability, plain.test_streaming_elicitation,
    test_image_content, test_audio_content, test_embedded_resource, test_multiple_content_types,
    test_logging_tool,
)  # fmt: skip


def add_tools(mcp: MCPServer[Any]) -> None:
    """Register them all, and those that change the server's own lists."""
    for body in _FAST:
        mcp.tool()(smart_async(default_timeout=_PATIENT_S)(body))
    for body in _SLOW:
        mcp.tool()(smart_async(default_timeout=_BUDGET_S)(body))
    for body in _REQUIRED:
        mcp.tool()(smart_async(task="required")(body))

    @mcp.tool()
    async def test_trigger_tool_change(ctx: Context[Any, Any]) -> str:
        """Tell listeners that the tools have changed."""
        await ctx.notify_tools_changed()
        return "told"

    @mcp.tool()
    async def test_trigger_prompt_change(ctx: Context[Any, Any]) -> str:
        """Tell listeners that the prompts have changed."""
        await ctx.notify_prompts_changed()
        return "told"
