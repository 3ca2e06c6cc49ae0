"""What is known of a main file before a worker runs it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from python_mcp_server.pool.main_module import MainFile, MainModule

GUARD = "if __name__ == '__main__':\n    late = 1\n"


@pytest.fixture
def main_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def make(source: str) -> MainModule:
        path = tmp_path / "served.py"
        path.write_text(source, encoding="utf-8")
        module = ModuleType("__main__")
        module.__file__ = str(path)
        for name in ("__main__", "__mp_main__"):
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr("python_mcp_server.pool.main_module.LOADED_AT", path.stat().st_mtime + 1)
        return MainModule()

    return make


@pytest.mark.parametrize(
    "guard",
    [
        'if __name__ == "__main__":\n    pass',
        'if "__main__" == __name__:\n    pass',
        'import sys\nif __name__ == "__main__" and sys.argv:\n    pass\nelse:\n    x = 1',
        '\ufeffif __name__ == "__main__": pass',
    ],
)
def test_a_main_guard_is_recognised_in_its_usual_forms(guard: str, main_of):
    assert isinstance(main_of(guard).file, MainFile)


@pytest.mark.parametrize(
    "top",
    [
        "x = 1",
        'if __name__ != "__main__":\n    raise SystemExit',
        'if __name__ == "__main__" or True:\n    pass',
        'if __name__ == "served":\n    pass',
        'def main():\n    if __name__ == "__main__":\n        pass',
    ],
)
def test_other_conditions_are_no_main_guard(top: str, main_of):
    assert "has no `if __name__" in str(main_of(top).file)


def test_a_file_that_is_not_python_is_not_loaded(main_of):
    assert "cannot be read as Python" in str(main_of("x = (").file)


def test_names_that_the_program_sets_as_it_runs_are_not_those_of_a_copy(main_of):
    main = main_of(
        "import os.path as p, json.decoder\nfrom x import y as z\na, (b, *c) = 1, (2, 3)\n"
        "def f():\n    global g\n    g = inner = 1\ng = 0\nlate = 0\n"
        "try:\n    class K: k = 1\nexcept ValueError as e: pass\nfor i in (): pass\n" + GUARD
    )
    assert isinstance(main.file, MainFile)
    found = [name for name in ["p", "json", "z", "a", "b", "c", "f", "K", "e", "i"] if main.has([name])]
    assert found == ["p", "json", "z", "a", "b", "c", "f", "K", "e", "i"]
    assert not any(main.has([name]) for name in ("g", "late", "inner", "k", "y", "os"))


@pytest.mark.parametrize(
    ("top", "sets_up"),
    [
        (
            '"""Text."""\nimport os\nx: int = 1\ny = [1]\n@staticmethod\ndef f(): g()\nclass K: h()',
            False,
        ),
        ("try:\n    import x\nexcept ImportError:\n    x = None\nif x:\n    y = 1", False),
        ("configure()", True),
        ("settings.level = 1", True),
        ("settings['level'] = 1", True),
        ("if True:\n    configure()", True),
        ("with a: pass", True),
        ("for n in (1, 2): pass", True),
        ("try:\n    pass\nfinally:\n    configure()", True),
    ],
)
def test_top_level_code_beyond_definitions_counts_as_set_up(top: str, sets_up: bool, main_of):
    main = main_of(f"{top}\n{GUARD}")
    assert isinstance(main.file, MainFile)
    assert main.sets_up is sets_up
