"""What a pool learns from workers that die before they do anything."""

from __future__ import annotations

from python_mcp_server.pool.backoff import StartBackoff


def test_each_death_in_a_row_doubles_the_rest_up_to_a_limit():
    backoff = StartBackoff()
    assert [backoff.failed(0.0, "died") for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_a_back_off_ends_with_its_time_or_a_worker_that_served():
    backoff = StartBackoff()
    assert not backoff.active(10.0)
    backoff.failed(10.0, "died")
    assert (backoff.active(10.05), backoff.active(10.2)) == (True, False)
    backoff.reset()
    assert not backoff.active(10.05)


def test_after_a_first_death_nothing_is_loaded_ahead_any_more():
    backoff = StartBackoff()
    assert backoff.preloading
    backoff.failed(0.0, "died")
    backoff.reset()
    assert not backoff.preloading


def test_one_death_is_no_trouble_and_five_in_a_row_are():
    backoff = StartBackoff()
    backoff.failed(0.0, "died")
    assert (backoff.failing, backoff.failing_on) == (True, False)
    for _ in range(4):
        backoff.failed(0.0, "died again")
    assert (backoff.failing_on, backoff.reason) == (True, "died again")
    backoff.reset()
    assert not backoff.failing_on
