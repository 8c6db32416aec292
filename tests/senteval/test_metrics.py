"""Metrics against scipy and against their definitions, on any input."""

from __future__ import annotations

import itertools
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import cosine as scipy_cosine
from scipy.spatial.distance import pdist
from scipy.stats import pearsonr, spearmanr

from senteval import SentEvalError, alignment, metrics, pairwise_cosine, score_pairs, uniformity

grades = st.integers(0, 25).map(lambda i: i / 5)
vectors = hnp.arrays(
    np.float64, st.tuples(st.integers(2, 30), st.integers(1, 9)), elements=st.floats(-100, 100, width=32)
)


@st.composite
def graded(draw):
    n = draw(st.integers(2, 60))
    prediction = draw(hnp.arrays(np.float64, n, elements=st.floats(-1, 1, width=32)))
    gold = draw(hnp.arrays(np.float64, n, elements=grades))
    subset = draw(st.lists(st.sampled_from("abc"), min_size=n, max_size=n))
    return prediction, gold, subset


def defined(prediction, gold):
    return len(gold) > 1 and np.ptp(gold) > 0 and np.ptp(prediction) > 1e-6 * np.abs(prediction).max()


@settings(deadline=None)
@given(graded())
def test_scores_are_scipys_per_subset_and_over_all(case):
    prediction, gold, subset = case
    scores = score_pairs(prediction, gold, subset)
    names = np.array(subset)
    assert list(scores["subsets"]) == list(dict.fromkeys(subset))
    assert scores["pairs"] == len(gold) == sum(entry["pairs"] for entry in scores["subsets"].values())
    parts = {"all": (np.ones(len(gold), bool), scores)}
    parts |= {name: (names == name, entry) for name, entry in scores["subsets"].items()}
    for name, (rows, entry) in parts.items():
        if defined(prediction[rows], gold[rows]):
            assert name not in scores["constant"]
            assert entry["spearman"] == pytest.approx(100 * spearmanr(prediction[rows], gold[rows]).statistic, abs=1e-9)
            assert entry["pearson"] == pytest.approx(100 * pearsonr(prediction[rows], gold[rows]).statistic, abs=1e-6)
        elif np.ptp(gold[rows]) == 0 or np.ptp(prediction[rows]) == 0:
            assert name in scores["constant"]
            assert (entry["spearman"], entry["pearson"]) == (0.0, 0.0)
    for metric in ("spearman", "pearson"):
        values = [(entry[metric], entry["pairs"]) for entry in scores["subsets"].values()]
        assert scores[f"{metric}_mean"] == pytest.approx(sum(v for v, _ in values) / len(values))
        weighted = sum(v * pairs for v, pairs in values) / len(gold)
        assert scores[f"{metric}_weighted_mean"] == pytest.approx(weighted, abs=1e-9)
    json.dumps(scores, allow_nan=False)


def test_the_score_is_over_the_concatenation_not_the_mean_of_subsets():
    gold = np.array([1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0])
    prediction = np.array([0.1, 0.2, 0.3, 0.4, 0.51, 0.52, 0.53, 0.54])
    scores = score_pairs(prediction, gold, ["x"] * 4 + ["y"] * 4)
    assert scores["spearman_mean"] == scores["spearman_weighted_mean"] == pytest.approx(100)
    assert scores["spearman"] == pytest.approx(100 * spearmanr(prediction, gold).statistic)
    assert scores["spearman"] < 50
    assert scores["constant"] == []


def test_a_constant_prediction_is_zero_and_says_so():
    scores = score_pairs(np.full(6, 0.7), [0, 1, 2, 3, 4, 5], ["a", "a", "a", "a", "b", "b"])
    assert (scores["spearman"], scores["pearson"], scores["spearman_weighted_mean"]) == (0.0, 0.0, 0.0)
    assert scores["constant"] == ["all", "a", "b"]
    scores = score_pairs([0.1, 0.2, 0.3, 0.4], [0, 1, 2, 2], ["a", "a", "b", "b"])
    assert scores["constant"] == ["b"]
    assert scores["subsets"]["b"] == {"pairs": 2, "spearman": 0.0, "pearson": 0.0}


