"""The tools that the official conformance suite asks a server to have, decorated as a tool author would.

Names, texts and timings are the suite's. A module of its own, so that workers find the bodies by name.
Those that need no SDK are in `fixture_bodies`.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Annotated, Any, Final

from mcp.server.mcpserver import Audio, Context, Elicit, Image, ListRoots, MCPServer, Resolve, Sample
from mcp_types import (
    CreateMessageRequest,
    CreateMessageResult,
    ElicitRequest,
    EmbeddedResource,
    InputRequest,
    InputRequiredResult,
    ListRootsResult,
    SamplingMessage,
    TextContent,
    TextResourceContents,
)
from pydantic import BaseModel, Field

from python_mcp_server import smart_async
from tests.conformance import fixture_bodies as plain

_PNG: Final = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
)
_WAV: Final = b"RIFF$\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0@\x1f\0\0@\x1f\0\0\1\0\x08\0data\0\0\0\0"
_ASK_NAME: Final = {
    "method": "elicitation/create",
    "params": {"mode": "form", "message": "What is your name?", "requestedSchema": plain.NAME},
}
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


def _sample(text: str, max_tokens: int) -> Sample:
    return Sample(
        [SamplingMessage(role="user", content=TextContent(type="text", text=text))], max_tokens=max_tokens
    )


async def sample_prompt(prompt: str) -> Sample:
    """Ask the client's model what the tool was given."""
    return _sample(prompt, 100)


async def sample_capital() -> Sample:
    """Ask the client's model for a capital."""
    return _sample("What is the capital of France?", 100)


async def sample_greeting() -> Sample:
    """Ask the client's model for a greeting."""
    return _sample("Generate a greeting", 50)


async def list_roots() -> ListRoots:
    """Ask for the client's roots."""
    return ListRoots()


def test_sampling(prompt: str, said: Annotated[CreateMessageResult, Resolve(sample_prompt)]) -> str:
    """Answer with what the client's model says."""
    return f"LLM response: {_text_of(said)}"


def test_input_required_result_sampling(
    said: Annotated[CreateMessageResult, Resolve(sample_capital)],
) -> str:
    """Answer with the capital that the client's model names."""
    return _text_of(said)


def test_input_required_result_list_roots(
    roots: Annotated[ListRootsResult, Resolve(list_roots)],
) -> str:
    """Answer with the client's roots."""
    return ", ".join(str(root.uri) for root in roots.roots)


def test_input_required_result_multiple_inputs(
    user_name: Annotated[UserName, Resolve(ask_user_name)],
    greeting: Annotated[CreateMessageResult, Resolve(sample_greeting)],
    roots: Annotated[ListRootsResult, Resolve(list_roots)],
) -> str:
    """Answer with all three that were asked for at once."""
    return f"{_text_of(greeting)} {user_name.name}, of {len(roots.roots)} roots"


def _text_of(said: CreateMessageResult) -> str:
    content = said.content
    return content.text if isinstance(content, TextContent) else type(content).__name__


async def test_logging_tool(ctx: Context[Any, Any]) -> str:
    """Log a line."""
    await ctx.info("a line")
    return "logged"


def test_x_mcp_header(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
    """Answer with a parameter that comes in a header too."""
    return f"The region is {region}."


def _resource(uri: str, kind: str, text: str) -> EmbeddedResource:
    return EmbeddedResource(
        type="resource", resource=TextResourceContents(uri=uri, mime_type=kind, text=text)
    )


_REQUIRED: Final = (plain.failing_job, test_tool_with_task)
_SLOW: Final = (plain.slow_compute, plain.protocol_error_job)
_FAST: Final[tuple[Callable[..., Any], ...]] = (
    plain.greet, plain.confirm_delete, plain.multi_input, plain.test_simple_text, plain.test_error_handling,
    plain.test_tool_with_progress, plain.test_missing_capability, plain.test_streaming_elicitation,
    plain.test_reconnection, plain.test_elicitation, plain.test_elicitation_sep1034_defaults,
    plain.test_elicitation_sep1330_enums, plain.test_input_required_result_elicitation,
    plain.test_input_required_result_request_state, plain.test_input_required_result_tampered_state,
    plain.test_input_required_result_multi_round,
    test_image_content, test_audio_content, test_embedded_resource, test_multiple_content_types,
    test_logging_tool, test_sampling, test_input_required_result_sampling,
    test_input_required_result_list_roots, test_input_required_result_multiple_inputs, test_x_mcp_header,
)  # fmt: skip


def add_tools(mcp: MCPServer[Any]) -> None:
    """Register them all, and those that change the server's own lists."""
    for body in _FAST:
        mcp.tool()(smart_async(default_timeout=_PATIENT_S)(body))
    for body in _SLOW:
        mcp.tool()(smart_async(default_timeout=_BUDGET_S)(body))
    for body in _REQUIRED:
        mcp.tool()(smart_async(task="required")(body))

    add_plain_tools(mcp)

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


def add_plain_tools(mcp: MCPServer[Any]) -> None:
    """Register what needs the connection itself, which a body in a worker does not have."""

    @mcp.tool()
    async def test_tool_with_logging(ctx: Context[Any, Any]) -> str:
        """Log three lines to the client: what a decorated body logs goes to its job's stderr instead."""
        for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            await ctx.info(line)
            await asyncio.sleep(0.05)
        return "logged three lines"

    @mcp.tool()
    async def test_input_required_result_capabilities(ctx: Context[Any, Any]) -> str | InputRequiredResult:
        """Ask for what the client can answer, by the SDK's own means: a body does not choose its channel."""
        if ctx.input_responses:
            return "answered"
        able = ctx.client_capabilities
        asked: dict[str, InputRequest] = {}
        if able is not None and able.sampling is not None:
            asked["greeting"] = CreateMessageRequest(params=_sample("Generate a greeting", 50).params)
        if able is not None and able.elicitation is not None:
            asked["user_name"] = ElicitRequest.model_validate(_ASK_NAME)
        return InputRequiredResult(input_requests=asked) if asked else "nothing can be asked"
