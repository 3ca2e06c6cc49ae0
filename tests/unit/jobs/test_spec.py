"""Which calls may be written into a record, and that they come back as they were."""

from __future__ import annotations

import json
import math
import os
import sys
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from python_mcp_server import AsyncJob, CommandJob
from python_mcp_server.jobs.redaction import name_looks_secret, value_looks_secret
from python_mcp_server.jobs.reply import JobReplies, replies_of
from python_mcp_server.jobs.request import Request, request_of
from python_mcp_server.jobs.rows import what_ran
from python_mcp_server.jobs.spec import LIMIT_BYTES, from_spec, to_spec
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.pool.references import refer
from python_mcp_server.tools.scripts import run_script_in_dir, run_script_with_dependencies
from tests.helpers import bodies, job_kinds


class Color(IntEnum):
    RED = 1


def recipe(body: Any, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
    return to_spec(Request(body, args, kwargs), refer(body))


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(PLAIN, max_size=3), st.dictionaries(st.sampled_from("xyz"), PLAIN))
def test_a_plain_call_comes_back_from_its_record_as_it_was(args: list[Any], kwargs: dict[str, Any]):
    made = recipe(bodies.anything, *args, **kwargs)
    if made is None:
        assert any(value_looks_secret(text) for text in texts([args, kwargs]))
        return
    call = json.loads(json.dumps(made))
    back = from_spec(Job(new_job_id(), "mine", JobState.PENDING, utc_now(), tool="tool", call=call))
    assert back is not None
    assert (back.body, back.args, back.kwargs) == (bodies.anything, tuple(args), kwargs)
    assert repr((back.args, back.kwargs)) == repr((tuple(args), kwargs))
    assert (back.label, back.tool) == ("mine", "tool")


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for inner in value for text in texts(inner)]
    return [value] if isinstance(value, str) else []


ODD: dict[str, Any] = {
    "tuple": (1, 2),
    "keys": {1: 2},
    "set": {1, 2},
    "enum": Color.RED,
    "nan": math.nan,
    "infinity": math.inf,
    "bytes": b"bytes",
    "path": Path("x"),
    "object": object(),
    "deep": [[(1,)]],
    "digits": 1 << 20_000,
}


@pytest.mark.parametrize("value", ODD.values(), ids=ODD.keys())
def test_what_json_would_change_stays_out_of_the_record(value: Any):
    assert recipe(bodies.anything, value) is None
    assert recipe(bodies.anything, x=[value]) is None


