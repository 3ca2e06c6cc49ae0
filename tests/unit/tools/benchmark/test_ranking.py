"""Who is the fastest, and the sentence that says so."""

from __future__ import annotations

import pytest

from python_mcp_server.tools.benchmark.ranking import headline, standings

STEADY = [1 + 0.001 * (n % 5) for n in range(20)]


def times(factor: float) -> list[float]:
    return [factor * each for each in STEADY]


def test_each_ratio_is_beside_the_fastest_wherever_it_stands() -> None:
    found = standings({"a": times(2), "b": times(1), "c": times(3)})
    assert [each.name for each in found] == ["a", "b", "c"]
    assert [each.ratio for each in found] == pytest.approx([2, 1, 3])
    assert [each.ratio_interval is None for each in found] == [False, True, False]
    assert found[1].ratio_words == "1"
    assert found[0].ratio_words == "2.00 [2.00, 2.00]"


@pytest.mark.parametrize(
    ("walls", "said"),
    [
        ({"a": times(1)}, "a: 1.00 s (95 % interval 1.00 s to 1.00 s)"),
        ({"a": [0.02]}, "a: 20.0 ms (a single run says nothing of chance)"),
        ({"a": times(2), "b": times(1)}, "b is 2.00 times as fast as a (95 % interval 2.00 to 2.00)"),
        (
            {"a": [1.0, 1.1, 0.9] * 5, "b": [1.1, 0.9, 1.03] * 5},
            "No difference was found between b and a: a takes 1.033 times as long (95 % interval 0.8",
        ),
        (
            {"a": times(3), "b": times(1), "c": times(2)},
            "b is the fastest of 3: 2.00 times as fast as the next one, c (95 % interval 2.00 to 2.00)",
        ),
        ({"a": [2.0], "b": [1.0]}, "b is 2.00 times as fast as a (a single run says nothing of chance)"),
    ],
)
def test_the_finding_is_one_sentence(walls: dict[str, list[float]], said: str) -> None:
    assert headline(standings(walls)).startswith(said)
