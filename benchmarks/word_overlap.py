"""The floor of every STS table: how similar two texts are by the words that they share, without any model."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks import results
from benchmarks.result_record import result_record
from common.io import sha256_of
from senteval import PairTask, score_pairs

METHOD = "word-overlap"
_WORD = re.compile(r"\w+")


def jaccard(first: str, second: str) -> float:
    """|A & B| / |A | B| of the two sets of lower-case words, from 0 to 1; two texts without words: 1."""
    a, b = (set(_WORD.findall(text.lower())) for text in (first, second))
    return len(a & b) / len(a | b) if a | b else 1.0


def evaluate_word_overlap(
    tasks: Mapping[str, PairTask], suite: str, folder: Path, *, limit: int | None = None, seed: int = 0
) -> dict[str, results.Result]:
    """Score the overlap on each task and write result files as `benchmarks.run.evaluate` does.

    Args:
        tasks: the data, as `benchmarks.run.load_tasks` gives it.
        suite: its name, for the result files.
        folder: of the results; what is there is replaced.
        limit, seed: with which the pairs were drawn.
    """
    encoder = {
        "method": METHOD,
        "model": "none",
        "title": "words that both texts have, by all words of either (Jaccard)",
        "template": "{text}",
        "pooling": None,
        "attention": None,
        "dtype": None,
        "adapter": None,
        "fingerprint": sha256_of([METHOD, _WORD.pattern]),
    }
    for name, task in tasks.items():
        started = time.perf_counter()
        prediction = np.array([jaccard(a, b) for a, b in zip(task.text1, task.text2)])
        seconds = time.perf_counter() - started
        scores = score_pairs(prediction, task.gold, task.subset)
        whole = len(task) == task.total
        record = result_record(
            encoder,
            task=name,
            suite=suite,
            protocol=task.protocol,
            metric="spearman",
            score=scores["spearman"],
            scores=scores,
            n=len(task),
            limit=None if whole else limit,
            index=None if whole else task.index,
            data={"source": task.source, "sha256": task.fingerprint, "complete": task.complete},
            seed=seed,
            texts=2 * len(task),
            tokens=0,
            seconds=seconds,
            peak_memory_mb=None,
        )
        results.write_result(folder, record, {"prediction": prediction, "gold": task.gold})
    return results.read_folder(folder)
