"""Writes docs/reference.md from the code: tools, settings, command line, API, errors.

`--check` compares instead of writing, and fails where the page is not what the code gives.
"""

from __future__ import annotations

import asyncio
import dataclasses
import difflib
import enum
import inspect
import re
import sys
import typing
from collections.abc import Iterator
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import click
from typing_extensions import get_original_bases, is_typeddict

import python_mcp_server
from python_mcp_server import InMemoryJobStore, JobManager, errors, functions
from python_mcp_server.cli import program
from python_mcp_server.server.app import GROUPS, create_server
from python_mcp_server.settings import BUDGET_VARIABLE, DEFAULT_BUDGET_S, Settings, variable

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference.md"
_HEAD: Final = """\
# Reference

`scripts/reference` writes this page from the code, and `scripts/check` compares them: change a docstring,
not this page. The guides explain more: [tools](tools.md), [decorator](decorator.md), [settings](settings.md),
[errors](errors.md).

- [Tools](#tools)
- [Results of the tools](#results)
- [Settings](#settings)
- [Command line](#command-line)
- [Python](#python)
- [Parts of a manager](#parts-of-a-manager)
- [Functions for jobs](#functions-for-jobs)
- [Errors](#errors)
"""
_SECTION: Final = re.compile(r"^(Args|Attributes|Returns|Raises|Yields):$")
_ITEM: Final = re.compile(r"^(\*{0,2}\w+(?:, \w+)*): (.*)$")
_QUOTED: Final = re.compile(r"(: |-> )'([^']*)'")  # an annotation that is a text
_PARTS: Final = (
    "schedules.Schedules",
    "schedules.BlockingSchedules",
    "schedule.Schedule",
    "queues.AsyncQueues",
    "queues.Queues",
    "queues.QueueList",
    "queues.QueueState",
    "dead_letters.AsyncDeadLetters",
    "dead_letters.DeadLetters",
    "sameness.ResultCache",
    "hooks.Hooks",
    "graph.SubmittedGraph",
)
_WIDTH: Final = 100
_TOOLS: Final[set[str]] = set()  # the names of the functions behind the tools


def main() -> int:
    """Write the page, or compare it with the code."""
    text = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    found = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    if found == text:
        return 0
    print("docs/reference.md is not what the code gives; scripts/reference writes it anew:")
    print("\n".join(list(difflib.unified_diff(found.splitlines(), text.splitlines(), lineterm="", n=0))[:40]))
    return 1


