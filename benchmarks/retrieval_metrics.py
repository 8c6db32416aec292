"""Ranking by cosine, and nDCG@10, MRR@10, MAP, recall@k as TREC's own program computes them (pytrec_eval)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.retrieval_sets import RetrievalSet
from common.errors import InputError

Vectors = NDArray[np.float32]
Run = dict[str, dict[str, float]]  # query -> passage -> score

METRICS = ("ndcg@10", "mrr@10", "recall@10", "recall@100", "map")
DEPTH = 100  # passages per query that are ranked and judged, of a whole corpus
CHUNK_CELLS = 50_000_000  # scores that are in memory at once: 200 MB

_TREC = {"ndcg@10": "ndcg_cut_10", "recall@10": "recall_10", "recall@100": "recall_100", "map": "map"}


def rank(queries: Vectors, corpus: Vectors, depth: int = DEPTH) -> tuple[NDArray[np.int64], Vectors]:
    """The best passages of every query by dot product: positions and scores, each (queries, depth), best first.

    Args:
        queries: (n, d), L2-normalised for cosine.
        corpus: (m, d).
        depth: at most m are given.
    """
    depth = min(depth, len(corpus))
    positions = np.empty((len(queries), depth), dtype=np.int64)
    best = np.empty((len(queries), depth), dtype=np.float32)
    step = max(1, CHUNK_CELLS // max(1, len(corpus)))
    for start in range(0, len(queries), step):
        scores = queries[start : start + step] @ corpus.T
        # Stable, so that of equal scores the earlier passage comes first, whatever the chunk.
        order = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
        positions[start : start + step] = order
        best[start : start + step] = np.take_along_axis(scores, order, axis=1)
    return positions, best


def run_of(tested: RetrievalSet, queries: Vectors, corpus: Vectors) -> Run:
    """Scores of the best `DEPTH` passages of the corpus, or of all candidates, for every query.

    Args:
        tested: the set; rows of `queries` and `corpus` are in its order.
        queries: (number of queries, d), L2-normalised.
        corpus: (number of passages, d), L2-normalised.

    Raises:
        InputError: another number of vectors than of texts.
    """
    for name, vectors, texts in (("queries", queries, tested.queries), ("passages", corpus, tested.corpus)):
        if len(vectors) != len(texts):
            raise InputError(f"{tested.name}: {len(vectors)} vectors for {len(texts)} {name}")
    query_ids, passage_ids = list(tested.queries), list(tested.corpus)
    if tested.candidates is None:
        positions, scores = rank(queries, corpus)
        return {
            query: {passage_ids[p]: float(s) for p, s in zip(positions[i], scores[i])}
            for i, query in enumerate(query_ids)
        }
    place = {p: i for i, p in enumerate(passage_ids)}
    run: Run = {}
    for i, query in enumerate(query_ids):
        offered = tested.candidates[query]
        found = corpus[[place[p] for p in offered]] @ queries[i]
        run[query] = {p: float(s) for p, s in zip(offered, found)}
    return run


def evaluate_run(qrels: Mapping[str, Mapping[str, int]], run: Run) -> dict[str, NDArray[np.float64]]:
    """Each of `METRICS` per query, x 100, in the order of `qrels`; a query without a run scores 0.

    MAP is over what `run` holds: the best `DEPTH`, or all candidates. Of equal scores TREC's program puts the
    passage with the greater id first.
    """
    try:
        import pytrec_eval
    except ImportError as error:
        raise InputError("retrieval metrics need pytrec_eval: pip install pytrec-eval-terrier") from error
    judged = {query: dict(row) for query, row in qrels.items()}
    full = pytrec_eval.RelevanceEvaluator(judged, {"ndcg_cut.10", "recall.10,100", "map"}).evaluate(run)
    # recip_rank knows no depth: what stands below the tenth place is taken away before.
    first = {q: dict(sorted(row.items(), key=lambda item: (item[1], item[0]))[-10:]) for q, row in run.items()}
    reciprocal = pytrec_eval.RelevanceEvaluator(judged, {"recip_rank"}).evaluate(first)
    columns: dict[str, Sequence[float]] = {
        name: [full.get(q, {}).get(trec, 0.0) for q in judged] for name, trec in _TREC.items()
    }
    columns["mrr@10"] = [reciprocal.get(q, {}).get("recip_rank", 0.0) for q in judged]
    return {name: np.asarray(columns[name], dtype=np.float64) * 100 for name in METRICS}


def evaluate(tested: RetrievalSet, queries: Vectors, corpus: Vectors) -> dict[str, NDArray[np.float64]]:
    """`evaluate_run` of `run_of`: per query, x 100, in the order of the set's queries."""
    return evaluate_run(tested.qrels, run_of(tested, queries, corpus))
