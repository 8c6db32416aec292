"""What `python -m benchmarks layers` shows of its `layers.json`: curves, their turning points, tables, files."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.render import Cell, Table, render, render_records, signed
from common.io import read_json, write_json, write_text

FILE = "layers.json"


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


# ------------------------------------------------------------------------------------------------ tables


def layer_table(report: Report) -> Table:
    """Scores of the model's own attention: a row per layer."""
    curve = report.own
    gain, drop = largest_step(curve.points, 1), largest_step(curve.points, -1)
    changes = {b: y - x for (a, x), (b, y) in itertools.pairwise(curve.points) if b == a + 1}
    rows: list[list[Cell]] = []
    for layer, average in enumerate(curve.average):
        marks = [
            *(["best"] if layer == curve.best else []),
            *(["largest gain"] if gain and layer == gain.end else []),
            *(["largest drop"] if drop and layer == drop.end else []),
            *(["all pairs alike"] if layer in curve.constant else []),
        ]
        scores = [float(curve.scores[task][layer]) for task in report.tasks]
        rows.append([layer, *scores, float(average), signed(changes.get(layer)), ", ".join(marks)])
    below = curve.last - float(curve.average[curve.best])
    notes = [
        f"best: layer {curve.best}, {curve.average[curve.best]:.2f}; last: layer {report.layers}, {curve.last:.2f} "
        f"({signed(below)})",
        *_turning_points(gain, drop, "layer"),
        *_about_states(report),
    ]
    title = f"{report.name}, attention {curve.attention}: score by layer; {report.what}"
    return Table(title, ["layer", *report.tasks, "Avg", "step", ""], rows, notes, left=[""])


def k_table(report: Report) -> Table:
    """Scores at the last layer: a row per first bidirectional layer k."""
    points = [(curve.first or 0, curve.last) for curve in report.over_k]
    best, gain, drop = best_of(points), largest_step(points, 1), largest_step(points, -1)
    causal = next((curve.last for curve in report.over_k if curve.first == report.layers), None)
    rows: list[list[Cell]] = []
    for curve in report.over_k:
        marks = [
            *(["best"] if curve.first == best else []),
            *(["largest gain"] if gain and curve.first == gain.end else []),
            *(["largest drop"] if drop and curve.first == drop.end else []),
            *(["the model's own"] if curve.attention == report.own.attention else []),
        ]
        scores = [float(curve.scores[task][-1]) for task in report.tasks]
        against = signed(None if causal is None else curve.last - causal)
        peak = [curve.best, float(curve.average[curve.best])]
        rows.append([_k_name(curve, report.layers), *scores, curve.last, against, *peak, ", ".join(marks)])
    notes = [
        f"layers k and above bidirectional, without any training; k = {report.layers} is the causal model",
        *_turning_points(gain, drop, "k ="),
    ]
    title = f"{report.name}: score at the last layer by first bidirectional layer k; {report.what}"
    columns = ["k", *report.tasks, "Avg", "to causal", "best layer", "its Avg", ""]
    return Table(title, columns, rows, notes, left=["k", ""])


def text(report: Report) -> str:
    """The tables for the terminal."""
    tables = [layer_table(report), *([k_table(report)] if report.over_k else [])]
    return "\n\n".join(render(table, "text") for table in tables)


def _turning_points(gain: Step | None, drop: Step | None, what: str) -> list[str]:
    found = [f"largest gain: {what} {gain}" if gain else "no gain from one to the next"]
    return [*found, f"largest drop: {what} {drop}" if drop else "no drop from one to the next"]


def _about_states(report: Report) -> list[str]:
    last = report.layers
    if report.document["final_norm"]:
        notes = [f"the final norm is on every layer: layer n is the model cut after its first n of {last} layers"]
    else:
        notes = [f"layer 0 is the token embeddings, layer {last} what the model gives; other layers as they come out"]
    if report.own.constant:
        layers = ", ".join(map(str, sorted(report.own.constant)))
        notes.append(f"layer {layers}: all pairs have one similarity, which scores 0; left out of best and steps")
    return notes


def _k_name(curve: Curve, layers: int) -> str:
    return f"{curve.first}" + {0: " (all)", layers: " (causal)"}.get(curve.first or 0, "")


# ------------------------------------------------------------------------------------------------- files


def write(report: Report, folder: Path) -> None:
    """Write the tables and plots, each atomically, and the summary into `layers.json` where it is news."""
    from benchmarks.layer_plot import plot_k, plot_layers, save

    files = {"layers": (layer_table(report), layer_records(report), plot_layers)}
    if report.over_k:
        files["bidirectional_from"] = (k_table(report), k_records(report), plot_k)
    for name, (table, records, plot) in files.items():
        write_text(folder / f"{name}.md", render(table, "markdown") + "\n")
        write_text(folder / f"{name}.csv", render_records(table.title, {}, records, "csv") + "\n")
        save(plot(report), folder / name)
    document = {**report.document, "summary": summary(report)}
    if read_json(folder / FILE) != document:
        write_json(folder / FILE, document)


def layer_records(report: Report) -> list[dict[str, Any]]:
    """A row per attention and layer, in full precision, the model's own attention first."""
    curves = [report.own, *(c for c in report.over_k if c.attention != report.own.attention)]
    return [
        {
            "attention": curve.attention,
            "bidirectional_from": curve.first,
            "layer": layer,
            **{task: float(scores[layer]) for task, scores in curve.scores.items()},
            "Avg": float(curve.average[layer]),
            "best": layer == curve.best,
            "constant": layer in curve.constant,
        }
        for curve in curves
        for layer in range(report.layers + 1)
    ]


def k_records(report: Report) -> list[dict[str, Any]]:
    """A row per k, in full precision: scores at the last layer, and the best layer."""
    return [
        {
            "bidirectional_from": curve.first,
            "attention": curve.attention,
            **{task: float(scores[-1]) for task, scores in curve.scores.items()},
            "Avg": curve.last,
            "best_layer": curve.best,
            "best_layer_avg": float(curve.average[curve.best]),
        }
        for curve in report.over_k
    ]


def summary(report: Report) -> dict[str, Any]:
    """Averages, best layers and turning points, for `layers.json`."""
    own = report.own
    found: dict[str, Any] = {
        "tasks": list(report.tasks),
        "attention": own.attention,
        "average": own.average.tolist(),
        "best_layer": own.best,
        **_steps(own.points),
    }
    if report.over_k:
        points = [(curve.first or 0, curve.last) for curve in report.over_k]
        found["bidirectional_from"] = {"rows": k_records(report), "best": best_of(points), **_steps(points)}
    return found


def _steps(points: Sequence[tuple[int, float]]) -> dict[str, Any]:
    gain, drop = largest_step(points, 1), largest_step(points, -1)
    return {
        "largest_gain": None if gain is None else {"from": gain.start, "to": gain.end, "change": gain.change},
        "largest_drop": None if drop is None else {"from": drop.start, "to": drop.end, "change": drop.change},
    }


def _curve(run: Mapping[str, Any], tasks: Sequence[str]) -> Curve:
    records = {task: run["tasks"][task] for task in tasks}
    return Curve(
        attention=run["attention"],
        first=run["bidirectional_from"],
        scores={task: np.array(record["spearman"]) for task, record in records.items()},
        constant=frozenset(layer for record in records.values() for layer in record["constant"]),
    )
