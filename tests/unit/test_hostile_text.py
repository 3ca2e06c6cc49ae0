"""Parsers of others' text: no text takes them long, or makes them fail in another way than by a sentence."""

from __future__ import annotations

import io
import json
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner
from dotenv import dotenv_values
from hypothesis import given, settings
from hypothesis import strategies as st

from python_mcp_server.cli.options import print_json
from python_mcp_server.errors import InvalidInput
from python_mcp_server.runner.python.environ import given_variables
from python_mcp_server.runner.python.pep723 import check_requirements, parse_header, with_header
from python_mcp_server.runner.python.requirements import FilePackages
from python_mcp_server.runner.textfile import parse_toml
from python_mcp_server.tools.saved import list_scripts, save_script

LONG_S = 10.0
"""What took 28 s, or minutes; it takes a tenth of a second now."""

HEADER = "# /// script\n{}\n# ///\n"
TEXTS = {
    "openings": "# /// script\n" * 20_000,
    "an opening and comments": "# /// script\n" + "#\n" * 120_000,
    "openings between comments": "# /// script\n# a\n" * 10_000,
    "a deep key": HEADER.format("# tool." + "a." * 20_000 + "b = 1"),
    "a deep quoted key": HEADER.format("# tool." + '"a b" . ' * 7_000 + "b = 1"),
    "deep brackets": HEADER.format("# a = " + "[" * 30_000),
    "quotes": HEADER.format("# " + "\"'a" * 20_000),
    "a list of many lines": HEADER.format("# dependencies = [\n" + "# 'a',\n" * 6_000 + "# ]\n# [tool.a]"),
    "quotes in a text": HEADER.format("# a = '" + '\\"' * 30_000 + "'"),
    "an unclosed text": HEADER.format('# a = "' + '\\"' * 30_000),
    "many keys": HEADER.format(
        "# " + "\n# ".join(".".join([f"k{i}", *"a" * 14]) + "=1" for i in range(1_900))
    ),
    "a line of encodings": "#" + "coding:" * 60_000,
    "a large header": HEADER.format("# a = 1\n" * 100_000),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_a_hostile_header_takes_no_time(kind: str) -> None:
    began = time.process_time()
    for read in (parse_header, lambda text: with_header(text, ["six"], None)):
        with suppress(InvalidInput):
            read(TEXTS[kind])
    assert time.process_time() - began < LONG_S


HEADERS = st.lists(
    st.sampled_from(["# /// script", "# ///", "#", "# ", "# dependencies = [", "# 'six',", "# ]", "x = 1",
                     "# requires-python = '>=3'", "# [tool.a]", "# b = '''", "# '''",
                      "# c.d = {e = 1}", "\r", ""]),
    max_size=12,
)  # fmt: skip


@given(HEADERS.map("\n".join) | st.text(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_header_is_read_or_refused_and_reads_back(text: str) -> None:
    try:
        before = parse_header(text)
        after = parse_header(with_header(text, ["six"], ">=3.11"))
    except InvalidInput:
        return
    assert after is not None
    assert "six" in after.dependencies
    assert after.requires_python == ">=3.11"
    assert after.tool_text.strip() == (before.tool_text.strip() if before else "")


@given(st.text(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_requirement_and_any_toml_is_read_or_refused(text: str) -> None:
    for read, refusal in (
        (lambda: check_requirements([text]), InvalidInput),
        (lambda: parse_toml(text), ValueError),
    ):
        with suppress(refusal):
            read()


@pytest.mark.parametrize(
    "line", ["[" * 200_000, "a" + " " * 200_000 + "b", "a@" * 100_000, "./a" + " #" * 99_999]
)
def test_a_hostile_line_of_requirements_takes_no_time(tmp_path: Path, line: str) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text(line)
    began = time.process_time()
    FilePackages.read(file)
    assert time.process_time() - began < LONG_S


VARIABLES = {
    "blanks": "A=b" + " " * 200_000 + "c",
    "doubled": "A0=xxxxxxxxxx\n" + "".join(f"A{i + 1}=${{A{i}}}${{A{i}}}\n" for i in range(60)),
    "openings": "A=" + "${" * 100_000 + ":}",
    "defaults": "A=" + "${a:-" * 50_000,
}


@pytest.mark.parametrize("kind", VARIABLES)
def test_a_hostile_file_of_variables_takes_neither_time_nor_memory(tmp_path: Path, kind: str) -> None:
    (tmp_path / "v.env").write_text(VARIABLES[kind])
    began = time.process_time()
    with suppress(InvalidInput):
        assert sum(map(len, given_variables(None, "v.env", tmp_path).values())) < 1 << 21
    assert time.process_time() - began < LONG_S


@given(
    st.lists(st.sampled_from(["${A}", "${B:-c}", "${", "}", ":-", "$", "A", "x"]), max_size=12).map("".join)
)
@settings(max_examples=200, deadline=None)
def test_variables_are_put_in_as_dotenv_does(text: str) -> None:
    source = f"A=1\nC={text}\n"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "v.env").write_text(source)
        assert given_variables(None, "v.env", Path(folder)) == dotenv_values(stream=io.StringIO(source))


def test_no_error_repeats_what_follows_the_sign_in_the_name_of_a_variable(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="'TOKEN' and '='") as caught:
        given_variables({"TOKEN=hunter2": ""}, None, tmp_path)
    assert "hunter2" not in str(caught.value)


SOURCES = {
    "signs": "-" * 6_000 + "1",
    "brackets": "(" * 3_000,
    "sums": "+".join("1" * 50_000),
    "calls": "parser.add_argument('--a', default=" + "-" * 900 + "1)\n",
    "nulls": "\0" * 100,
    "numbers": "x = " + "1" * 10_000,
    "indents": "\n".join(" " * depth + "if 1:" for depth in range(200)),
    "escapes": "x = '\\N{" + "a" * 10_000 + "}'",
    "a default of many digits": "p.add_argument('--a', default=0x" + "f" * 5_000 + ")",
    "calls in calls": "add_argument('a', default=" * 90 + "[" + "1," * 100_000 + "]" + ")" * 90,
    "halves of characters": "# \ud800",
}


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHON_MCP_SCRIPTS_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("kind", SOURCES)
def test_a_hostile_script_is_saved_or_refused_and_listed_beside_others(scripts: Path, kind: str) -> None:
    save_script("good", '"""Says good."""\n')
    try:
        written = save_script("hostile", SOURCES[kind])["written"]
    except InvalidInput:
        written = False
    assert (scripts / "hostile.py").exists() is written
    listed = {script["name"]: script for script in list_scripts()["scripts"]}
    assert listed["good"]["docstring"] == "Says good."
    assert ("hostile" in listed) is written


@pytest.mark.parametrize("name", ["os", "json.py", "e\u0301", "a\u202eb", "a\u200bb", "\ufeffa"])
def test_a_name_that_misleads_is_not_saved_and_what_is_there_still_runs(scripts: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match=r"module of Python|not seen") as caught:
        save_script(name, "")
    assert str(caught.value).isprintable()
    (scripts / "os.py").touch()
    assert [script["name"] for script in list_scripts()["scripts"]] == ["os"]


def test_json_shows_no_character_that_a_terminal_obeys() -> None:
    import click

    data = {"label": "a\x1b[2J\x7f\x9b\u202e\u2028\u2066\u200b\ufeffé日本\U0001f600\U000e0001"}
    printed = CliRunner().invoke(click.command()(lambda: print_json(data))).output
    assert json.loads(printed) == data
    assert all(line.isprintable() for line in printed.split("\n"))
    assert "é日本\U0001f600" in printed


TEXTS_IN_TOML = [
    'dependencies = ["""foo; sys_platform == "linux"""", "bar @ https://h/b-1-py3-none-any.whl#sha256=00"]',
    "dependencies = ['''foo; sys_platform == 'linux'''', 'bar @ https://h/b#sha256=00']",
    'dependencies = ["a"] # ' + "x." * 70,
    'dependencies = ["a @ https://h/' + "x." * 70 + '"]',
    "dependencies = ['''" + "x." * 70 + "''']",
]


@pytest.mark.parametrize("line", TEXTS_IN_TOML)
def test_what_a_text_or_a_comment_says_is_no_structure(line: str) -> None:
    source = HEADER.format(f"# {line}\n# [[tool.uv.index]]\n# url = 'https://x'")
    with suppress(InvalidInput):  # a requirement may be none: what counts is that nothing is lost
        source = with_header(source, ["six"], None)
    header = parse_header(source)
    assert header is not None
    assert header.tool_text == "[[tool.uv.index]]\nurl = 'https://x'\n"


@pytest.mark.parametrize("first", ["# /// other\n# x = 1\n# ///", "# /// Config ///", "# /// script "])
def test_a_header_is_kept_apart_from_the_comments_below_it(first: str) -> None:
    header = parse_header(with_header(f"{first}\nprint(1)\n", ["six"], None))
    assert header is not None
    assert header.dependencies == ("six",)
