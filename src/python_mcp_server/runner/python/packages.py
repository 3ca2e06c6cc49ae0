"""What an environment is to hold: the packages of a header, or of anything else that says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from python_mcp_server.runner.python.pep723 import Header, check_requirements, render
from python_mcp_server.runner.python.requirements import local_path, stamp
from python_mcp_server.runner.python.uv import Uv


class Packages(Protocol):
    """What an environment is to hold."""

    @property
    def facts(self) -> Sequence[str]:
        """What is another environment when it changes."""
        ...

    @property
    def name(self) -> str:
        """What is installed, for the sentence that says that it cannot be."""
        ...

    @property
    def way_out(self) -> str:
        """What that sentence says of what to do; empty where the resolver's words are all."""
        ...

    @property
    def task(self) -> str:
        """What is done, for progress."""
        ...

    def check(self) -> None:
        """Refuse what is wrong before anything is started.

        Raises:
            InvalidInput: The text names it.
        """
        ...

    def install(self, uv: Uv, python: str) -> bool:
        """Let uv install them for an interpreter; return whether there was anything to install.

        Raises:
            UvRefused: They cannot be had.
        """
        ...


@dataclass(frozen=True, slots=True)
class HeaderPackages:
    """The packages of a header, and where its `[tool.uv]` says that they come from."""

    header: Header

    @property
    def facts(self) -> Sequence[str]:
        """The requirements, with what changes when one that lies on this machine does."""
        return (*(f"{wanted} {_stamp(wanted)}" for wanted in self._wanted), self.header.tool_text)

    @property
    def name(self) -> str:
        """The requirements."""
        return f"dependencies {', '.join(self._wanted)}"

    @property
    def way_out(self) -> str:
        """The resolver names the requirement."""
        return ""

    @property
    def task(self) -> str:
        """How many there are, and which."""
        count = len(self._wanted)
        if not count:
            return "preparing an environment"
        what = "1 dependency" if count == 1 else f"{count} dependencies"
        return f"installing {what}: {', '.join(self._wanted)}"

    def check(self) -> None:
        """Refuse what is no requirement."""
        check_requirements(self._wanted)

    def install(self, uv: Uv, python: str) -> bool:
        """Install the requirements; what a `[tool.uv]` says, only uv's scripts understand."""
        if not self._wanted:
            return False
        wanted: Sequence[str] = ("--", *self._wanted)
        if self.header.tool_text:
            script, locked = uv.session.folder / "install.py", uv.session.folder / "install.txt"
            script.write_text(render(self.header) + "\n", "utf-8")
            options = ("--no-hashes", "--emit-index-url", "--python", python)
            uv("export", "--script", str(script), *options, "--output-file", str(locked))
            wanted = ("--requirements", str(locked))
        uv("pip", "install", "--python", python, *wanted)
        return True

    @property
    def _wanted(self) -> Sequence[str]:
        return sorted(set(self.header.dependencies))


def _stamp(requirement: str) -> str:
    path = local_path(requirement, Path())
    return "" if path is None else stamp(path)
