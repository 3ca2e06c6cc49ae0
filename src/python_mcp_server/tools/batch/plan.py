"""What a batch is to do: the caller's parameters, checked, and completed from the batch that is resumed."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, cast

from python_mcp_server.errors import InvalidInput
from python_mcp_server.runner.command import check_arguments
from python_mcp_server.runner.textfile import read_text, split_lines
from python_mcp_server.tools.scripts import existing_directory, existing_script, one_of

_MOST_ITEMS: Final = 100_000
_BLANKS: Final = " \t"


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """What a batch is to do.

    Attributes:
        directory: The working directory of the script, absolute.
        script_path: The script, absolute; None where it is `script_content`.
        script_content: The script's text; None where it is a file.
        args_list: The arguments of each item.
        dependencies: Packages beside those of the script's header.
        python_version: As the caller asked.
        env_file: As the caller gave it.
        variables: The names of the caller's `env_vars`; the values are not stored.
    """

    directory: str
    script_path: str | None
    script_content: str | None
    args_list: tuple[tuple[str, ...], ...]
    dependencies: tuple[str, ...] = ()
    python_version: str | None = None
    env_file: str | None = None
    variables: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> BatchPlan:
        """Return the plan that `to_json` made plain."""
        data = data | {name: tuple(data[name]) for name in ("dependencies", "variables")}
        data["args_list"] = tuple([tuple(args) for args in cast("list[list[str]]", data["args_list"])])
        return cls(**data)


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """The parameters of a call that the plan is made of; None where the caller gave no value."""

    directory: str | None
    script_path: str | None
    script_content: str | None
    args_list: list[list[str]] | None
    args_file: str | None
    dependencies: list[str] | None
    python_version: str | None
    env_file: str | None

    def plan(
        self, before: BatchPlan | None, env_vars: dict[str, str] | None, resume: str | None
    ) -> BatchPlan:
        """Return the plan; what the caller did not give comes from the plan of the resumed batch.

        Raises:
            InvalidInput: A parameter is missing or wrong.
        """
        if self.directory is None and before is None:
            raise InvalidInput("directory is missing; it is needed unless resume is given")
        folder = existing_directory(self.directory or (before.directory if before else ""))
        path, content = self._script(folder, before)
        variables = tuple(env_vars or ())
        if before is not None and (lacking := [name for name in before.variables if name not in variables]):
            raise InvalidInput(
                f"job {resume} had the variables {', '.join(lacking)} in env_vars, which are not kept; "
                "give them again"
            )
        return BatchPlan(
            str(folder),
            path,
            content,
            self._arguments(folder, before),
            tuple(self.dependencies or (() if before is None else before.dependencies)),
            self.python_version or (before and before.python_version),
            self.env_file or (before and before.env_file),
            variables,
        )

    def _script(self, folder: Path, before: BatchPlan | None) -> tuple[str | None, str | None]:
        path, content = self.script_path, self.script_content
        if before is not None and path is None and content is None:
            path, content = before.script_path, before.script_content
        one_of(path, content)
        return None if path is None else str(existing_script(path, folder)), content

    def _arguments(self, folder: Path, before: BatchPlan | None) -> tuple[tuple[str, ...], ...]:
        if self.args_list is not None and self.args_file is not None:
            raise InvalidInput("args_list and args_file are both given; give one of the two")
        if self.args_list is None and self.args_file is None:
            if before is None:
                raise InvalidInput("args_list is missing; give the arguments of each item, or args_file")
            return before.args_list
        lists: Any = self.args_list if self.args_file is None else _read_arguments(folder, self.args_file)
        if not 0 < len(lists) <= _MOST_ITEMS:
            raise InvalidInput(f"there are {len(lists)} argument lists; give between 1 and {_MOST_ITEMS}")
        for number, args in enumerate(lists):
            if not isinstance(args, list):
                raise InvalidInput(f"args_list[{number}] is {args!r}; it must be a list of texts")
            check_arguments(cast("list[str]", args))
        return tuple(map(tuple, lists))


def _read_arguments(folder: Path, args_file: str) -> list[Any]:
    path = folder / os.path.expanduser(args_file)
    if not os.path.isfile(path):  # unlike a Path, this returns False for a bad name
        raise InvalidInput(f"args_file {args_file!r} does not exist as a file (looked at {str(path)!r})")
    lines = split_lines(read_text(path, f"args_file {args_file!r}"))
    return [_arguments_in(line, number) for number, line in enumerate(lines, 1) if line.strip(_BLANKS)]


def _arguments_in(line: str, number: int) -> list[str]:
    """Return the arguments that one line holds."""
    if not line.lstrip(_BLANKS).startswith("["):
        return [line]
    try:
        args: Any = json.loads(line)
    except ValueError as error:
        raise InvalidInput(f"args_file has no JSON list in line {number}: {error}") from None
    if not all(isinstance(arg, str) for arg in args):
        raise InvalidInput(f"args_file has {line.strip()[:80]!r} in line {number}; each must be a text")
    return args
