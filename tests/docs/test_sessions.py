"""What the pages show is what happens: the `console` blocks, the SDK's client over HTTP, and the arguments
of the tools.

In a `console` block a line that begins with `$ ` is a command, which goes on in indented lines; below it is
what it prints, with "..." for what is different each time. A server over HTTP is there where the page says
port 8000.
"""

from __future__ import annotations

import doctest
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import pytest

from python_mcp_server.server.app import create_server
from tests.acceptance.over_http import TOKEN, served
from tests.helpers import ROOT, environment, run, run_python

if TYPE_CHECKING:
    from tests.acceptance.over_http import Served

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
HERE = "127.0.0.1:8000"
MARK = "\x1e"
ANY = re.compile(
    r"^#+ (?P<heading>[^\n]*)$|^```(?P<kind>[^\n]+)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL
)
LAX = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
OURS = f'python-mcp-server() {{ "{sys.executable}" -m python_mcp_server "$@"; }}\n'


@dataclass(frozen=True)
class Block:
    """What stands between two fences of a page, and the heading above it."""

    page: Path
    heading: str
    text: str


def blocks(kind: str) -> Iterator[Block]:
    for page in PAGES:
        heading = ""
        for found in ANY.finditer(page.read_text("utf-8")):
            heading = found["heading"] or heading
            if found["kind"] == kind:
                yield Block(page, heading, found["text"])


def every(kind: str) -> pytest.MarkDecorator:
    """Run a test for each block of this kind."""
    return pytest.mark.parametrize(
        "block", list(blocks(kind)), ids=lambda block: f"{block.page.name}: {block.heading}"
    )


def commands(text: str) -> list[tuple[str, str]]:
    """Return the commands of a `console` block, each with what it prints."""
    return re.findall(r"^\$ (.*\n(?: .*\n)*)((?:(?!\$ ).*\n)*)", text, re.MULTILINE)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as server:
        yield server


@pytest.fixture
def env(server: Served) -> dict[str, str]:
    return environment(PYTHON_MCP_HTTP_TOKEN=TOKEN, PYTHON_MCP_HOME=str(server.home))


@every("console")
def test_a_console_block_shows_what_its_commands_print(
    block: Block, server: Served, env: dict[str, str], tmp_path: Path
) -> None:
    wanted = commands(block.text)
    program = OURS + "".join(f"{command}printf '{MARK}'\n" for command, _ in wanted)
    program = program.replace(HERE, f"127.0.0.1:{server.port}")
    done = subprocess.run(
        ["bash", "-c", program],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for (command, expected), printed in zip(wanted, done.stdout.split(MARK), strict=False):
        said = "\n".join(filter(None, printed.splitlines()))
        assert doctest.OutputChecker().check_output(expected.strip(), said.strip(), LAX), (command, said)


def test_the_sdks_client_on_the_page_gets_its_result(
    server: Served, env: dict[str, str], tmp_path: Path
) -> None:
    (code,) = (block.text for block in blocks("python no-run") if "httpx2" in block.text)
    program = tmp_path / "client.py"
    program.write_text(code.replace(HERE, f"127.0.0.1:{server.port}"), "utf-8")
    done = run_python(program, env=env)
    assert (done.stdout, done.returncode) == ("42\n\n", 0), done.stderr


def test_the_arguments_that_the_pages_show_fit_their_tools() -> None:
    tools = {tool.name: tool.input_schema for tool in run(create_server().list_tools())}
    shown = [(block.heading, json.loads(block.text)) for block in blocks("json") if block.heading in tools]
    assert len(shown) >= 3
    for tool, arguments in shown:
        jsonschema.validate(arguments, tools[tool])
        assert arguments.keys() <= tools[tool]["properties"].keys(), tool


@every("json")
def test_json_on_the_pages_is_json(block: Block) -> None:
    assert json.loads(block.text)


@every("toml")
def test_toml_on_the_pages_is_toml(block: Block) -> None:
    assert tomllib.loads(block.text)
