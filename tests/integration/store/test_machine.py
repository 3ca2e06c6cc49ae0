"""Three processes hold one store, race, and are killed in the middle: it holds what
a dictionary would hold."""

from __future__ import annotations

import os
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.helpers.store_machine import StoreMachineOfProcesses
from tests.helpers.store_process import Child

PROCESSES = 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_three_processes_hold_what_a_dictionary_would_hold():
    with ExitStack() as stack:
        children = [stack.enter_context(Child()) for _ in range(PROCESSES)]
        run_state_machine_as_test(
            lambda: StoreMachineOfProcesses(children),  # type: ignore[arg-type]  a factory is what it asks for
            settings=settings(
                max_examples=20,
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )
