"""The two averages of the paper, named: awareness (its Table 1) and generic (its Table 2).

The released README prints both in one column. A partial average is none: without all of its tasks it is None, which
tables show as a dash.
"""

from __future__ import annotations

from collections.abc import Mapping

from inbedder.evaluation.scores import harmonic_mean
from inbedder.evaluation.tasks import GENERIC

TOPIC, LOCATION = "NYTTopicClustering", "NYTLocationClustering"


def nyt(scores: Mapping[str, float]) -> float | None:
    """The harmonic mean of NYT's two V-measures."""
    return None if TOPIC not in scores or LOCATION not in scores else harmonic_mean(scores[TOPIC], scores[LOCATION])


def awareness(scores: Mapping[str, float]) -> float | None:
    """mean(IntentEmotion's harmonic mean, NYT's harmonic mean, InstructSTSB): does the instruction matter?"""
    return _mean([scores.get("IntentEmotion"), nyt(scores), scores.get("InstructSTSBenchmark")])


def generic(scores: Mapping[str, float]) -> float | None:
    """mean(AskUbuntu, SciDocsRR, StackOverflow, TwentyNewsgroups): is it still an embedder?"""
    return _mean([scores.get(name) for name in GENERIC])


def averages(scores: Mapping[str, float]) -> dict[str, float | None]:
    """Both, by name, from scores x 100 by task."""
    return {"awareness": awareness(scores), "generic": generic(scores)}


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
