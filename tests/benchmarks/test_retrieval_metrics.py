"""benchmarks/retrieval_metrics.py: ranking, and the metrics against their definitions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from small_retrieval import make_sets

from benchmarks import retrieval_metrics
from benchmarks.retrieval_metrics import METRICS, evaluate, evaluate_run, rank, run_of
from benchmarks.retrieval_sets import RetrievalSet, load_set
from common.errors import InputError


def vectors(n: int, dim: int = 8, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_rank_is_the_sorted_product(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, corpus = vectors(7), vectors(40, seed=1)
    scores = queries @ corpus.T
    want = np.argsort(-scores, axis=1)[:, :5]
    for cells in (10**6, 100):  # all at once, and two queries at a time
        monkeypatch.setattr(retrieval_metrics, "CHUNK_CELLS", cells)
        positions, best = rank(queries, corpus, 5)
        np.testing.assert_array_equal(positions, want)
        np.testing.assert_allclose(best, -np.sort(-scores, axis=1)[:, :5], atol=1e-6)
    assert rank(queries, corpus[:3], 5)[0].shape == (7, 3)


def test_metrics_by_their_definitions() -> None:
    qrels = {"q1": {"a": 2, "b": 1}, "q2": {"c": 1}, "q3": {"z": 1}}
    ranked = [f"n{i}" for i in range(11)]
    run = {
        "q1": {"n0": 0.9, "b": 0.8, "n1": 0.7, "a": 0.6},
        "q2": {**{p: 1 - i / 100 for i, p in enumerate(ranked)}, "c": 0.5},  # at place 12
    }
    found = evaluate_run(qrels, run)
    assert set(found) == set(METRICS)
    gain = 1 / math.log2(3) + 2 / math.log2(5)  # grade over log2(1 + place)
    ideal = 2 / math.log2(2) + 1 / math.log2(3)
    np.testing.assert_allclose(found["ndcg@10"], [100 * gain / ideal, 0, 0], atol=1e-4)
    np.testing.assert_allclose(found["mrr@10"], [50, 0, 0], atol=1e-4)
    np.testing.assert_allclose(found["recall@10"], [100, 0, 0])
    np.testing.assert_allclose(found["recall@100"], [100, 100, 0])
    np.testing.assert_allclose(found["map"], [100 * (1 / 2 + 2 / 4) / 2, 100 / 12, 0], atol=1e-4)


def test_a_whole_corpus(tmp_path: Path) -> None:
    tested = load_set("scifact", make_sets(tmp_path))
    corpus = vectors(len(tested.corpus))
    place = {p: i for i, p in enumerate(tested.corpus)}
    queries = np.stack([corpus[place[f"d{q}"]] for q in tested.queries])  # each finds its own document first
    found = evaluate(tested, queries, corpus)
    np.testing.assert_allclose(found["mrr@10"], 100)
    assert found["recall@100"].tolist() == [100] * 6
    worst = evaluate(tested, -queries, corpus)
    assert worst["mrr@10"].mean() < 20
    with pytest.raises(InputError, match="5 vectors for 6 queries"):
        run_of(tested, queries[:5], corpus)
    with pytest.raises(InputError, match="11 vectors for 12 passages"):
        run_of(tested, queries, corpus[:11])


def test_candidates_alone_are_ranked(tmp_path: Path) -> None:
    tested = load_set("wikiqa", make_sets(tmp_path))
    queries, corpus = vectors(len(tested.queries)), vectors(len(tested.corpus), seed=1)
    run = run_of(tested, queries, corpus)
    assert tested.candidates is not None
    place = {p: i for i, p in enumerate(tested.corpus)}
    for i, (query, offered) in enumerate(tested.candidates.items()):
        assert set(run[query]) == set(offered)
        for passage, score in run[query].items():
            assert score == pytest.approx(float(queries[i] @ corpus[place[passage]]), abs=1e-6)


def test_equal_scores_do_not_flatter() -> None:
    """A model whose vectors are all the same is at chance, not at the top."""
    ids = [f"p{i:03d}" for i in range(200)]
    queries = {f"q{i:03d}": "text" for i in range(200)}
    tested = RetrievalSet(
        "even", "test", queries, dict.fromkeys(ids, "text"), {q: {p: 1} for q, p in zip(queries, ids)}
    )
    same = np.ones((200, 4), dtype=np.float32) / 2
    assert evaluate(tested, same, same)["ndcg@10"].mean() < 5
