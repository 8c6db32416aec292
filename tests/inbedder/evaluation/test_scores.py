"""Triplets, pairs, reranking and robustness, by hand and against the authors' own numbers."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from inbedder.evaluation.robustness import summary
from inbedder.evaluation.scores import average_precision, harmonic_mean, pair_spearman, triplet_success
from inbedder.evaluation.tasks import Task


def at(*degrees: float, length: float = 1.0) -> np.ndarray:
    """Vectors (n, 2) at angles."""
    angles = np.deg2rad(degrees)
    return (length * np.stack([np.cos(angles), np.sin(angles)], axis=1)).astype(np.float32)


def test_triplets_count_strictly_nearer_positives_by_angle() -> None:
    anchor = at(0, 0, 0, 0)
    positive = at(10, 50, 30, 20, length=9.0)  # far in distance, near in angle
    negative = at(40, 20, -31, 60)
    assert triplet_success(anchor, positive, negative) == 75.0
    tied = at(30)
    assert triplet_success(at(0), tied, tied) == 0.0, "a tie is no success"


def test_harmonic_means_are_the_published_ones(shared: Path) -> None:
    checked = 0
    with open(shared / "published" / "inbedder_last_layer.csv", encoding="utf-8") as handle:
        for row in csv.DictReader(handle):
            for first, second, both in (("emotion_success", "intent_success", "intent_emotion_hm"),
                                        ("nyt_topic_v", "nyt_location_v", "nyt_hm")):  # fmt: skip
                if row[first] and row[second] and row[both]:
                    assert harmonic_mean(float(row[first]), float(row[second])) == pytest.approx(
                        float(row[both]), abs=0.011
                    )
                    checked += 1
    assert checked > 300


def test_the_harmonic_mean_of_nothing_is_nothing() -> None:
    assert harmonic_mean(0.0, 90.0) == pytest.approx(0.0, abs=1e-4)


def test_pairs_are_ranked_by_cosine() -> None:
    first, second = at(0, 0, 0, 0), at(80, 10, 40, 20, length=3.0)
    assert pair_spearman(first, second, [0.0, 3.0, 1.0, 2.0]) == pytest.approx(100.0)
    assert pair_spearman(first, second, [3.0, 0.0, 2.0, 1.0]) == pytest.approx(-100.0)


def test_average_precision_takes_the_nearest_of_several_queries() -> None:
    positive, negative = at(90, 30), at(45, 170)
    # One query at 0: 30, then 45 (wrong), then 90: (1/1 + 2/3) / 2.
    assert average_precision(at(0), positive, negative) == pytest.approx(100 * (1 + 2 / 3) / 2)
    # A second one at 90 brings the other positive to the top.
    assert average_precision(at(0, 90), positive, negative) == pytest.approx(100 * (1 + 2 / 2) / 2)
    with pytest.raises(ValueError, match="a positive and a negative"):
        average_precision(at(0), positive, at())


def test_robustness_by_hand() -> None:
    task = Task("t", "clustering", "v_measure", right=("r1", "r2"), implicit=("i",), wrong=("w1", "w2"))
    per_seed = {"r1": [50.0, 60.0], "r2": [30.0, 40.0], "i": [20.0, 40.0], "w1": [10.0, 30.0], "w2": [20.0, 20.0]}
    found = summary(task, per_seed)
    assert (found["right_mean"], found["implicit_mean"], found["wrong_mean"]) == (45.0, 30.0, 20.0)
    assert found["margin"] == 25.0
    assert found["implicit_margin"] == 10.0
    assert found["margin_std"] == pytest.approx(np.std([40 - 15, 50 - 25], ddof=1))
    assert found["right_std"] == pytest.approx(np.std([40, 50], ddof=1))
    assert found["implicit_margin_std"] == pytest.approx(np.std([20 - 15, 40 - 25], ddof=1))
    assert found["dci"] == 35.0 - 20.0
    assert found["dii"] == 30.0 - 20.0
    assert (found["right_count"], found["implicit_count"], found["wrong_count"]) == (2, 1, 2)
    assert summary(task, {name: values[:1] for name, values in per_seed.items()})["margin_std"] == 0.0


def test_the_paper_s_differences_are_of_the_same_kind(shared: Path) -> None:
    with open(shared / "published" / "inbedder_robustness.csv", encoding="utf-8") as handle:
        for row in csv.DictReader(handle):
            ours = float(row["correct_min"]) - float(row["incorrect_max"])
            assert ours == pytest.approx(float(row["dci"]), abs=0.011)
            assert float(row["implicit_min"]) - float(row["incorrect_max"]) == pytest.approx(
                float(row["dii"]), abs=0.011
            )
