"""PEP 723 headers: read, checked, written."""

from __future__ import annotations

import re
import tomllib
import tracemalloc

import pytest

from python_mcp_server.errors import InvalidInput
from python_mcp_server.runner.python.pep723 import (
    Header,
    check_requirements,
    merge,
    parse_header,
    with_header,
)

SCRIPT = """\
#!/usr/bin/env python
# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "requests[socks]<3",
#   "rich",
# ]
#
# [tool.uv]
# exclude-newer = "2025-01-01T00:00:00Z"
# ///
'''What it does.'''
print(1)
"""


def test_a_header_is_read() -> None:
    header = parse_header(SCRIPT)
    assert header is not None
    assert header.requires_python == ">=3.11"
    assert header.dependencies == ("requests[socks]<3", "rich")
    assert header.tool_text.startswith("[tool.uv]\n")


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_a_header_with_other_line_ends_is_read(end: str) -> None:
    assert parse_header(SCRIPT.replace("\n", end)) == parse_header(SCRIPT)


def test_a_header_is_read_in_the_middle_and_where_it_says_nothing() -> None:
    assert parse_header("x = 1\n" + SCRIPT) == parse_header(SCRIPT)
    assert parse_header("# see '# /// script'\n" + SCRIPT) == parse_header(SCRIPT)
    assert parse_header("# /// script\n# ///\n") == Header()


def test_only_lf_cr_and_both_end_a_line_of_a_header() -> None:
    header = parse_header('# /// script\n# dependencies = ["a\u2028"] # \x85 \u2029\n# ///\n')
    assert header == Header(None, ("a\u2028",))


@pytest.mark.parametrize(
    "source",
    [
        "",
        "print(1)\n",
        "# /// other\n# a = 1\n# ///\n",
        "  # /// script\n  # ///\n",
        "#/// script\n# ///\n",
        "# /// script x\n",
        "x = '# /// script'\n",
    ],
)
def test_a_script_without_a_header_has_none(source: str) -> None:
    assert parse_header(source) is None


NOT_CLOSED = "without a closing tag (`# ///`); ensure that every line between"
TRAILING = ", but the closing tag (`# ///`) has trailing content; remove"


@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        ("# /// script\nprint(1)\n", 1, NOT_CLOSED),
        ("# /// script", 1, NOT_CLOSED),
        ('#!python\n# /// script\n# dependencies = [\n#   "a"\n#\n\n# ]\n# ///\n', 2, NOT_CLOSED),
        ("# /// script\n#dependencies = []\n# ///\n", 1, NOT_CLOSED),
        ("# /// script\n#\tdependencies = []\n# ///\n", 1, NOT_CLOSED),
        ("# /// script\r\n# dependencies = []\r\n#///\r\n", 1, NOT_CLOSED),
        ("# /// script\n\n" + SCRIPT, 1, NOT_CLOSED),
        ('x = """\n# /// script\n"""\n', 2, NOT_CLOSED),
        ("# /// script\n# dependencies = []\n# /// \n", 1, TRAILING),
        ("# /// script\n# dependencies = []\n# ///end\n", 1, TRAILING),
    ],
)
def test_a_header_that_is_not_closed_is_refused_as_uv_does(source: str, line: int, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_header(source)
    assert words in str(refused.value)
    start = f"in line {line} of the script an opening tag (`# /// script`) was found"
    assert str(refused.value).startswith(start)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("dependencies = [", "no valid TOML"),
        ("dependencies = 'rich'", "'rich'"),
        ("dependencies = [1]", "[1]"),
        ("requires-python = 3.11", "3.11"),
        ("depends = []", "'depends'"),
    ],
)
def test_a_wrong_header_is_refused_by_name(content: str, named: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_header(f"# /// script\n# {content}\n# ///\n")
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)


def test_two_headers_are_refused() -> None:
    block = "# /// script\n# dependencies = []\n# ///\n\n"
    with pytest.raises(InvalidInput, match="2 '# /// script' blocks"):
        parse_header(block * 2)


