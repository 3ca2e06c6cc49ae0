"""Code as it is written into the file that runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from python_mcp_server.runner.inline import as_utf8, short_names


@pytest.mark.parametrize(
    ("source", "written"),
    [
        ("# coding: latin-1\n'\u00e9'", "# coding: utf-8\n'\u00e9'"),
        ("#!/bin/x\r\n# -*- coding:cp1252 -*-\r\n'\u00e9'", "#!/bin/x\r\n# -*- coding:utf-8 -*-\r\n'\u00e9'"),
        ("\ufeff# coding=latin-1\n# coding=cp1252\n'\u00e9'", "# coding=utf-8\n# coding=cp1252\n'\u00e9'"),
    ],
)
def test_text_that_names_another_encoding_names_utf8_instead(source: str, written: str) -> None:
    assert as_utf8(source) == written


@pytest.mark.parametrize(
    "source",
    [
        "# coding: latin-1\n'e'",
        "# coding: UTF8\n'\u00e9'",
        "# coding: no-such\n'\u00e9'",
        "x = 1\n# coding: latin-1\n'\u00e9'",
        "'\u00e9' # coding: latin-1",
    ],
)
def test_text_that_reads_the_same_in_utf8_or_that_is_wrong_anyway_stays(source: str) -> None:
    assert as_utf8(source) == source


def test_the_file_of_inline_code_has_a_short_name_where_python_names_it(tmp_path: Path):
    path = tmp_path / "script.py"
    form = '  File "{0}", line 3, in f\n{0}:7: UserWarning: x\nwhere: {1}\n  File "{1}x", line 1\n'
    said, short = form.format(path, path), form.format("script.py", path)
    assert short_names(said, tmp_path) == short
    assert short_names("nothing of it", tmp_path) == "nothing of it"
