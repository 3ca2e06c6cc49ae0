"""Code as it is written into the file that runs."""

from __future__ import annotations

import pytest

from python_mcp_server.runner.inline import as_utf8


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
