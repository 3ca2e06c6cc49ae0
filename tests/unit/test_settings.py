"""Each setting comes from its variable, and each bad value gets a sentence that names it."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from python_mcp_server import settings as settings_module
from python_mcp_server.errors import InvalidInput
from python_mcp_server.settings import Settings, budget, positive, unknown_variables, variable

GOOD: dict[str, tuple[str, object]] = {
    "home": ("/somewhere/else", Path("/somewhere/else")),
    "max_workers": ("3", 3),
    "max_background_jobs": ("5", 5),
    "max_load": ("1.5", 1.5),
    "max_disk_mb": ("1000.5", 1000.5),
    "keep_days": ("0.5", 0.5),
    "keep_jobs": ("1000", 1000),
    "keep_mb": ("5000.5", 5000.5),
    "store": ("memory://", "memory://"),
    "min_free_memory_mb": ("100", 100.0),
    "spare_workers": ("0", 0),
    "worker_idle_seconds": ("1.5", 1.5),
    "record_after_seconds": ("0", 0.0),
    "cancel_grace_seconds": ("0.25", 0.25),
    "sample_seconds": ("2", 2.0),
    "output_chars": ("100", 100),
    "max_pictures": ("0", 0),
    "max_picture_bytes": ("1000", 1000),
    "scripts_dir": ("/my/scripts", "/my/scripts"),
    "lock_seconds": ("7", 7.0),
    "fsync": ("yes", True),
    "tools": ("scripts, tests", ("scripts", "tests")),
    "on_exit": ("cancel", "cancel"),
    "http_token": ("0123456789abcdef", "0123456789abcdef"),
    "http_token_file": ("/my/token", "/my/token"),
    "http_max_connections": ("100", 100),
    "http_allowed_hosts": ("a.example, b.example,", ("a.example", "b.example")),
    "debug": ("TRUE", True),
}
WHOLE = [name for name, (_, value) in GOOD.items() if type(value) is int]
FRACTIONS = [name for name, (_, value) in GOOD.items() if type(value) is float]
SWITCHES = [name for name, (_, value) in GOOD.items() if type(value) is bool]


def test_the_samples_cover_every_setting() -> None:
    assert GOOD.keys() == {f.name for f in fields(Settings)}


@pytest.mark.parametrize("name", GOOD)
def test_a_setting_comes_from_its_variable(name: str) -> None:
    text, value = GOOD[name]
    settings = Settings.from_environ({variable(name): text})
    assert getattr(settings, name) == value
    assert type(getattr(settings, name)) is type(value)


def test_former_variables_are_read_where_the_present_ones_are_not_set() -> None:
    former = {"PYTHON_MCP_MAX_LANES": "3", "PYTHON_MCP_SPARE_LANES": "4", "PYTHON_MCP_LANE_IDLE_SECONDS": "5"}
    settings = Settings.from_environ({**former, "PYTHON_MCP_SPARE_WORKERS": "6"})
    assert (settings.max_workers, settings.spare_workers, settings.worker_idle_seconds) == (3, 6, 5.0)
    with pytest.raises(InvalidInput, match="PYTHON_MCP_MAX_LANES is 'x'"):
        Settings.from_environ({"PYTHON_MCP_MAX_LANES": "x"})


def test_the_variables_are_the_promised_ones() -> None:
    assert variable("home") == "PYTHON_MCP_HOME"
    assert variable("on_exit") == "PYTHON_MCP_ON_EXIT"
    assert variable("debug") == "MCP_DEBUG"


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("text", ["many", "-1", "1.5", "nan", "1e3"])
def test_a_value_that_is_no_whole_number_is_refused(name: str, text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Settings.from_environ({variable(name): text})
    assert str(caught.value) == f"{variable(name)} is {text!r}; it must be a whole number, 0 or more"


@pytest.mark.parametrize("name", FRACTIONS)
@pytest.mark.parametrize("text", ["soon", "-0.5", "nan", "inf", "1 s"])
def test_a_value_that_is_no_number_is_refused(name: str, text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Settings.from_environ({variable(name): text})
    assert str(caught.value) == f"{variable(name)} is {text!r}; it must be a number, 0 or more"


def test_a_number_beyond_all_bounds_is_refused_as_a_sentence() -> None:
    with pytest.raises(InvalidInput, match="must be a whole number"):
        Settings.from_environ({"PYTHON_MCP_MAX_WORKERS": "9" * 400})


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_that_is_neither_on_nor_off_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Settings.from_environ({variable(name): "maybe"})
    assert str(caught.value) == f"{variable(name)} is 'maybe'; it must be true or false"


def test_the_token_is_not_shown_with_the_settings() -> None:
    assert "secret" not in repr(Settings.from_environ({"PYTHON_MCP_HTTP_TOKEN": "a-very-secret-token"}))


def test_an_unknown_way_to_exit_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"PYTHON_MCP_ON_EXIT is 'explode'; it must be 'keep' or 'cancel'"):
        Settings.from_environ({"PYTHON_MCP_ON_EXIT": "explode"})


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("text", ["", " ", "\t\n"])
def test_an_empty_variable_counts_as_unset(name: str, text: str) -> None:
    assert Settings.from_environ({variable(name): text}) == Settings.from_environ({})


def test_what_is_given_wins_over_the_environment_and_none_does_not() -> None:
    environ = {"PYTHON_MCP_MAX_WORKERS": "3", "PYTHON_MCP_SPARE_WORKERS": "4"}
    settings = Settings.from_environ(environ, max_workers=9, spare_workers=None)
    assert (settings.max_workers, settings.spare_workers) == (9, 4)


def test_the_process_environment_is_read_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON_MCP_OUTPUT_CHARS", "77")
    assert Settings.from_environ().output_chars == 77


def test_the_home_is_absolute_and_knows_the_users_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/people/ada")
    assert Settings.from_environ({}).home == Path("/people/ada/.python_mcp")
    assert Settings.from_environ({"PYTHON_MCP_HOME": "state"}).home == Path.cwd() / "state"


@pytest.mark.parametrize("name", ["home", "scripts_dir"])
def test_a_directory_of_a_user_who_is_unknown_is_refused_by_value(name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        _ = Settings.from_environ({variable(name): "~no-such-user/x"}).scripts
    assert str(refused.value) == (
        f"{variable(name)} is '~no-such-user/x'; its '~' must be somebody's home directory"
    )


def test_scripts_and_logs_lie_in_the_home() -> None:
    settings = Settings.from_environ({"PYTHON_MCP_HOME": "/state"})
    assert (settings.scripts, settings.logs) == (Path("/state/scripts"), Path("/state/logs"))


def test_the_budget_is_the_variable_else_the_default() -> None:
    assert budget("MY_BUDGET", 20.0, {"MY_BUDGET": "1.5"}) == 1.5
    assert budget("MY_BUDGET", 20.0, {}) == 20.0
    for blank in ("", "  ", "\n"):
        assert budget("MY_BUDGET", 7.0, {"MY_BUDGET": blank}) == 7.0


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf", "-inf"])
def test_a_budget_that_is_no_positive_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        budget("MY_BUDGET", 20.0, {"MY_BUDGET": text})
    assert str(caught.value) == f"MY_BUDGET is {text!r}; it must be a positive number of seconds"


@pytest.mark.parametrize("value", [True, None, "x", 0, -3, float("nan"), 10**400, [1]])
def test_only_positive_finite_numbers_are_positive(value: object) -> None:
    with pytest.raises(InvalidInput, match=r"default_timeout is .* must be a positive number of seconds"):
        positive(value, "default_timeout")


def test_variables_that_are_no_settings_are_told_with_the_nearest() -> None:
    good = {variable(name): "1" for name in GOOD}
    former = {"PYTHON_MCP_MAX_LANES": "3", "PYTHON_MCP_JOB_ID": "of a parent", "MCP_DEBUG": "1"}
    assert unknown_variables({**good, **former, "PYTHONPATH": "x"}) == []
    wrong = {
        "PYTHON_MCP_DEBUG": "1",
        "PYTHON_MCP_LOCK_SECOND": "1",
        "python_mcp_home": "/x",
        "PYTHON_MCP_ZZ": "1",
    }
    assert unknown_variables(wrong) == [
        ("PYTHON_MCP_DEBUG", "MCP_DEBUG"),
        ("PYTHON_MCP_LOCK_SECOND", "PYTHON_MCP_LOCK_SECONDS"),
        ("PYTHON_MCP_ZZ", ""),
        ("python_mcp_home", "PYTHON_MCP_HOME"),
    ]


def test_no_variable_of_our_own_processes_is_called_unknown() -> None:
    source = Path(settings_module.__file__).parent
    named = {
        name: "1"
        for path in source.rglob("*.py")
        for name in re.findall(r"[\"'](PYTHON_MCP_[A-Z_]*[A-Z])[\"']", path.read_text("utf-8"))
    }
    assert len(named) > 5
    assert unknown_variables(named) == []
