"""Doubles of MCP clients: what each of them shows to its model of a tool's result, as far as is known.

`docs/clients.md` says what was seen, and these are the sources:

anthropics/claude-code#79944, #54737, #20605, #65643, #22542, #63379, #58687, #73503;
anthropics/claude-ai-mcp#643, #115; vfarcic/dot-ai#708; CursorTouch/Windows-MCP#155; openai/codex#28234,
#38287, #43497; anomalyco/opencode#32074, #32868; microsoft/vscode#274094, #311595;
github/copilot-cli#172, #663, #4536; zed-industries/zed#45378; cline/cline#1865;
modelcontextprotocol/modelcontextprotocol#2517; modelcontextprotocol/typescript-sdk#1393, #2250; the
clients' own pages and sources.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from jsonschema import Draft202012Validator

Wire = dict[str, Any]
_TOKENS: Final = 25_000
_CHARS_PER_TOKEN: Final = 4
_DESKTOP_BYTES: Final = 1_000_000


@dataclass(frozen=True)
class Shown:
    """What a client shows its model of one result.

    Attributes:
        texts: The texts, in their order.
        images: The images, in theirs.
    """

    texts: tuple[str, ...]
    images: tuple[bytes, ...] = ()

    @property
    def said(self) -> Any:
        """The first text block, parsed where it is JSON; the SDK wraps values that are no object."""
        try:
            said = json.loads(self.texts[0])
        except ValueError:
            return self.texts[0]
        return said["result"] if isinstance(said, dict) and set(said) == {"result"} else said


def claude_code(tool: Wire, result: Wire) -> Shown:
    """Structured content wins: blocks beside it are dropped. A large result becomes the name of a file."""
    shown = _structured_wins(result)
    most = tool.get("_meta", {}).get("anthropic/maxResultSizeChars", 0)
    if shown.images:  # they are never exempt
        most = 0
    if sum(map(len, shown.texts)) > max(most, _TOKENS * _CHARS_PER_TOKEN):
        return Shown(("Error: result exceeds maximum allowed tokens. Output has been saved to /a/file",))
    return shown


def codex(_tool: Wire, result: Wire) -> Shown:
    """Structured content wins, as with Claude Code."""
    return _structured_wins(result)


def claude_desktop(_tool: Wire, result: Wire) -> Shown:
    """All content is shown, and structured content is not needed. Above 1 MB nothing is."""
    if len(json.dumps(result)) > _DESKTOP_BYTES:
        return Shown(("Tool result is too large. Maximum size is 1MB.",))
    return _content(result)


def strict(tool: Wire, result: Wire) -> Shown:
    """Content is shown once structured content is what the tool has declared.

    Raises:
        AssertionError, jsonschema.ValidationError: It is not.
    """
    schema = tool.get("outputSchema")
    if schema is not None and not result.get("isError"):
        assert "structuredContent" in result, f"{tool['name']} declares a schema, and there is nothing of it"
        Draft202012Validator(schema).validate(result["structuredContent"])
    return _content(result)


CLIENTS: Final[dict[str, Callable[[Wire, Wire], Shown]]] = {
    "Claude Code": claude_code,
    "Codex": codex,
    "Claude Desktop": claude_desktop,
    "strict": strict,
}


def check_list(tools: list[Wire]) -> None:
    """Check a tool list as a strict client does, of any version of the protocol.

    Raises:
        AssertionError, jsonschema.SchemaError: It would be refused.
    """
    for tool in tools:
        for name in ("inputSchema", "outputSchema"):
            if (schema := tool.get(name)) is not None:
                Draft202012Validator.check_schema(schema)
                assert schema["type"] == "object", tool["name"]


def _structured_wins(result: Wire) -> Shown:
    if result.get("structuredContent") is not None and not result.get("isError"):
        return Shown((json.dumps(result["structuredContent"]),))
    return _content(result)


def _content(result: Wire) -> Shown:
    blocks = result["content"]
    return Shown(
        tuple(block["text"] for block in blocks if block["type"] == "text"),
        tuple(base64.b64decode(block["data"]) for block in blocks if block["type"] == "image"),
    )
