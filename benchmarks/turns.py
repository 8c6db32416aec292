"""Timing in turns: ABAB..., so that a busy moment of the machine hits all contenders."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

from tqdm import tqdm

Key = TypeVar("Key", bound=Hashable)


def in_turns(
    contenders: Mapping[Key, Callable[[], Any]], repeats: int, *, label: str = ""
) -> tuple[dict[Key, list[float]], dict[Key, Any]]:
    """Seconds of every turn of each contender, and what its last turn gave."""
    seconds: dict[Key, list[float]] = {key: [] for key in contenders}
    results: dict[Key, Any] = {}
    with tqdm(total=repeats * len(contenders), desc=f"speed {label}", unit="turn", leave=False) as bar:
        for _ in range(repeats):
            for key, run in contenders.items():
                started = time.perf_counter()
                results[key] = run()
                seconds[key].append(time.perf_counter() - started)
                bar.update()
    return seconds, results
