"""Which processes can be looked at from here, and which have surely ended."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from python_mcp_server.model import ProcessIdentity
from python_mcp_server.processes import identify, is_gone, is_out_of_reach
from python_mcp_server.processes.identity import machine


@pytest.fixture
def own() -> ProcessIdentity:
    found = identify(os.getpid())
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("change", "out_of_reach", "gone"),
    [
        ({}, False, False),
        ({"machine": ""}, False, False),
        ({"start_ticks": 1}, False, True),
        ({"pid_namespace": "pid:[1]"}, True, False),
        ({"boot_id": "earlier"}, False, True),
        ({"boot_id": "earlier", "machine": ""}, False, True),
        ({"boot_id": "its own", "machine": "another"}, True, False),
    ],
)
def test_only_a_process_of_this_machine_is_known_to_be_gone(
    own: ProcessIdentity, change: dict[str, str], out_of_reach: bool, gone: bool
):
    there = replace(own, **change)
    assert (is_out_of_reach(there), is_gone(there)) == (out_of_reach, gone)


def test_the_machine_is_written_and_is_no_part_of_the_identity(own: ProcessIdentity):
    assert own.machine == machine() != ""
    assert ProcessIdentity.from_json(own.to_json()) == own == replace(own, machine="another")
    assert ProcessIdentity.from_json(own.to_json()).machine == own.machine
    older = {name: fact for name, fact in own.to_json().items() if name != "machine"}
    assert ProcessIdentity.from_json(older) == own
