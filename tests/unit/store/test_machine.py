"""The file store against a dictionary, in any order of operations."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.helpers.store_machine import StoreMachine
from tests.helpers.store_process import Server


def test_the_store_holds_what_a_dictionary_would_hold():
    run_state_machine_as_test(
        lambda: StoreMachine([Server()]),  # type: ignore[arg-type]  a factory is what it asks for
        settings=settings(
            max_examples=15,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
