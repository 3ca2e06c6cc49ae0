"""PEP 723: the header of a script, a comment block `# /// script`.

The expression that finds it never goes back over a line: one that did took 28 s for 240 KB of `#`.

https://peps.python.org/pep-0723/
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeGuard, cast

from python_mcp_server.errors import InvalidInput
from python_mcp_server.runner.textfile import parse_toml

_TAG: Final = "# /// script"
_END: Final = "# ///"
_COMMENTS: Final = re.compile(r"^# /// script(?:\n#(?: [^\n]*)?+(?=\n|\Z))*+(?:\n|\Z)", re.MULTILINE)
"""A tag with the comments that follow it, in one pass."""
_MOST_CHARS: Final = 1 << 16
"""The longest header; guessed: a thousand packages."""
_TOKEN: Final = re.compile(r"""\"{3}|'{3}|"(?:[^"\\]|\\.)*"|'[^']*'|\#|[\[\]{}]""")
"""What begins or ends something in a line of TOML."""
_STRING_ENDS: Final = {'"""': re.compile(r'\\.|"{3,5}'), "'''": re.compile(r"'{3,5}")}
"""The quotes that end a string may follow one or two of its text."""
_NAME: Final = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_REWRITTEN: Final = frozenset({"dependencies", "requires-python"})
_KEYS: Final = _REWRITTEN | {"tool"}
_LEADING: Final = re.compile(r"\A(?:\ufeff)?(?:#!.*\n)?(?:#(?=.*coding[:=]).*\n)?")


@dataclass(frozen=True, slots=True)
class Header:
    """The requirements of a script.

    Attributes:
        requires_python: A version specifier, or None.
        dependencies: Requirements in the form of PEP 508.
        tool_text: All other text, so its `[tool.*]` tables with the comments between them.
    """

    requires_python: str | None = None
    dependencies: tuple[str, ...] = ()
    tool_text: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the header under the names of PEP 723."""
        return {"requires-python": self.requires_python, "dependencies": list(self.dependencies)}


def parse_header(source: str) -> Header | None:
    """Return the header of a script, or None where it has none.

    Raises:
        InvalidInput: There are several headers, or the header is not closed or not valid.
    """
    if _TAG not in source:
        return None
    text = _unix_lines(source)
    opening = _COMMENTS.search(text)
    if opening is None:
        return None
    blocks = _blocks(text)
    if not blocks or blocks[0].start != opening.start():
        raise InvalidInput(_not_closed(text.count("\n", 0, opening.start()) + 1, opening[0].split("\n")[1:]))
    if len(blocks) > 1:
        raise InvalidInput(f"the script has {len(blocks)} '# /// script' blocks; PEP 723 permits one")
    return _parse_block(_content(text[blocks[0]].split("\n")[1:-1]))


def _blocks(text: str) -> list[slice]:
    """Return where each header is, from its tag to its end.

    A header ends at the last end in its comment block, so without one there, no later opening ends either.
    """
    found: list[slice] = []
    for block in _COMMENTS.finditer(text):
        comments = block[0].removesuffix("\n") + "\n"
        end = comments.rfind(f"\n{_END}\n")
        if end >= 0:
            found.append(slice(block.start(), block.start() + end + len(_END) + 1))
    return found


def with_header(source: str, dependencies: Sequence[str] | None, requires_python: str | None) -> str:
    """Return the script with these facts in its header; the present facts are kept.

    A requirement replaces the one for the same package.

    Raises:
        InvalidInput: The present header or one of the given values is not valid.
    """
    check_requirements(dependencies or ())
    if requires_python:
        check_specifier(requires_python, "requires_python")
    present = parse_header(source)
    if not dependencies and not requires_python:
        return source
    present = present or Header()
    header = Header(
        requires_python or present.requires_python,
        merge(present.dependencies, dependencies or ()),
        present.tool_text,
    )
    text = _unix_lines(source)
    block = render(header)
    if found := _blocks(text):
        return f"{text[: found[0].start]}{block}{text[found[0].stop :]}"
    start = _LEADING.match(text)
    at = start.end() if start else 0
    apart = "\n" if text.startswith("#", at) else ""  # comments below would belong to the header
    return f"{text[:at]}{block}\n{apart}{text[at:]}"


def merge(first: Sequence[str], second: Sequence[str]) -> tuple[str, ...]:
    """Return both lists; a requirement of `second` replaces one of `first` for the same package."""
    replaced = {_package(requirement) for requirement in second}
    kept = [requirement for requirement in first if _package(requirement) not in replaced]
    return tuple(dict.fromkeys([*kept, *second]))


def check_requirements(requirements: Sequence[str]) -> None:
    """Refuse texts that are not requirements.

    Raises:
        InvalidInput: The text names the first wrong requirement.
    """
    if not requirements:
        return
    from packaging.requirements import InvalidRequirement, Requirement

    for requirement in requirements:
        try:
            Requirement(requirement)
        except (InvalidRequirement, TypeError, AttributeError, RecursionError):
            raise InvalidInput(
                f"dependency {requirement!r} is no requirement; write 'name', 'name>=1.2' or 'name @ URL'"
            ) from None


def check_specifier(specifier: str, name: str) -> None:
    """Refuse a text that is not a version specifier.

    Raises:
        InvalidInput: The text names the argument and its value.
    """
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        SpecifierSet(specifier)
    except InvalidSpecifier:
        raise InvalidInput(f"{name} is {specifier!r}; write a version specifier such as '>=3.11'") from None


def _not_closed(number: int, comments: list[str]) -> str:
    """Describe the fault of an unclosed header, in the words of uv."""
    where = f"in line {number} of the script"
    for line in comments:
        if line.startswith("# ///"):
            return (
                f"{where} an opening tag (`# /// script`) was found, but the closing tag (`# ///`) has "
                "trailing content; remove the trailing content so the line is exactly `# ///`"
            )
    return (
        f"{where} an opening tag (`# /// script`) was found without a closing tag (`# ///`); ensure that "
        "every line between the opening and closing tags (including empty lines) starts with a leading `#`"
    )


def _parse_block(content: str) -> Header:
    if len(content) > _MOST_CHARS:
        raise InvalidInput(
            f"the script's '# /// script' header has {len(content)} characters; it may have {_MOST_CHARS}"
        )
    try:
        data = parse_toml(content)
    except ValueError as error:
        raise InvalidInput(f"the script's '# /// script' header is no valid TOML: {error}") from None
    if unknown := sorted(data.keys() - _KEYS):
        known = ", ".join(sorted(_KEYS))
        raise InvalidInput(f"the script's header has the key {unknown[0]!r}; PEP 723 knows {known}")
    requires, dependencies = data.get("requires-python"), data.get("dependencies", [])
    if requires is not None and not isinstance(requires, str):
        raise InvalidInput(
            f"the script's header has requires-python = {requires!r}; it must be text such as '>=3.11'"
        )
    if not _is_texts(dependencies):
        raise InvalidInput(f"the script's header has dependencies = {dependencies!r}; it must list texts")
    return Header(requires, tuple(dependencies), _rest(content) if "tool" in data else "")


def _rest(content: str) -> str:
    """Return the text without the keys that are rewritten: statement by statement up to the first table."""
    lines = content.split("\n")
    kept: list[str] = []
    begin = 0
    while begin < len(lines) and not lines[begin].lstrip().startswith("["):
        end = _statement_end(lines, begin)
        statement = "\n".join(lines[begin:end])
        if "=" not in statement or not parse_toml(statement).keys() & _REWRITTEN:
            kept += lines[begin:end]
        begin = end
    return "\n".join([*kept, *lines[begin:]]).strip("\n") + "\n"


def _statement_end(lines: list[str], begin: int) -> int:
    """Return the line after the statement of valid TOML that begins in a line."""
    quote, depth = "", 0
    for number in range(begin, len(lines)):
        quote, depth = _open_after(lines[number], quote, depth)
        if not quote and not depth:
            return number + 1
    return len(lines)


def _open_after(line: str, quote: str, depth: int) -> tuple[str, int]:
    """Return which string of several lines, and how many brackets, are open after a line."""
    at = 0
    while True:
        if quote:
            ends = (
                match.end() for match in _STRING_ENDS[quote].finditer(line, at) if match[0].startswith(quote)
            )
            if (end := next(ends, None)) is None:
                return quote, depth
            at, quote = end, ""
        token = _TOKEN.search(line, at)
        if token is None or token[0] == "#":
            return "", depth
        at = token.end()
        quote = token[0] if token[0] in _STRING_ENDS else ""
        depth += (token[0] in "[{") - (token[0] in "]}")


def _is_texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(item, str) for item in cast("list[object]", value))


def render(header: Header) -> str:
    """Return the comment block, without a line end after it."""
    lines: list[str] = []
    if header.requires_python:
        lines.append(f"requires-python = {json.dumps(header.requires_python)}")
    lines.append("dependencies = [" + ("" if header.dependencies else "]"))
    if header.dependencies:
        lines += [f"  {json.dumps(dependency, ensure_ascii=False)}," for dependency in header.dependencies]
        lines.append("]")
    lines += header.tool_text.removesuffix("\n").split("\n") if header.tool_text else []
    return "\n".join(["# /// script", *(f"# {line}" if line else "#" for line in lines), "# ///"])


def _content(lines: list[str]) -> str:
    return "\n".join(line[2:] if line.startswith("# ") else line[1:] for line in lines)


def _package(requirement: str) -> str:
    name = _NAME.match(requirement)
    return re.sub(r"[-_.]+", "-", name[1]).lower() if name else requirement


def _unix_lines(source: str) -> str:
    return source.replace("\r\n", "\n").replace("\r", "\n")