def test_a_header_is_written_after_the_interpreter_line_and_reads_back() -> None:
    written = with_header("#!/usr/bin/python\n# -*- coding: utf-8 -*-\nx = 1\n", ["numpy>=2"], ">=3.12")
    assert written.startswith("#!/usr/bin/python\n# -*- coding: utf-8 -*-\n# /// script\n")
    assert written.endswith("# ///\nx = 1\n")
    assert parse_header(written) == Header(">=3.12", ("numpy>=2",))


def test_merging_keeps_what_the_header_says_and_replaces_the_same_package() -> None:
    header = parse_header(with_header(SCRIPT, ["Requests==2.32", "six"], None))
    before = parse_header(SCRIPT)
    assert header is not None
    assert before is not None
    assert header.dependencies == ("rich", "Requests==2.32", "six")
    assert (header.requires_python, header.tool_text) == (before.requires_python, before.tool_text)


def test_writing_the_same_header_again_changes_nothing() -> None:
    once = with_header(SCRIPT, ["six"], ">=3.11")
    assert with_header(once, ["six"], ">=3.11") == once


def test_without_anything_to_add_the_source_stays_as_it_is() -> None:
    assert with_header("x = 1\r\n", None, None) == "x = 1\r\n"


def test_names_of_packages_are_compared_as_the_index_does() -> None:
    assert merge(["Typing_Extensions>=4", "a"], ["typing-extensions==4.12"]) == (
        "a",
        "typing-extensions==4.12",
    )


@pytest.mark.parametrize("wrong", ["", "-e .", "a b", "numpy=>2", "--index-url x"])
def test_what_is_no_requirement_is_refused_by_name(wrong: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_requirements(["numpy", wrong])
    assert repr(wrong) in str(refused.value)


def test_a_wrong_specifier_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="requires_python is 'three'"):
        with_header("x = 1\n", None, "three")


@pytest.mark.parametrize(
    "content",
    [
        "tool.uv.exclude-newer = '2025-01-01'\ndependencies = [\n  'a', # [tool]\n]\nrequires-python = '>=3'",
        'dependencies = [\'a\']\n\n[tool.x]\nlists = [\n  [1],\n[2]]\n\n[[tool.x.y]]\nz = """\n[no]\n"""',
        "'dependencies' = [ 'a' ]\ntool = { uv = { offline = true } } # kept",
        "# said\n[tool.x]\ntext = '\u2028 \x85 \N{SNOWMAN}'",
        "[tool.x]",
    ],
)
def test_tables_of_other_tools_survive_a_change_of_the_header_as_they_are(content: str) -> None:
    source = "# /// script\n" + "".join(f"# {line}\n" if line else "#\n" for line in content.split("\n"))
    written = with_header(source + "# ///\nx = 1\n", ["b>=2"], ">=3.12")
    before, after = (tomllib.loads(body(text)) for text in (source + "# ///\n", written))
    assert after["tool"] == before["tool"]
    assert after["requires-python"] == ">=3.12"
    assert after["dependencies"] == [*before.get("dependencies", []), "b>=2"]
    assert with_header(written, ["b>=2"], ">=3.12") == written
    assert written.endswith("# ///\nx = 1\n")


def body(source: str) -> str:
    """The TOML of a header, as PEP 723 has it read."""
    found = re.search(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$", source)
    assert found is not None
    lines = found["content"].split("\n")
    return "\n".join(line[2:] if line.startswith("# ") else line[1:] for line in lines)


@pytest.mark.parametrize("rest", ["\n", "# \n", "x\n"])
def test_a_header_is_found_without_a_copy_of_the_script(rest: str) -> None:
    script = '# /// script\n# dependencies = ["six"]\n# ///\n\n' + rest * 1_000_000
    tracemalloc.start()
    try:
        header = parse_header(script)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert header is not None
    assert header.dependencies == ("six",)
    assert peak_bytes < len(script)