def page() -> str:
    """Return the whole page."""
    sections = (tools(), results(), settings(), command_line(), api(), parts(), job_functions(), error_tree())
    lines = [_HEAD, *(line for section in sections for line in section)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def tools() -> Iterator[str]:
    """Each tool, as a client sees it in the list."""
    yield "## Tools\n"
    server = create_server(JobManager(InMemoryJobStore(), Settings(tools=GROUPS)))
    for tool in asyncio.run(server.list_tools()):
        yield f"### {tool.name}\n\n{tool.description}\n"
        required = tool.input_schema.get("required", ())
        yield "| parameter | type | default | meaning |\n|---|---|---|---|"
        for name, schema in tool.input_schema.get("properties", {}).items():
            default = "required" if name in required else _default(schema.get("default"))
            yield f"| `{name}` | {_type(schema)} | {default} | {_cell(schema.get('description', ''))} |"
        if result := _returned_by(tool.name.removeprefix("py_")):
            yield f"\nThe result is a [`{result.__name__}`](#{result.__name__.lower()}).\n"


def results() -> Iterator[str]:
    """The shapes that the tools answer, each once."""
    yield "## Results\n\nA field that is not always there is marked with *.\n"
    seen: dict[str, Any] = {}
    for function in _tool_functions():
        _collect(typing.get_type_hints(function, include_extras=True)["return"], seen)
    for name, kind in sorted(seen.items()):
        yield f"### {name}\n"
        optional, told = kind.__optional_keys__, set[str]()
        bases = [base for base in get_original_bases(kind) if base.__name__ in seen]
        above = "".join(
            f" With the fields of [`{base.__name__}`](#{base.__name__.lower()})." for base in bases
        )
        text = inspect.getdoc(kind) or ""
        yield _cell(next(_sections(text))[1]) + above + "\n"
        for field, meaning in _items(text, "Attributes"):
            names = [f"`{each}`{'*' if each in optional else ''}" for each in field.split(", ")]
            yield f"- {', '.join(names)}: {meaning}"
            told.update(field.split(", "))
        inherited = {each for base in bases for each in base.__annotations__}
        if rest := [each for each in kind.__annotations__ if each not in told | inherited]:
            yield "- " + ", ".join(f"`{each}`{'*' if each in optional else ''}" for each in rest)
        yield ""


def _tool_functions() -> Iterator[Any]:
    """The functions of all tools, wherever in these packages they are defined."""
    for name, module in sorted(sys.modules.items()):
        if name.startswith(("python_mcp_server.server.", "python_mcp_server.tools.")):
            places = [module, *(each for each in vars(module).values() if isinstance(each, type))]
            found = [getattr(place, each, None) for place in places for each in _TOOLS]
            yield from (each for each in found if inspect.isfunction(each) and each.__module__ == name)


def _returned_by(tool: str) -> Any:
    """The class of a tool's result; None where it is not one of ours."""
    _TOOLS.add(tool)
    hints = [typing.get_type_hints(each) for each in _tool_functions() if each.__name__ == tool]
    kinds = [each["return"] for each in hints if is_typeddict(each.get("return"))]
    return kinds[0] if kinds else None


def _collect(hint: Any, seen: dict[str, Any]) -> None:
    if is_typeddict(hint) and hint.__name__ not in seen:
        seen[hint.__name__] = hint
        for each in (*get_original_bases(hint), *typing.get_type_hints(hint).values()):
            _collect(each, seen)
    for each in typing.get_args(hint):
        _collect(each, seen)


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    kind = str(schema.get("type", "any"))
    return f"{kind} of {_type(schema['items'])}" if kind == "array" and schema.get("items") else kind


def _default(value: object) -> str:
    return "" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def settings() -> Iterator[str]:
    """Each variable that the server reads."""
    yield "## Settings\n\n| variable | default | meaning |\n|---|---|---|"
    yield (
        f"| `{BUDGET_VARIABLE}` | `{DEFAULT_BUDGET_S:g}` | "
        "The budget: how long a caller waits, in seconds, before the call goes to the background. |"
    )
    texts = dict(_items(inspect.getdoc(Settings) or "", "Attributes"))
    for each in dataclasses.fields(Settings):
        text, _, default = texts[each.name].partition(" Default: ")
        default = default.rstrip(".") or _shown(each.default)
        yield f"| `{variable(each.name)}` | {_cell(default)} | {_cell(text)} |"
    yield ""


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"`{value:g}`"
    return _default(value) if value not in ("", ()) else ""


def command_line() -> Iterator[str]:
    """Each command with its options."""
    yield "## Command line\n"
    context = click.Context(program, info_name="python-mcp-server", terminal_width=_WIDTH)
    yield from _command(program, context)


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"### {context.command_path}\n\n```\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            if (child := command.get_command(context, name)) is not None:
                yield from _command(child, click.Context(child, context, name, terminal_width=_WIDTH))


def api() -> Iterator[str]:
    """What the package exports, but for its errors."""
    yield "## Python\n\nFrom `python_mcp_server`:\n"
    for name in python_mcp_server.__all__:
        value = getattr(python_mcp_server, name)
        if not (isinstance(value, type) and issubclass(value, BaseException)):
            yield from _described(name, value)


def parts() -> Iterator[str]:
    """The classes that a `JobManager` leads to, and that nobody makes or imports."""
    yield "## Parts of a manager\n\nWhat a `JobManager` has and returns:\n"
    for names in _PARTS:
        module, _, name = names.rpartition(".")
        yield from _described(name, getattr(import_module(f"python_mcp_server.jobs.{module}"), name))


def job_functions() -> Iterator[str]:
    """The plain functions over the default manager."""
    yield "## Functions for jobs\n\nFrom `python_mcp_server.smart_async`, over the default manager:\n"
    module = import_module("python_mcp_server.smart_async")
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isfunction(value) and value.__module__ == functions.__name__:
            yield from _described(name, value)


def _described(name: str, value: Any) -> Iterator[str]:
    yield f"### {name}\n"
    yield f"```text\n{_signature(name, value)}\n```\n"
    yield _document(value)
    if isinstance(value, type):
        yield from _members(value)


def _members(kind: type[Any]) -> Iterator[str]:
    if issubclass(kind, enum.Enum):
        yield "Values: " + ", ".join(f"`{each.value}`" for each in kind) + ".\n"
        return
    for name, member in _own(kind).items():
        plain = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
        is_value = isinstance(plain, (property, cached_property))
        if not (inspect.isfunction(plain) or is_value) or not plain.__doc__:
            continue
        shown = name if is_value else _signature(name, plain)
        yield f"#### {name}\n\n```text\n{shown}\n```\n\n{_document(plain)}"


def _own(kind: type[Any]) -> dict[str, Any]:
    """The public members of a class, but for those that a public base explains."""
    bases = [base for base in kind.__mro__[1:] if base.__name__ in python_mcp_server.__all__]
    private = [base for base in kind.__mro__[1:] if base.__module__.startswith("python_mcp_server")]
    members: dict[str, Any] = {}
    for each in [kind, *(base for base in private if base not in bases)]:
        members = vars(each) | members
    return {
        name: member
        for name, member in members.items()
        if not name.startswith("_") and not any(hasattr(base, name) for base in bases)
    }


def _signature(name: str, value: Any) -> str:
    if isinstance(value, type) and (issubclass(value, enum.Enum) or inspect.isabstract(value)):
        return f"class {name}"
    word = "class " if isinstance(value, type) else "async " if inspect.iscoroutinefunction(value) else ""
    signature = _QUOTED.sub(r"\1\2", str(inspect.signature(value)))
    signature = re.sub(r"<function (\w+) at 0x\w+>", r"\1", signature)
    signature = signature.replace("(self, ", "(").replace("(self)", "()").replace("(cls, ", "(")
    shown = f"{word}{name}{signature}"
    return _wrapped(shown.removesuffix(" -> None") if word == "class " else shown)


def _wrapped(signature: str) -> str:
    """A long signature with a line for each parameter."""
    if len(signature) <= _WIDTH:
        return signature
    head, _, rest = signature.partition("(")
    parts, depth = [""], 0
    for at, character in enumerate(rest):
        depth += (character in "([{") - (character in ")]}")
        if depth < 0:
            return f"{head}(\n" + "".join(f"    {part.strip()},\n" for part in parts) + rest[at:]
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return signature


def _document(value: Any) -> str:
    """A docstring as Markdown: its sections become lists."""
    text = inspect.cleandoc(value.__doc__ or "")
    shown: list[str] = []
    for heading, body in _sections(text):
        if not heading:
            shown.append(body)
            continue
        items = list(_entries(body))
        listed = "\n".join(f"- `{name}`: {each}" if name else each for name, each in items)
        shown.append(f"{heading}:{' ' if not items[0][0] else chr(10) * 2}{listed}")
    return "\n\n".join(shown) + "\n"


def _sections(text: str) -> Iterator[tuple[str, str]]:
    heading, lines = "", list[str]()
    for line in text.splitlines():
        if (found := _SECTION.match(line)) is not None:
            yield heading, "\n".join(lines).strip()
            heading, lines = found[1], []
        else:
            lines.append(line)
    yield heading, "\n".join(lines).strip("\n")


def _entries(body: str) -> Iterator[tuple[str, str]]:
    """The entries of a section, each with its name; what has no name is one text."""
    found: list[tuple[str, str]] = []
    for line in inspect.cleandoc(body).splitlines():
        start = _ITEM.match(line)
        if start is not None:
            found.append((start[1], start[2]))
        elif found:
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip()}")
        else:
            found.append(("", line.strip()))
    yield from found


def _items(text: str, wanted: str) -> Iterator[tuple[str, str]]:
    for heading, body in _sections(text):
        if heading == wanted:
            yield from _entries(body)


def error_tree() -> Iterator[str]:
    """The classes of errors, and why a job can have failed."""
    tree, _, kinds = inspect.cleandoc(errors.__doc__ or "").partition("Kinds of failed jobs")
    yield "## Errors\n\n```text\n" + _indented(tree) + "\n```\n"
    for name in python_mcp_server.__all__:
        value = getattr(python_mcp_server, name)
        if isinstance(value, type) and issubclass(value, BaseException):
            yield f"- `{name}`: " + _cell(_document(value))
    yield "\n`error_kind` of a failed job:\n\n```text\n" + _indented(kinds) + "\n```\n"


def _indented(text: str) -> str:
    """The first indented block of a text."""
    block = re.search(r"(?:^ +.*\n?)+", text, re.MULTILINE)
    return inspect.cleandoc("\n" + block[0]) if block else ""


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
