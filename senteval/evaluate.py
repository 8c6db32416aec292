"""Evaluate an encoder on one task of graded pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from senteval.metrics import alignment, pairwise_cosine, score_pairs, uniformity
from senteval.tasks import PairTask, SentEvalError

POSITIVE_GRADE = 4.0
"""Pairs graded so or higher (0-5 scale) are the positive pairs of `alignment`; SimCSE takes those above 4."""


def evaluate_pairs(
    encode: Callable[[list[str]], np.ndarray], task: PairTask, *, geometry: bool = True
) -> tuple[dict[str, Any], np.ndarray]:
    """Embed a task's texts and score the cosine of each pair.

    Args:
        encode: texts -> (2n, D) array. It is called once with all 2n texts, first texts then second ones, so
            that it can sort, batch and drop duplicates itself.
        task: from `load_task`.
        geometry: also compute alignment and uniformity.

    Returns:
        The scores of `score_pairs` with task, protocol, source, fingerprint and complete (see `PairTask`),
        alignment over the pairs graded 4 or more (None if there is none), and uniformity over the distinct
        texts (None if there are fewer than two); and the (n,) float64 predictions in the order of the data.

    Raises:
        SentEvalError: `encode` returns another number of vectors than texts, or a vector that is not finite.
    """
    n = len(task)
    texts = task.text1 + task.text2
    vectors = np.asarray(encode(texts))
    if vectors.ndim != 2 or len(vectors) != len(texts):
        raise SentEvalError(
            f"{task.name}: encode gave an array of shape {vectors.shape} for {len(texts)} texts, "
            f"expected ({len(texts)}, D)"
        )
    try:
        prediction = pairwise_cosine(vectors[:n], vectors[n:])
    except SentEvalError as error:
        raise SentEvalError(f"{task.name}: {error}") from error
    scores: dict[str, Any] = {
        "task": task.name,
        "protocol": task.protocol,
        "source": task.source,
        "fingerprint": task.fingerprint,
        "complete": task.complete,
        **score_pairs(prediction, task.gold, task.subset),
    }
    if geometry:
        positive = np.flatnonzero(task.gold >= POSITIVE_GRADE)
        first_place = {text: i for i, text in reversed(list(enumerate(texts)))}
        distinct = sorted(first_place.values())
        scores["alignment"] = alignment(vectors[positive], vectors[n + positive]) if positive.size else None
        scores["uniformity"] = uniformity(vectors[distinct]) if len(distinct) > 1 else None
    return scores, prediction
