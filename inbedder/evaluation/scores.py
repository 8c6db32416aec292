"""Scores of vectors that are no clusters: triplets, pairs, reranking. All x 100."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
TINY = 1e-8  # of the released harmonic mean: an empty success rate gives 0, not an error


def unit(vectors: Vectors) -> NDArray[np.float64]:
    """Vectors (n, D) of length 1; zero stays zero."""
    wide = np.asarray(vectors, dtype=np.float64)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), np.finfo(np.float64).tiny)


def triplet_success(anchor: Vectors, positive: Vectors, negative: Vectors) -> float:
    """How many anchors are strictly nearer, by cosine, to their positive than to their negative; each (n, D)."""
    a, p, n = unit(anchor), unit(positive), unit(negative)
    return 100.0 * float(np.mean((a * p).sum(axis=1) > (a * n).sum(axis=1)))


def harmonic_mean(first: float, second: float) -> float:
    """Of two scores x 100, as released: 2 / (1 / (a + 1e-8) + 1 / (b + 1e-8)) of the rates a and b."""
    return 100.0 * 2.0 / (1.0 / (first / 100.0 + TINY) + 1.0 / (second / 100.0 + TINY))


def pair_spearman(first: Vectors, second: Vectors, gold: Sequence[float]) -> float:
    """Spearman correlation of the cosine of pairs, each (n, D), with their gold scores."""
    from scipy.stats import spearmanr

    cosine = (unit(first) * unit(second)).sum(axis=1)
    return 100.0 * float(spearmanr(cosine, gold).statistic)


def average_precision(query: Vectors, positive: Vectors, negative: Vectors) -> float:
    """Average precision of one query; of several query texts (q, D) the largest cosine counts for a candidate.

    Raises:
        ValueError: no candidate of one of the two sides.
    """
    from sklearn.metrics import average_precision_score

    if not len(positive) or not len(negative):
        raise ValueError("average precision needs a positive and a negative")
    candidates = unit(np.concatenate([positive, negative]))
    nearness = (unit(query) @ candidates.T).max(axis=0)
    relevant = [1] * len(positive) + [0] * len(negative)
    return 100.0 * float(average_precision_score(relevant, nearness))
