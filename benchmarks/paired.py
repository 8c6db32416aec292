"""What results must share to be compared, and their scores on the same resamples of a task's items."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from zlib import crc32

import numpy as np

from benchmarks.results import Result, predictions
from benchmarks.stats import STATISTICS, Floats, bootstrap_scores
from common.errors import InputError


def check_one_table(results: Iterable[Result]) -> None:
    """InputError, naming two folders, unless all are of one suite and protocol, and every task of one metric."""
    first: Result | None = None
    of_task: dict[str, Result] = {}
    for result in results:
        first = first or result
        same_task = of_task.setdefault(result.task, result)
        # mteb's tasks have metrics of their own
        for key, other in (("suite", first), ("protocol", first), ("metric", same_task)):
            mine, theirs = getattr(other, key), getattr(result, key)
            if mine != theirs:
                raise InputError(
                    f"{other.path.parent} and {result.path.parent} can't stand in one table: {key} {mine} and {theirs}"
                )


def other_items(first: Result, second: Result) -> str | None:
    """What makes two results of a task incomparable item by item, or None."""
    if first.data_hash != second.data_hash:
        return "other data"
    return "other items" if (first.index, first.n) != (second.index, second.n) else None


def can_resample(result: Result) -> bool:
    """Whether its score can be taken on resamples: a metric of single items, and their predictions are stored."""
    return result.metric in STATISTICS and result.path.with_suffix(".npz").is_file()


def paired_draws(folders: Sequence[Path], task: str, metric: str, *, samples: int, seed: int) -> Floats:
    """Scores x 100 of some folders' results of a task, all on the same resamples, (folders, samples).

    Every task draws its own resamples, so that an average over tasks is one over independent draws.

    Raises:
        InputError: predictions that are missing, broken, or of other gold than those of the first folder.
    """
    pairs = [predictions(folder, task) for folder in folders]
    gold = pairs[0][1]
    for folder, (_, other) in zip(folders, pairs):
        if not np.array_equal(gold, other):
            raise InputError(f"{folders[0]} and {folder}: {task} has other gold; run one of them again")
    columns = [prediction for prediction, _ in pairs]
    return bootstrap_scores(columns, gold, metric=metric, samples=samples, seed=[seed, crc32(task.encode())])