def test_wrong_input_is_refused():
    with pytest.raises(SentEvalError, match="prediction: 1 values are not finite, the first at index 1"):
        score_pairs([0.1, np.nan], [1, 2])
    with pytest.raises(SentEvalError, match="one length"):
        score_pairs([0.1, 0.2], [1, 2, 3])
    with pytest.raises(SentEvalError, match="one length"):
        score_pairs([0.1, 0.2], [1, 2], ["a"])
    with pytest.raises(SentEvalError, match="at least 1"):
        score_pairs([], [])
    bad = np.ones((3, 2), np.float32)
    bad[2, 0] = np.inf
    with pytest.raises(SentEvalError, match="second vectors: 1 vectors are not finite, the first at index 2"):
        pairwise_cosine(np.ones((3, 2)), bad)
    with pytest.raises(SentEvalError, match="one shape"):
        pairwise_cosine(np.ones((3, 2)), np.ones((4, 2)))
    with pytest.raises(SentEvalError, match=r"shape \(n, D\), got float64 of shape \(3,\)"):
        pairwise_cosine(np.ones(3), np.ones(3))
    with pytest.raises(SentEvalError, match="at least one positive pair"):
        alignment(np.ones((0, 2)), np.ones((0, 2)))
    with pytest.raises(SentEvalError, match="at least two vectors, got 1"):
        uniformity(np.ones((1, 2)))


@settings(deadline=None)
@given(vectors, st.sampled_from([np.float64, np.float32, np.float16]), st.integers(1, 40))
def test_cosine_is_scipys_and_zero_for_zero_rows(x, dtype, block):
    a, b = x.astype(dtype), np.roll(x, 1, axis=0).astype(dtype)
    old, metrics._BLOCK = metrics._BLOCK, block
    try:
        found = pairwise_cosine(a, b)
    finally:
        metrics._BLOCK = old
    assert found.dtype == np.float64
    for got, u, v in zip(found, a.astype(np.float64), b.astype(np.float64)):
        length = np.linalg.norm(u) * np.linalg.norm(v)
        if length == 0:
            assert got == 0
        elif length > 1e-100:  # below, scipy's own sum of squares vanishes
            assert got == pytest.approx(1 - scipy_cosine(u, v), abs=1e-12)


def test_cosine_of_equal_rows_is_exactly_one_at_any_scale():
    x = np.random.default_rng(0).normal(size=(500, 33))
    for scale in (1.0, 1e-200, 1e200, 5e-324, 1e304):
        scaled = x * scale
        scaled = scaled[scaled.any(axis=1)]
        assert (pairwise_cosine(scaled, scaled) == 1).all()
        assert (pairwise_cosine(scaled, -scaled) == -1).all()
    near = pairwise_cosine(x * 1e200, np.roll(x, 1, axis=0) * 1e-200)
    assert near == pytest.approx(pairwise_cosine(x, np.roll(x, 1, axis=0)), abs=1e-15)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@settings(deadline=None)
@given(vectors, st.floats(0.5, 4), st.integers(1, 200), st.sampled_from([np.float64, np.float32]))
def test_alignment_and_uniformity_are_their_definitions(x, t, block, dtype):
    x = (x + np.sign(x) + 0.5).astype(dtype)  # no zero rows
    y = unit(x.astype(np.float64))
    old, metrics._BLOCK = metrics._BLOCK, block
    try:
        found = uniformity(x, t)
    finally:
        metrics._BLOCK = old
    tolerance = 1e-9 if dtype == np.float64 else 1e-4
    assert found == pytest.approx(np.log(np.exp(-t * pdist(y) ** 2).mean()), abs=tolerance)
    other = np.roll(y, 1, axis=0)
    expected = np.mean([np.sum((u - v) ** 2) for u, v in zip(y, other)])
    assert alignment(x, np.roll(x, 1, axis=0)) == pytest.approx(expected, abs=1e-9)


def test_geometry_of_known_points():
    cross = np.array([[1.0, 0], [0, 2], [-3, 0], [0, -4]])
    distances = [np.sum((u - v) ** 2) for u, v in itertools.combinations(unit(cross), 2)]
    assert sorted(distances) == [2, 2, 2, 2, 4, 4]
    assert uniformity(cross) == pytest.approx(np.log((4 * np.exp(-4) + 2 * np.exp(-8)) / 6))
    assert uniformity(np.ones((5, 3))) == pytest.approx(0)
    assert alignment(cross, -cross) == pytest.approx(4)
    assert alignment(cross, 7 * cross) == 0
    assert alignment([[0.0, 0], [0, 0]], [[0.0, 0], [1, 0]]) == pytest.approx(0.5)


def test_uniformity_does_not_hold_all_distances():
    n = 6000
    x = np.random.default_rng(0).normal(size=(n, 8)).astype(np.float32)
    tracemalloc.start()
    uniformity(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * n * n
