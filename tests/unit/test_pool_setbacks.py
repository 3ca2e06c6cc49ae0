"""What a pool learns from workers that die before they do anything."""

from __future__ import annotations

from python_mcp_server.pool.pool import StartBackoff


def test_each_death_in_a_row_doubles_the_rest_up_to_a_limit():
    setbacks = StartBackoff()
    assert [setbacks.note(0.0) for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_a_pool_rests_until_its_time_is_over_or_a_worker_has_done_something():
    setbacks = StartBackoff()
    assert not setbacks.resting(10.0)
    setbacks.note(10.0)
    assert (setbacks.resting(10.05), setbacks.resting(10.2)) == (True, False)
    setbacks.over()
    assert not setbacks.resting(10.05)


def test_after_a_first_death_nothing_is_loaded_ahead_any_more():
    setbacks = StartBackoff()
    assert setbacks.preloading
    setbacks.note(0.0)
    setbacks.over()
    assert not setbacks.preloading
