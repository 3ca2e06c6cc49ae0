"""What the suite asks of a server beside tools: prompts, resources, completion, logging, subscriptions."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from mcp.server.mcpserver import Context, Image, MCPServer, UserMessage
from mcp_types import (
    Completion,
    CompletionArgument,
    CompletionContext,
    ElicitRequest,
    EmbeddedResource,
    EmptyResult,
    InputRequiredResult,
    PromptReference,
    ResourceTemplateReference,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextResourceContents,
    UnsubscribeRequestParams,
)

from python_mcp_server.server.sdk.private import low_level

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
)
_ASK_CONTEXT = {
    "method": "elicitation/create",
    "params": {
        "mode": "form",
        "message": "What context should the prompt use?",
        "requestedSchema": {
            "type": "object",
            "properties": {"context": {"type": "string"}},
            "required": ["context"],
        },
    },
}


def add_prompts(mcp: MCPServer[Any]) -> None:
    """Register the prompts."""

    @mcp.prompt()
    async def test_simple_prompt() -> str:
        """Say one sentence."""
        return "This is a simple prompt for testing."

    @mcp.prompt()
    async def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        """Say what was given."""
        return f"Prompt with arguments: arg1={arg1!r}, arg2={arg2!r}"

    @mcp.prompt()
    async def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:  # noqa: N803
        """Embed a resource."""
        text = "Embedded resource content for testing."
        contents = TextResourceContents(uri=resourceUri, mime_type="text/plain", text=text)
        return [
            UserMessage(EmbeddedResource(type="resource", resource=contents)),
            UserMessage("Please process the embedded resource above."),
        ]

    @mcp.prompt()
    async def test_prompt_with_image() -> list[UserMessage]:
        """Show an image."""
        return [UserMessage(Image(data=PNG, format="png")), UserMessage("Please analyze the image above.")]

    @mcp.prompt()
    async def test_input_required_result_prompt(ctx: Context[Any, Any]) -> str | InputRequiredResult:
        """Ask for a context first."""
        answers = ctx.input_responses or {}
        if "user_context" not in answers:
            return InputRequiredResult(
                input_requests={"user_context": ElicitRequest.model_validate(_ASK_CONTEXT)}
            )
        return f"The context is {answers['user_context']}."


def add_completion(mcp: MCPServer[Any]) -> None:
    """Register the completion of arguments."""

    @mcp.completion()
    async def complete(
        ref: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        context: CompletionContext | None,
    ) -> Completion:
        fitting = [word for word in ("paris", "park", "party") if word.startswith(argument.value)]
        return Completion(values=fitting, total=len(fitting), has_more=False)


def add_resources(mcp: MCPServer[Any]) -> None:
    """Register the resources."""

    @mcp.resource("test://static-text", mime_type="text/plain")
    async def static_text() -> str:
        return "This is the content of the static text resource."

    @mcp.resource("test://static-binary", mime_type="image/png")
    async def static_binary() -> bytes:
        return PNG

    @mcp.resource("test://template/{id}/data", mime_type="application/json")
    async def template(id: str) -> str:  # noqa: A002  the template's own name
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})

    @mcp.resource("test://watched-resource", mime_type="text/plain")
    async def watched() -> str:
        return "This one may be watched."


def add_handshake_methods(mcp: MCPServer[Any]) -> None:
    """Register methods of older versions, which `MCPServer` leaves to the server below it."""
    low = low_level(mcp)

    async def accept(_ctx: ServerRequestContext[Any, Any], _params: Any) -> EmptyResult:
        return EmptyResult()

    low.add_request_handler("logging/setLevel", SetLevelRequestParams, accept)
    low.add_request_handler("resources/subscribe", SubscribeRequestParams, accept)
    low.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, accept)
