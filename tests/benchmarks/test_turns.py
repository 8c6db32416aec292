"""Contenders take turns, and each turn is timed."""

from __future__ import annotations

from benchmarks.turns import in_turns


def test_contenders_take_turns() -> None:
    calls: list[str] = []

    def contender(name: str) -> int:
        calls.append(name)
        return len(calls)

    seconds, results = in_turns({1: lambda: contender("theirs"), "b": lambda: contender("ours")}, 3)
    assert calls == ["theirs", "ours"] * 3
    assert {key: len(times) for key, times in seconds.items()} == {1: 3, "b": 3}
    assert results == {1: 5, "b": 6}
