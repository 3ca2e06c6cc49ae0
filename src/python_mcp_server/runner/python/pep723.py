"""PEP 723: the header of a script, a comment block `# /// script`.

https://peps.python.org/pep-0723/
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeGuard, cast

from python_mcp_server.errors import InvalidInput

_TAG: Final = "# /// script"
_OPENING: Final = re.compile(rf"(?m)^{_TAG}$")
_BLOCK: Final = re.compile(rf"(?m)^{_TAG}$\n(?P<content>(?:^#(?:| .*)$\n)*)^# ///$")
_NAME: Final = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_REWRITTEN: Final = frozenset({"dependencies", "requires-python"})
_KEYS: Final = _REWRITTEN | {"tool"}
_LEADING: Final = re.compile(r"\A(?:\ufeff)?(?:#!.*\n)?(?:#.*coding[:=].*\n)?")


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
    opening = _OPENING.search(text)
    if opening is None:
        return None
    blocks = list(_BLOCK.finditer(text))
    if not blocks or blocks[0].start() != opening.start():
        raise InvalidInput(_not_closed(text, opening))
    if len(blocks) > 1:
        raise InvalidInput(f"the script has {len(blocks)} '# /// script' blocks; PEP 723 permits one")
    return _parse_block(_content(blocks[0]))


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
    if (found := _BLOCK.search(text)) is not None:
        return text[: found.start()] + block + text[found.end() :]
    start = _LEADING.match(text)
    at = start.end() if start else 0
    return f"{text[:at]}{block}\n{text[at:]}"


def merge(first: Sequence[str], second: Sequence[str]) -> tuple[str, ...]:
    """Return both lists of requirements; a requirement of `second` replaces the one of `first` for the same
    package.
    """
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
        except (InvalidRequirement, TypeError, AttributeError):
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


def _not_closed(text: str, opening: re.Match[str]) -> str:
    """Return what is wrong with a header that is not closed, in the words of uv."""
    number = text.count("\n", 0, opening.start()) + 1
    where = f"in line {number} of the script"
    for line in text[opening.end() + 1 :].split("\n"):
        if line.startswith("# ///"):
            return (
                f"{where} an opening tag (`# /// script`) was found, but the closing tag (`# ///`) has "
                "trailing content; remove the trailing content so the line is exactly `# ///`"
            )
        if line != "#" and not line.startswith("# "):
            break
    return (
        f"{where} an opening tag (`# /// script`) was found without a closing tag (`# ///`); ensure that "
        "every line between the opening and closing tags (including empty lines) starts with a leading `#`"
    )


def _parse_block(content: str) -> Header:
    import tomllib

    try:
        data = tomllib.loads(content)
    except (ValueError, RecursionError) as error:
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
        end = begin + 1
        while (statement := _statement(lines[begin:end])) is None:
            end += 1
        if not statement.keys() & _REWRITTEN:
            kept += lines[begin:end]
        begin = end
    return "\n".join([*kept, *lines[begin:]]).strip("\n") + "\n"


def _statement(lines: list[str]) -> dict[str, Any] | None:
    """Return the parsed statement of these lines, or None where they end within a value."""
    import tomllib

    try:
        return tomllib.loads("\n".join(lines))
    except tomllib.TOMLDecodeError:
        return None


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


def _content(block: re.Match[str]) -> str:
    lines = block["content"].split("\n")  # other ways of splitting know more line ends
    return "\n".join(line[2:] if line.startswith("# ") else line[1:] for line in lines)


def _package(requirement: str) -> str:
    name = _NAME.match(requirement)
    return re.sub(r"[-_.]+", "-", name[1]).lower() if name else requirement


def _unix_lines(source: str) -> str:
    return source.replace("\r\n", "\n").replace("\r", "\n")
