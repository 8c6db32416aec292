"""How sure a difference is: bootstrap intervals of Spearman correlations and accuracies, and Holm's correction.

Scores are x 100, as tables print them. A resample draws items (pairs, or classified texts) with replacement, and
all systems are scored on the same resample, so what they share (an easy or a hard draw) cancels in the difference.

A resample of n items is a vector of n counts over the original ones. Its ranks follow from the counts and
one sort of the original values: no resample is sorted again, which makes 1,000 resamples of 10,000 pairs a
matter of a second or two, with the tied (average) ranks that `scipy.stats.spearmanr` would give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.errors import InputError

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

CHUNK_CELLS = 2_000_000  # resamples are handled in blocks of about this many (resample, pair) cells


@dataclass(frozen=True)
class Interval:
    """A difference of two scores (b - a, in points) with its interval and two-sided p."""

    low: float
    high: float
    difference: float
    p: float

    @property
    def excludes_zero(self) -> bool:
        """True if the whole interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class _Values:
    """An array prepared for ranking: its values in ascending order, grouped into ties."""

    order: Counts  # (n,) positions of the values in ascending order
    starts: Counts  # (groups,) where each group of equal values begins in that order
    group: Counts  # (n,) each position's group

    @classmethod
    def of(cls, values: Floats) -> _Values:
        order = np.argsort(values, kind="stable")
        ascending = values[order]
        new = np.concatenate(([True], ascending[1:] != ascending[:-1]))
        group = np.empty(len(values), dtype=np.int64)
        group[order] = np.cumsum(new) - 1
        return cls(order=order, starts=np.flatnonzero(new), group=group)

    def centred_ranks(self, counts: Counts) -> tuple[Floats, Floats]:
        """Average ranks less their mean, (resamples, n), and their sum of squares over the resample."""
        tied = np.add.reduceat(counts[:, self.order], self.starts, axis=1)
        last = np.cumsum(tied, axis=1)
        ranks = last - (tied - 1) / 2 - (counts.sum(axis=1, keepdims=True) + 1) / 2
        return ranks[:, self.group], np.einsum("rg,rg->r", tied, ranks**2)


def resampled_spearman(counts: Counts, predictions: Sequence[ArrayLike], gold: ArrayLike) -> Floats:
    """Spearman of each prediction against gold on each resample, from -1 to 1.

    Args:
        counts: (resamples, n), how often each pair stands in each resample.
        predictions: arrays of shape (n,), one per system.
        gold: (n,).

    Returns:
        (systems, resamples); 0 where a correlation is undefined because gold or prediction does not vary, as
        in senteval (a collapsed encoder scores 0, not NaN).
    """
    gold_ranks, gold_squares = _Values.of(np.asarray(gold, dtype=np.float64)).centred_ranks(counts)
    weighted = gold_ranks * counts
    scores = []
    for prediction in predictions:
        ranks, squares = _Values.of(np.asarray(prediction, dtype=np.float64)).centred_ranks(counts)
        scale = np.sqrt(squares * gold_squares)
        covariance = np.einsum("rn,rn->r", ranks, weighted)
        scores.append(np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 0))
    return np.stack(scores)


def resampled_accuracy(counts: Counts, predictions: Sequence[ArrayLike], gold: ArrayLike) -> Floats:
    """Share of items whose class is right on each resample, from 0 to 1; arguments as in `resampled_spearman`."""
    right = np.stack([np.asarray(prediction) == np.asarray(gold) for prediction in predictions])
    return right.astype(np.float64) @ counts.T / counts.sum(axis=1)


# Metric of a result -> its value on resamples. Others (nDCG, V-measure ...) are no function of one number per item.
STATISTICS: dict[str, Callable[[Counts, Sequence[ArrayLike], ArrayLike], Floats]] = {
    "spearman": resampled_spearman,
    "cosine_spearman": resampled_spearman,  # mteb's name of it
    "accuracy": resampled_accuracy,
}


def score(prediction: ArrayLike, gold: ArrayLike, metric: str = "spearman") -> float:
    """A metric x 100 over all items; Spearman as `scipy.stats.spearmanr`, but 0 where that is undefined."""
    (prediction,), gold = _checked([prediction], gold)
    once = np.ones((1, len(gold)), dtype=np.int64)
    return float(STATISTICS[metric](once, [prediction], gold)[0, 0] * 100)


def bootstrap_scores(
    predictions: Sequence[ArrayLike],
    gold: ArrayLike,
    *,
    metric: str = "spearman",
    samples: int = 1000,
    seed: int | Sequence[int] = 0,
) -> Floats:
    """Scores (x 100) of several systems on the same resamples, (systems, samples).

    Args:
        predictions: an array (n,) per system; gold: (n,).
        metric: one of `STATISTICS`.
        samples: resamples; the smallest p that can come out of them is 2 / (samples + 1).
        seed: of the resampling. Equal seeds and lengths give equal resamples.

    Raises:
        InputError: arrays of unequal length, fewer than two items, values that are not finite.
    """
    arrays, gold = _checked(predictions, gold)
    if samples < 1:
        raise InputError(f"samples must be at least 1, not {samples}")
    statistic = STATISTICS[metric]
    blocks = [statistic(counts, arrays, gold) * 100 for counts in _resamples(len(gold), samples, seed)]
    return np.concatenate(blocks, axis=1)


def interval(differences: Floats, difference: float, *, level: float = 0.95) -> Interval:
    """The interval and two-sided p of resampled differences, (samples,), around the measured one.

    p is twice the share of resamples on the far side of 0, with one added to both counts: it is never 0,
    and it is 1 for two systems that never differ.
    """
    low, high = _percentiles(differences, level)
    tail = min(np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0))
    p = float(min(1.0, 2 * (tail + 1) / (len(differences) + 1)))
    return Interval(low=low, high=high, difference=difference, p=p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: adjusted p-values in the given order, each at most 1.

    Rejecting where the adjusted value is below alpha keeps the chance of any false rejection in the family
    below alpha.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not np.all((p >= 0) & (p <= 1)):
        raise InputError(f"p-values must be a flat list of numbers from 0 to 1, not {p_values!r}")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return [float(value) for value in adjusted]


def _resamples(n: int, samples: int, seed: int | Sequence[int]) -> Iterator[Counts]:
    """Blocks of counts, (block, n), each row summing to n; they depend on n, samples and seed alone."""
    rng = np.random.default_rng(seed)
    block = max(1, CHUNK_CELLS // n)
    for first in range(0, samples, block):
        rows = min(block, samples - first)
        drawn = rng.integers(0, n, size=(rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)


def _percentiles(values: Floats, level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1, not {level}")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _checked(predictions: Sequence[ArrayLike], gold: ArrayLike) -> tuple[list[Floats], Floats]:
    """All arrays as float64; InputError unless they are flat, finite, equally long, at least two items."""
    arrays = {"gold": np.asarray(gold, dtype=np.float64)}
    for number, prediction in enumerate(predictions):
        arrays[f"prediction {number}"] = np.asarray(prediction, dtype=np.float64)
    for name, array in arrays.items():
        if array.shape != arrays["gold"].shape or array.ndim != 1:
            raise InputError(f"{name} has shape {array.shape}, gold {arrays['gold'].shape}; both must be (n,)")
        if len(array) < 2:
            raise InputError(f"{name} has {len(array)} values; at least 2 are needed")
        if not np.isfinite(array).all():
            raise InputError(f"{name} is not finite at index {int(np.flatnonzero(~np.isfinite(array))[0])}")
    return list(arrays.values())[1:], arrays["gold"]
