"""Evaluation of an encoder on one task."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from senteval import (
    SentEvalError,
    alignment,
    evaluate_pairs,
    load_task,
    pairwise_cosine,
    score_pairs,
    uniformity,
)


def word_counts(texts: list[str]) -> np.ndarray:
    """A bag-of-words embedding: enough to rank pairs."""
    words = sorted({word for text in texts for word in text.lower().split()})
    return np.array([[text.lower().split().count(word) for word in words] for text in texts], dtype=np.float32)


@pytest.fixture
def task(tmp_path, collection, write_jsonl):
    return load_task("STS14", "senteval", write_jsonl(tmp_path, collection))


def test_one_call_with_all_texts_and_the_scores_of_its_vectors(task):
    calls = []

    def encode(texts):
        calls.append(texts)
        return word_counts(texts)

    scores, prediction = evaluate_pairs(encode, task)
    assert calls == [task.text1 + task.text2]
    vectors = word_counts(task.text1 + task.text2)
    a, b = vectors[: len(task)], vectors[len(task) :]
    assert prediction.tolist() == pairwise_cosine(a, b).tolist()
    assert scores.items() >= score_pairs(prediction, task.gold, task.subset).items()
    assert (scores["task"], scores["protocol"], scores["complete"]) == ("STS14", "senteval", False)
    assert (scores["fingerprint"], scores["source"]) == (task.fingerprint, task.source)
    positive = task.gold >= 4
    assert 0 < positive.sum() < len(task)
    assert scores["alignment"] == alignment(a[positive], b[positive])
    json.dumps(scores, allow_nan=False)


def test_uniformity_counts_every_text_once(tmp_path, collection, write_jsonl):
    for row in collection["stsbenchmark/test"][1:]:
        row["s1"] = collection["stsbenchmark/test"][0]["s1"]
    task = load_task("STSBenchmark", "senteval", write_jsonl(tmp_path, collection))
    scores, _ = evaluate_pairs(word_counts, task)
    distinct = list(dict.fromkeys(task.text1 + task.text2))
    assert len(distinct) == 5
    assert scores["uniformity"] == pytest.approx(uniformity(word_counts(distinct)))


def test_a_constant_encoder_scores_zero_and_says_so(task):
    scores, prediction = evaluate_pairs(lambda texts: np.full((len(texts), 4), 0.3, np.float32), task)
    assert (prediction == 1).all()
    assert (scores["spearman"], scores["pearson"]) == (0.0, 0.0)
    assert scores["constant"] == ["all", *task.subsets]


def test_geometry_is_none_where_it_is_undefined_and_can_be_left_out(task):
    low = replace(task, gold=np.minimum(task.gold, 3.9))
    assert evaluate_pairs(word_counts, low)[0]["alignment"] is None
    assert "uniformity" not in evaluate_pairs(word_counts, task, geometry=False)[0]


def test_wrong_vectors_are_refused(task):
    with pytest.raises(SentEvalError, match=r"STS14: encode gave an array of shape \(47, 4\) for 48 texts"):
        evaluate_pairs(lambda texts: np.ones((len(texts) - 1, 4)), task)

    def broken(texts):
        vectors = word_counts(texts)
        vectors[30] = np.nan
        return vectors

    with pytest.raises(SentEvalError, match=r"STS14: second vectors: .* not finite, the first at index 6"):
        evaluate_pairs(broken, task)
