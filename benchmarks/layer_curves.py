"""Scores by layer: the curves that a `layers.json` holds, their best layers and largest steps."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.render import signed


@dataclass(frozen=True)
class Step:
    """A change of score from one layer, or one k, to the next."""

    start: int
    end: int
    change: float

    def __str__(self) -> str:
        return f"{self.start} to {self.end}, {signed(self.change)}"


@dataclass(frozen=True)
class Curve:
    """Scores (Spearman x 100) by layer of one model with one attention.

    Attributes:
        attention: as the encoder records it.
        first: the first bidirectional layer k; None where that has no meaning (encoders).
        scores: task -> (L + 1,), from the token embeddings to the last layer.
        constant: layers that give all pairs of some task one similarity (the last token's embedding, where every
            text ends in the same prompt). They score 0, and neither the best layer nor a step is looked for there.
    """

    attention: str
    first: int | None
    scores: Mapping[str, np.ndarray]
    constant: frozenset[int]

    @property
    def average(self) -> np.ndarray:
        """The mean over the tasks, (L + 1,)."""
        return np.mean(list(self.scores.values()), axis=0)

    @property
    def points(self) -> list[tuple[int, float]]:
        """(layer, average) of the layers that tell pairs apart."""
        return [(layer, float(score)) for layer, score in enumerate(self.average) if layer not in self.constant]

    @property
    def last(self) -> float:
        """The average at the last layer."""
        return float(self.average[-1])

    @property
    def best(self) -> int:
        """The layer with the highest average; the first of equals."""
        return best_of(self.points) if self.points else len(self.average) - 1


@dataclass(frozen=True)
class Report:
    """The curves of one model, and how it was scored.

    Attributes:
        document: the content of `layers.json`.
        tasks: those that the tables show.
        own: the curve of the model's own attention.
        over_k: the curves of the table over k, ascending, the model's own among them; empty if not asked for.
    """

    document: Mapping[str, Any]
    tasks: tuple[str, ...]
    own: Curve
    over_k: tuple[Curve, ...]

    @classmethod
    def of(cls, document: Mapping[str, Any], tasks: Sequence[str], firsts: Sequence[int]) -> Report:
        """The report of some tasks and some k; all of them must be in the document."""
        runs = document["runs"]
        wanted = {*firsts, runs[0]["bidirectional_from"]} if firsts else set()
        curves = [_curve(run, tasks) for run in runs if run["bidirectional_from"] in wanted]
        over_k = sorted(curves, key=lambda curve: curve.first or 0)
        return cls(document, tuple(tasks), _curve(runs[0], tasks), tuple(over_k))

    @property
    def layers(self) -> int:
        """The number of layers L."""
        return int(self.document["layers"])

    @property
    def name(self) -> str:
        """Method, model and adapters in a few words."""
        adapters = self.document["encoder"]["adapter"]
        return " + ".join([f"{self.document['method']} with {self.document['model']}", *adapters])

    @property
    def what(self) -> str:
        """Suite, protocol and metric, and what makes the numbers incomparable."""
        document = self.document
        facts = [f"{document['suite']} ({document['protocol']} protocol), Spearman x 100"]
        limits = {document["tasks"][task]["limit"] for task in self.tasks} - {None}
        if limits:
            facts.append(f"{max(limits)} pairs a task")
        if document["shuffled_gold"]:
            facts.append("GOLD SHUFFLED")
        if document["protocol"] == "shipped":
            facts.append("the project's own small set, not comparable with any benchmark")
        return ", ".join(facts)


def best_of(points: Sequence[tuple[int, float]]) -> int:
    """Where the highest score is; the first of equals."""
    return max(points, key=lambda point: (point[1], -point[0]))[0]


def largest_step(points: Sequence[tuple[int, float]], sign: int) -> Step | None:
    """The largest gain (`sign` 1) or drop (-1) between neighbours l and l + 1; None where there is none."""
    steps = [Step(a, b, y - x) for (a, x), (b, y) in itertools.pairwise(points) if b == a + 1]
    steps = [step for step in steps if sign * step.change > 0]
    return max(steps, key=lambda step: sign * step.change, default=None)


def _curve(run: Mapping[str, Any], tasks: Sequence[str]) -> Curve:
    records = {task: run["tasks"][task] for task in tasks}
    return Curve(
        attention=run["attention"],
        first=run["bidirectional_from"],
        scores={task: np.array(record["spearman"]) for task, record in records.items()},
        constant=frozenset(layer for record in records.values() for layer in record["constant"]),
    )
