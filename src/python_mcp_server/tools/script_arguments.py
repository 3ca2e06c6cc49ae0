"""What a script says of its command line, read from its text: nothing of it is run.

`add_argument` is looked for by its name, whatever it is called on: that is how argparse is used.
"""

from __future__ import annotations

import ast
from typing import Final, cast

from python_mcp_server.tools.results import ScriptArgument

_TOLD: Final = ("help", "type", "default", "choices", "nargs", "required", "action", "metavar")
_MOST: Final = 50
_TEXT_CHARS: Final = 300


def arguments_of(tree: ast.Module) -> list[ScriptArgument]:
    """Return the arguments that a script adds to its parsers, in the order of its text."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    calls.sort(key=lambda call: (call.lineno, call.col_offset))
    commands = _commands(tree)
    found = [argument for call in calls if (argument := _argument(call, commands)) is not None]
    return found[:_MOST]


def description_of(tree: ast.Module) -> str:
    """Return what a script's parser says it does; empty where it says nothing."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node.func) == "ArgumentParser":
            for keyword in node.keywords:
                if keyword.arg == "description" and (text := _text(keyword.value)) is not None:
                    return " ".join(text.split())
    return ""


def _argument(call: ast.Call, commands: dict[str, str]) -> ScriptArgument | None:
    names = [text for arg in call.args if (text := _text(arg)) is not None]
    if _name(call.func) != "add_argument" or not names:
        return None
    told = {keyword.arg: _shown(keyword.value) for keyword in call.keywords if keyword.arg in _TOLD}
    argument = cast("ScriptArgument", {"names": names, **told})
    parser = call.func.value if isinstance(call.func, ast.Attribute) else None
    if isinstance(parser, ast.Name) and parser.id in commands:
        argument["command"] = commands[parser.id]
    return argument


def _commands(tree: ast.Module) -> dict[str, str]:
    """Return the subcommands by the names of their parsers."""
    return {
        target.id: name
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        if _name(node.value.func) == "add_parser" and node.value.args
        if (name := _text(node.value.args[0])) is not None
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _text(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _shown(node: ast.expr) -> str:
    """Return a value as its text, anything else as it is written."""
    text = _text(node)
    return (ast.unparse(node) if text is None else " ".join(text.split()))[:_TEXT_CHARS]
