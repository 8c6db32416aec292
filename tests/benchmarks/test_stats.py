from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.stats import spearmanr

from benchmarks.stats import (
    Interval,
    _resamples,
    bootstrap_scores,
    holm,
    interval,
    resampled_accuracy,
    resampled_spearman,
    score,
)
from common.errors import InputError


def graded(n: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Grades 0 to 5 in fifths (many ties, as STS has) and a noisy prediction of them."""
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, 26, n) / 5
    return gold + rng.normal(0, noise, n), gold


def difference(a: np.ndarray, b: np.ndarray, gold: np.ndarray, **options: int) -> Interval:
    """As `benchmarks.comparison` takes it: b less a on the same resamples."""
    draws = bootstrap_scores([a, b], gold, **options)
    return interval(draws[1] - draws[0], score(b, gold) - score(a, gold))


def test_every_resample_is_scored_as_scipy_scores_it(scores):
    gold, ours = np.round(scores["Avg"]), [scores["STS12"], np.round(scores["STSB"], -1)]  # with ties
    for counts in _resamples(len(gold), 200, seed=3):
        assert (counts.sum(axis=1) == len(gold)).all()
        found = resampled_spearman(counts, ours, gold)
        for row, drawn in enumerate(counts):
            pairs = np.repeat(np.arange(len(gold)), drawn)
            for system, prediction in enumerate(ours):
                expected = spearmanr(prediction[pairs], gold[pairs]).statistic
                assert found[system, row] == pytest.approx(expected, abs=1e-12)


def test_every_resample_of_classes_has_its_share_of_right_ones():
    rng = np.random.default_rng(2)
    gold, ours = rng.integers(0, 6, 90), [rng.integers(0, 6, 90), np.full(90, 3)]
    for counts in _resamples(90, 50, seed=3):
        found = resampled_accuracy(counts, ours, gold)
        for row, drawn in enumerate(counts):
            items = np.repeat(np.arange(90), drawn)
            assert found[:, row] == pytest.approx([np.mean(o[items] == gold[items]) for o in ours])
    draws = bootstrap_scores(ours, gold, metric="accuracy", samples=4000)
    share = np.mean(ours[0] == gold)
    assert draws[0].mean() == pytest.approx(100 * share, abs=0.5)
    assert draws[0].std() == pytest.approx(100 * np.sqrt(share * (1 - share) / 90), rel=0.1)  # binomial
    assert score(ours[0], gold, "accuracy") == pytest.approx(100 * share)


def test_spearman_is_scipys_times_100(scores):
    gold = np.round(scores["Avg"])
    assert score(scores["STS12"], gold) == pytest.approx(100 * spearmanr(scores["STS12"], gold).statistic)


def test_blocks_do_not_change_the_resamples(monkeypatch):
    prediction, gold = graded(50, 1.0, seed=1)
    whole = bootstrap_scores([prediction], gold, samples=100)
    monkeypatch.setattr("benchmarks.stats.CHUNK_CELLS", 350)
    assert np.array_equal(bootstrap_scores([prediction], gold, samples=100), whole)


def test_resamples_are_uniform():
    counts = np.concatenate(list(_resamples(20, 5000, seed=0)))
    assert counts.mean(axis=0) == pytest.approx(np.ones(20), abs=0.06)
    assert counts.var() == pytest.approx(0.95, abs=0.03)  # binomial: 20 draws with probability 1/20


def test_equal_predictions_differ_by_exactly_nothing(scores):
    same = difference(scores["STS13"], scores["STS13"], scores["Avg"])
    assert (same.low, same.high, same.difference, same.p) == (0.0, 0.0, 0.0, 1.0)
    assert not same.excludes_zero


def test_sign_and_symmetry(scores):
    a, b, gold = scores["STS12"], scores["STSB"], scores["Avg"]
    there, back = difference(a, b, gold), difference(b, a, gold)
    assert there.difference == pytest.approx(score(b, gold) - score(a, gold))
    assert (there.low, there.high, there.difference) == pytest.approx((-back.high, -back.low, -back.difference))
    assert there.p == back.p
    assert there.low < there.difference < there.high


def test_a_clear_difference_excludes_zero_and_a_coin_flip_does_not():
    worse, gold = graded(1000, 2.0, seed=0)
    better = gold + np.random.default_rng(5).normal(0, 0.5, 1000)
    clear = difference(worse, better, gold)
    assert clear.low > 0
    assert clear.excludes_zero
    assert clear.p == pytest.approx(2 / 1001)
    twin = gold + np.random.default_rng(6).normal(0, 2.0, 1000)
    tie = difference(worse, twin, gold)
    assert not tie.excludes_zero
    assert tie.p > 0.05


def test_the_interval_covers_the_true_difference():
    """Bivariate normals have Spearman 6/pi asin(rho/2), so the true difference is known."""
    rhos, trials, n = (0.7, 0.8), 200, 150
    truth = 100 * (6 / np.pi) * (np.arcsin(rhos[1] / 2) - np.arcsin(rhos[0] / 2))
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(trials):
        gold = rng.normal(size=n)
        a, b = (rho * gold + np.sqrt(1 - rho**2) * rng.normal(size=n) for rho in rhos)
        found = difference(a, b, gold, samples=300, seed=trial)
        covered += found.low <= truth <= found.high
    assert 0.90 <= covered / trials <= 0.99


def test_the_level_decides_the_width(scores):
    draws, measured = bootstrap_scores([scores["STS12"]], scores["Avg"])[0], score(scores["STS12"], scores["Avg"])
    wide, narrow = interval(draws, measured), interval(draws, measured, level=0.5)
    assert wide.low < narrow.low < measured < narrow.high < wide.high


def test_seed_decides(scores):
    arguments = scores["STS12"], scores["STSB"], scores["Avg"]
    assert difference(*arguments, seed=1) == difference(*arguments, seed=1)
    assert difference(*arguments, seed=1) != difference(*arguments, seed=2)


def test_ten_thousand_pairs_take_seconds():
    a, gold = graded(10_000, 1.0, seed=0)
    b, _ = graded(10_000, 1.0, seed=1)
    start = time.perf_counter()
    difference(a, b, gold)
    assert time.perf_counter() - start < 10


def test_undefined_correlations_score_0_as_in_senteval():
    assert score([0.5, 0.5, 0.5], [0.0, 1.0, 2.0]) == 0.0
    found = bootstrap_scores([[1.0, 2.0, 3.0], [0.5, 0.5, 0.5]], [0.0, 0.0, 1.0], samples=200)
    assert found.shape == (2, 200)
    assert (found[1] == 0).all()
    assert 0 < np.count_nonzero(found[0]) < 200


@pytest.mark.parametrize(
    ("prediction", "gold", "message"),
    [
        ([1.0, 2.0], [1.0, 2.0, 3.0], r"prediction 0 has shape \(2,\), gold \(3,\)"),
        ([1.0, float("nan"), 2.0], [1.0, 2.0, 3.0], "prediction 0 is not finite at index 1"),
        ([1.0], [1.0], "at least 2 are needed"),
        ([[1.0, 2.0]], [[1.0, 2.0]], r"must be \(n,\)"),
    ],
)
def test_bad_arrays_are_named(prediction, gold, message):
    with pytest.raises(InputError, match=message):
        bootstrap_scores([prediction], gold)


def test_holm_against_a_worked_example():
    # Sorted 0.005, 0.01, 0.03, 0.04: times 4, 3, 2, 1 is 0.02, 0.03, 0.06, 0.04, made monotone.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
    with pytest.raises(InputError, match="0 to 1"):
        holm([1.5])
