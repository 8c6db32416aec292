"""The word-overlap floor: sets of words, result files like any other's."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy.stats import spearmanr

from benchmarks.results import predictions
from benchmarks.run import RunConfig, load_tasks
from benchmarks.word_overlap import evaluate_word_overlap, jaccard


def test_jaccard() -> None:
    assert jaccard("A cat sat.", "the CAT sat") == 0.5
    assert jaccard("one", "two") == 0.0
    assert jaccard("a a a", "A") == 1.0
    assert jaccard("", "?") == 1.0
    assert jaccard("", "word") == 0.0


def test_the_floor_is_a_result_folder(tmp_path: Path) -> None:
    tasks = load_tasks(RunConfig(suite="sts-shipped", limit=40, seed=3))
    found = evaluate_word_overlap(tasks, "sts-shipped", tmp_path, limit=40, seed=3)
    task = tasks["ShippedPairs"]
    prediction, gold = predictions(tmp_path, "ShippedPairs")
    plain = [jaccard(a, b) for a, b in zip(task.text1, task.text2)]
    assert prediction.tolist() == plain
    assert found["ShippedPairs"].score == pytest.approx(spearmanr(plain, gold).statistic * 100)
    assert found["ShippedPairs"].index == tuple(task.index)
    assert len(set(task.index)) == 40