def test_what_is_too_large_or_has_no_end_stays_out_of_the_record():
    endless: list[Any] = []
    endless.append(endless)
    assert recipe(bodies.anything, endless) is None
    assert recipe(bodies.anything, "x" * LIMIT_BYTES) is None
    assert recipe(bodies.anything, "\N{GRINNING FACE}" * (LIMIT_BYTES // 4)) is None
    assert recipe(bodies.anything, "x" * (LIMIT_BYTES // 2)) is not None


def test_a_body_without_a_name_or_a_process_has_no_spec():
    assert recipe(lambda: 1) is None
    for request in (Request(bodies.anything, isolation="inline"), Request(bodies.anything, replayable=False)):
        assert to_spec(request, refer(bodies.anything)) is None


@pytest.mark.parametrize(
    "name",
    ["password", "dbPassword", "api_key", "apikey", "sshKey", "token", "accessToken", "client_secret", "env"],
)
def test_a_value_whose_name_sounds_like_a_secret_stays_out_of_the_record(name: str):
    assert name_looks_secret(name)
    assert recipe(bodies.anything, **{name: "x"}) is None
    assert recipe(bodies.anything, {"deep": [{name: "x"}]}) is None
    assert recipe(bodies.anything, **{name: None}) is not None


@pytest.mark.parametrize("name", ["monkey", "directory", "environmental", "keyboard", "args", "passenger"])
def test_other_names_are_kept_in_the_record(name: str):
    assert not name_looks_secret(name)


def test_where_an_author_names_the_secrets_none_is_guessed():
    for declared, kept in ((None, False), (frozenset[str](), True), (frozenset({"right"}), False)):
        request = Request(bodies.add, (1, "https://me:hush@example.org/x"), secret_parameters=declared)
        assert (to_spec(request, refer(bodies.add)) is not None) is kept
    unset = Request(bodies.add, (1, None), secret_parameters=frozenset({"right"}))
    assert to_spec(unset, refer(bodies.add)) is not None


def test_a_secret_that_is_no_parameter_keeps_the_call_out_of_the_record():
    for body, args, kwargs in ((bodies.anything, (), {"pin": "1234"}), (bodies.add, (1, 2), {})):
        for declared in (frozenset({"pin"}), "pin"):
            request = Request(body, args, kwargs, secret_parameters=declared)  # type: ignore[arg-type]
            assert to_spec(request, refer(body)) is None


def test_options_and_addresses_that_hold_secrets_stay_out_of_the_record():
    for text in ("--password=x", "--api-key", "-token", "https://me:hush@example.org/x"):
        assert recipe(bodies.anything, ["run", text]) is None
    for text in ("--verbose", "https://example.org:80/x", "a - b", "mail me@example.org"):
        assert recipe(bodies.anything, ["run", text]) is not None


TOKEN = "ghp_" + "a1B2" * 9


@pytest.mark.parametrize(
    "command",
    [
        "mysql --password=hunter3 -e x",
        "mysql --password hunter3 -e x",
        "mysql -phunter3 -e x",
        ["sh", "-c", "mysql -phunter3 -e x"],
        "TOKEN=x make",
        ["curl", "-H", "Authorization: Bearer x", "http://h"],
        ["echo", TOKEN],
        f"echo {TOKEN}",
    ],
    ids=str,
)
def test_a_command_that_holds_a_secret_stays_out_of_the_record(command: str | list[str]):
    request = request_of(CommandJob(command))
    assert to_spec(request, refer(request.body)) is None
    assert recipe(bodies.anything, command=command) is None
    assert "…" in (what_ran(request.body, request.args, request.kwargs).program or "")


def test_secrets_that_any_text_may_have_stay_out_of_the_record():
    for text in (f"x {TOKEN}", "curl --token abc", "Authorization: Bearer abc", "AKIA" + "A1B2" * 4):
        assert recipe(bodies.anything, {"deep": [text]}) is None
    for text in ("the key: x", "a token = b", "ghp_short", "see -p or --keyboard x"):
        assert recipe(bodies.anything, {"deep": [text]}) is not None


def test_code_with_a_secret_stays_out_of_the_record():
    for code in ("password = 'hunter3'", 'connect(api_key="abc")', f"t = '{TOKEN}'"):
        assert recipe(run_script_with_dependencies, script_content=code, dependencies=[]) is None
    for code in ("sorted(x, key='a')", "token = os.environ['TOKEN']", "password = ''"):
        assert recipe(run_script_with_dependencies, script_content=code, dependencies=[]) is not None


def test_a_command_without_a_secret_is_kept_in_the_record():
    for command in ("mkdir -pv a b", ["find", ".", "-path", "x"], "make all", ["ssh", "-p22", "h"]):
        request = request_of(CommandJob(command))
        assert to_spec(request, refer(request.body)) is not None


def test_our_own_tools_may_start_anywhere_if_their_paths_are_absolute(tmp_path: Path):
    absolute = recipe(run_script_in_dir, directory=str(tmp_path), script_path="main.py", args=["1"])
    assert absolute is not None
    assert (absolute["cwd"], absolute["file"]) == (None, None)
    for made in (
        recipe(run_script_in_dir, directory=".", script_content="1"),
        recipe(run_script_with_dependencies, script_path="main.py"),
        recipe(bodies.anything),
    ):
        assert made is not None
        assert made["cwd"] == os.getcwd()
    command = request_of(CommandJob(("true",), cwd="src"))
    made = to_spec(command, refer(command.body))
    assert made is not None
    assert made["cwd"] is None


# ---- kinds of jobs


def spec_of(job: AsyncJob) -> tuple[Request, dict[str, Any] | None]:
    request = request_of(job)
    return request, to_spec(request, refer(request.body))


def recorded(spec: dict[str, Any] | None) -> Job:
    return Job(new_job_id(), "a label", JobState.PENDING, utc_now(), call=json.loads(json.dumps(spec)))


def test_a_job_of_a_class_with_plain_data_may_be_started_elsewhere():
    request, spec = spec_of(job_kinds.Resize(["a", "b"]))
    assert spec is not None
    assert (spec["file"], spec["cwd"]) == (job_kinds.__file__, os.getcwd())
    found = from_spec(recorded(spec))
    assert found is not None
    assert (found.body, found.args, found.limits) == (request.body, request.args, request.limits)


def test_a_job_of_a_class_that_is_not_loaded_here_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    _, spec = spec_of(job_kinds.Resize([]))
    monkeypatch.setattr(job_kinds, "__file__", "/elsewhere/job_kinds.py")
    assert from_spec(recorded(spec)) is None
    monkeypatch.delitem(sys.modules, job_kinds.__name__)
    assert from_spec(recorded(spec)) is None


def test_a_job_that_no_other_server_can_make_has_no_spec():
    class Local(job_kinds.Resize):
        pass

    for job in (
        Local([]),
        job_kinds.Resize([Path()]),  # type: ignore[list-item]
        job_kinds.Answer((1, 2)),
        job_kinds.Answer(Color.RED),
        job_kinds.Answer({"password": "hush"}),
        job_kinds.Slotted(1),
        job_kinds.InlineHold("", ""),
        job_kinds.Build("true", env={"A": "hush"}),
        CommandJob("true", env={"A": "hush"}),
    ):
        assert spec_of(job)[1] is None


def test_a_command_started_elsewhere_keeps_its_grace_and_its_result():
    _, spec = spec_of(CommandJob("true; false"))
    job = recorded(spec).evolve(grace_s=5.6, reply={"job_result": {}})
    found = from_spec(job)
    assert found is not None
    assert (found.args[0], found.grace_s) == ("true; false", 5.6)
    assert isinstance(replies_of(job.reply, None), JobReplies)
