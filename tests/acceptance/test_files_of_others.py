"""Over real stdio: files that others wrote, with marks, half merged, not closed, with odd separators."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.acceptance.shared import Shared
from tests.acceptance.support import data, refusal

if TYPE_CHECKING:
    from mcp import Client

HALF_MERGED = "[project]\nname = 'p'\n>>>>>>> theirs\n"
MEND = "open('pyproject.toml', 'wb').write(b'\\xef\\xbb\\xbf[tool.x]\\n')"
NOT_CLOSED = "# /// script\n# dependencies = []\n\nprint()\n"


def test_a_broken_file_is_named_with_its_line_and_a_script_mends_it(ours: Shared, tmp_path: Path):
    async def main(client: Client):
        (tmp_path / "pyproject.toml").write_text(HALF_MERGED)
        call = {"directory": str(tmp_path), "script_content": MEND}
        assert refusal(await client.call_tool("py_run_script_in_dir", call)) == (
            f"{tmp_path / 'pyproject.toml'} cannot be read: line 3 is left of a merge ('>>>>>>> theirs'); "
            "correct it, or run a script without it by use_uv=false"
        )
        for use_uv in (False, True):
            ran = data(await client.call_tool("py_run_script_in_dir", call | {"use_uv": use_uv}))
            assert ran["exit_code"] == 0
        header = refusal(
            await client.call_tool("py_run_script_in_dir", call | {"script_content": NOT_CLOSED})
        )
        assert header.startswith("in line 1 of the script an opening tag (`# /// script`) was found without")

    ours.run(main)


def test_only_line_ends_end_a_line_of_arguments(ours: Shared, tmp_path: Path):
    async def main(client: Client):
        (tmp_path / "items").write_bytes('one\u2029two\x0c\r\n["a\x85", "b"]\r\n'.encode())
        call = {
            "directory": str(tmp_path),
            "script_content": "import sys; print(ascii(sys.argv[1:]))",
            "args_file": "items",
        }
        result = data(await client.call_tool("py_map_script", call))
        assert [item["stdout"] for item in result["items"]] == [
            "['one\\u2029two\\x0c']\n",
            "['a\\x85', 'b']\n",
        ]

    ours.run(main)
