"""Semantic textual similarity (STS12-16, STSBenchmark, SICK-R; SentEval's and MTEB's protocol) and transfer tasks.

This package stands alone: it imports numpy, scipy and the standard library (`datasets` only to read the hub; torch and
scikit-learn only for the transfer tasks, which are in `senteval.transfer`, `transfer_load` and `transfer_tasks`).

    from senteval import evaluate_pairs, load_task

    task = load_task("STS12", "senteval", "data")
    scores, prediction = evaluate_pairs(model.encode, task)

The two protocols are never mixed, and every result names its own: see `senteval.tasks`.
"""

from senteval.evaluate import evaluate_pairs
from senteval.load import load_suite, load_task
from senteval.metrics import alignment, pairwise_cosine, score_pairs, uniformity
from senteval.tasks import (
    OFFICIAL_PAIRS,
    PROTOCOLS,
    SUBSETS,
    TASKS,
    PairTask,
    SentEvalError,
    blank_padded,
    task_name,
    task_names,
)

__all__ = [
    "OFFICIAL_PAIRS",
    "PROTOCOLS",
    "SUBSETS",
    "TASKS",
    "PairTask",
    "SentEvalError",
    "alignment",
    "blank_padded",
    "evaluate_pairs",
    "load_suite",
    "load_task",
    "pairwise_cosine",
    "score_pairs",
    "task_name",
    "task_names",
    "uniformity",
]
