"""Result folders for the tests of this folder, made the way the harness makes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from benchmarks import published
from benchmarks.results import write_result


@pytest.fixture(scope="session")
def scores() -> dict[str, np.ndarray]:
    """Real numbers to rank: the published STS scores of 43 systems, one array (43,) per column."""
    rows = [row for name in ("angle-sts", "baselines-sts") for row in published.load(name).rows]
    full = [row for row in rows if row.average is not None and None not in row.values.values()]
    columns = {column: np.array([row.values[column] for row in full]) for column in full[0].values}
    return columns | {"Avg": np.array([row.average for row in full])}


@pytest.fixture(scope="session")
def payload() -> Callable[..., dict[str, Any]]:
    """Makes the JSON object of a result; keyword arguments replace its keys."""

    def make(task: str = "STS12", **changes: Any) -> dict[str, Any]:
        facts: dict[str, Any] = {
            **{"schema": 1, "task": task, "suite": "sts", "protocol": "senteval", "metric": "spearman"},
            **{"score": 72.37, "scores": {}, "n": 3108, "limit": None, "index": None},
            **{"method": "sentence-transformer", "model": "minilm"},
            "encoder": {"pooling": "mean", "adapter": None, "dtype": "float32", "fingerprint": "a1"},
            **{"compat": [], "data": {"source": "a folder", "sha256": f"hash of {task}"}},
            **{"environment": {"torch": "2.13.0"}, "command": "python -m benchmarks run", "seed": 0},
            **{"tokens": 1000, "texts": 20, "seconds": 2.0, "tokens_per_second": 500.0},
            **{"peak_memory_mb": 321.5, "created": "2026-11-20T05:00:00+00:00"},
        }
        return facts | changes

    return make


@pytest.fixture(scope="session")
def pair_folder(payload: Callable[..., dict[str, Any]]) -> Callable[..., Path]:
    """Writes a result folder of pair tasks from predictions and one gold array, scores by scipy."""

    def make(folder: Path, predictions: Mapping[str, np.ndarray], gold: np.ndarray, **changes: Any) -> Path:
        for task, prediction in predictions.items():
            score = changes.get("score")
            if score is None:
                score = float(spearmanr(prediction, gold).statistic) * 100
            facts = {"score": score, "scores": {"spearman": score}, "n": len(gold)} | changes
            write_result(folder, payload(task, **facts), {"prediction": prediction, "gold": gold})
        return folder

    return make


@pytest.fixture(scope="session")
def score_folder(payload: Callable[..., dict[str, Any]]) -> Callable[..., Path]:
    """Writes a result folder of scores alone, with the official sizes of the SentEval protocol."""

    def make(folder: Path, values: Mapping[str, float], **changes: Any) -> Path:
        sizes = published.load("angle-sts").sizes
        for task, score in values.items():
            write_result(folder, payload(task, **({"score": score, "n": sizes[task]} | changes)))
        return folder

    return make
