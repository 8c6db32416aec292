"""What `python -m benchmarks layers` shows of its `layers.json`: tables, notes and files."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.layer_curves import Curve, Report, Step, best_of, largest_step
from benchmarks.render import Cell, Table, render, render_records, signed
from common.io import read_json, write_json, write_text

FILE = "layers.json"


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
