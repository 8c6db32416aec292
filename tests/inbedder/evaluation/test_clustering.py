"""k-means and V-measure as they are used here."""

from __future__ import annotations

import numpy as np
import pytest

from inbedder.evaluation.clustering import assign, v_measure


def blobs(spread: float, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Three groups of 30 points in 8 dimensions, around corners that are 5 apart."""
    random = np.random.default_rng(seed)
    corners = 5.0 * np.eye(8)[:3].repeat(30, axis=0)
    return (corners + spread * random.normal(size=corners.shape)).astype(np.float32), [
        name for name in "abc" for _ in range(30)
    ]


@pytest.mark.parametrize("minibatch", [False, True])
def test_groups_that_are_apart_are_found(minibatch: bool) -> None:
    vectors, labels = blobs(0.1)
    best = max(v_measure(labels, assign(vectors, 3, seed, minibatch=minibatch)) for seed in range(3))
    assert best == pytest.approx(100.0)


def test_a_seed_gives_one_result_and_another_seed_another() -> None:
    vectors, _ = blobs(4.0)
    first, again, other = (assign(vectors, 6, seed, n_init=1) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_more_starts_never_give_a_worse_inertia() -> None:
    vectors, _ = blobs(3.0)

    def inertia(assigned: np.ndarray) -> float:
        centres = np.stack([vectors[assigned == i].mean(axis=0) for i in range(6)])
        return float(((vectors - centres[assigned]) ** 2).sum())

    one = [inertia(assign(vectors, 6, seed, n_init=1)) for seed in range(4)]
    many = [inertia(assign(vectors, 6, seed, n_init=10)) for seed in range(4)]
    assert np.mean(many) < np.mean(one)


def test_vectors_are_not_normalised() -> None:
    # On one ray, near and far: lengths are all that tells the two groups apart.
    vectors = np.outer(np.r_[np.linspace(1, 1.2, 20), np.linspace(9, 9.2, 20)], np.ones(4)).astype(np.float32)
    labels = ["near"] * 20 + ["far"] * 20
    assert v_measure(labels, assign(vectors, 2, 0)) == pytest.approx(100.0)


def test_v_measure_by_its_definition() -> None:
    labels = list("aaabbc")
    assigned = np.array([0, 0, 1, 1, 2, 2])

    def entropy(names: list[str]) -> float:
        p = np.unique(names, return_counts=True)[1] / len(names)
        return float(-(p * np.log(p)).sum())

    def given(what: list[str], by: list[str]) -> float:
        parts = [[w for w, b in zip(what, by) if b == one] for one in set(by)]
        return sum(len(part) / len(what) * entropy(part) for part in parts)

    clusters = [str(c) for c in assigned]
    homogeneity = 1 - given(labels, clusters) / entropy(labels)
    completeness = 1 - given(clusters, labels) / entropy(clusters)
    expected = 200 * homogeneity * completeness / (homogeneity + completeness)
    assert v_measure(labels, assigned) == pytest.approx(expected)
