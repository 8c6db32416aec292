"""Clusters of vectors by k-means, and how well they agree with labels (V-measure)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MINIBATCH = "inbedder:minibatch-kmeans"
# Of full k-means: the best of so many starts counts, per seed; 10 is also what the released propose.py takes.
N_INIT = 10
BATCH = 500


def assign(
    vectors: NDArray[np.float32], clusters: int, seed: int, *, n_init: int = N_INIT, minibatch: bool = False
) -> NDArray[np.int64]:
    """The cluster of every vector.

    Vectors are taken as they are, not normalised, as the released evaluation does.

    Args:
        vectors: (n, D).
        clusters: k.
        seed: of the starts.
        n_init: starts, of which the one with the least inertia counts; full k-means only.
        minibatch: the released setting, mini-batch k-means of 500 with one k-means++ start.

    Returns:
        (n,) numbers from 0 to k - 1.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans

    if minibatch:
        model = MiniBatchKMeans(n_clusters=clusters, batch_size=BATCH, n_init="auto", random_state=seed)
    else:
        model = KMeans(n_clusters=clusters, n_init=n_init, random_state=seed)
    return np.asarray(model.fit_predict(vectors), dtype=np.int64)


def v_measure(labels: Sequence[str], assigned: NDArray[np.int64]) -> float:
    """V-measure x 100: the harmonic mean of homogeneity and completeness."""
    from sklearn.metrics import v_measure_score

    return 100.0 * float(v_measure_score(labels, assigned))
