"""The plots of `python -m benchmarks layers`: score by layer, and score by first bidirectional layer."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.layer_curves import Curve, Report, Step, best_of, largest_step
from common.io import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCORE = "Spearman x 100"
# Text stays text in the SVG, and the same numbers give the same file.
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "layers",
}


def plot_layers(report: Report) -> Figure:
    """The model's own curve: each task, the average, the best layer (dashed), the largest gain and drop."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 4.8), layout="constrained")
        axes = figure.add_subplot()
        _tasks(axes, report, report.own)
        points = report.own.points
        _average(axes, points, f"average of {len(report.tasks)}" if len(report.tasks) > 1 else report.tasks[0])
        _best(axes, report.own.best, f"best: layer {report.own.best}")
        _step(axes, largest_step(points, 1), "largest gain", "tab:green")
        _step(axes, largest_step(points, -1), "largest drop", "tab:red")
        axes.set_xlabel("layer (0: token embeddings)")
        axes.set_xlim(-0.5, report.layers + 0.5)
        axes.set_ylabel(SCORE)
        _finish(figure, axes, f"{report.name}, attention {report.own.attention}\n{report.what}")
    return figure


def plot_k(report: Report) -> Figure:
    """Left: the last layer's score over k. Right: the curve by layer of every k."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 4.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        points = [(curve.first or 0, curve.last) for curve in report.over_k]
        for number, task in enumerate(report.tasks if len(report.tasks) > 1 else ()):
            scores = [curve.scores[task][-1] for curve in report.over_k]
            left.plot([k for k, _ in points], scores, color=f"C{number}", linewidth=1, alpha=0.6, label=task)
        _average(left, points, f"average of {len(report.tasks)}" if len(report.tasks) > 1 else report.tasks[0])
        _best(left, best_of(points), f"best: k = {best_of(points)}")
        left.set_xlabel(f"first bidirectional layer k (0: all, {report.layers}: causal)")
        left.set_ylabel(f"{SCORE}, last layer")
        left.set_xlim(-0.5, report.layers + 0.5)

        colours = matplotlib.colormaps["viridis"]
        for curve in report.over_k:
            causal = curve.first == report.layers
            colour = "black" if causal else colours((curve.first or 0) / report.layers)
            style: dict[str, Any] = {"linestyle": "--", "label": "causal"} if causal else {}
            right.plot(*zip(*curve.points), color=colour, linewidth=1.2, **style)
        scale = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(0, report.layers), colours)
        figure.colorbar(scale, ax=right, label="first bidirectional layer k")
        right.set_xlabel("layer (0: token embeddings)")
        right.set_xlim(-0.5, report.layers + 0.5)
        right.set_ylabel(SCORE if len(report.tasks) == 1 else f"{SCORE}, average")
        if any(curve.first == report.layers for curve in report.over_k):
            right.legend(frameon=False)
        right.xaxis.set_major_locator(MaxNLocator(integer=True))
        right.grid(alpha=0.25)
        _finish(figure, left, f"{report.name}, bidirectional from layer k on, without training\n{report.what}")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write `path`.png and `path`.svg, each atomically."""
    with matplotlib.rc_context(STYLE):
        for suffix, options in ((".png", {"dpi": 150}), (".svg", {"metadata": {"Date": None}})):
            with atomic_file(path.with_suffix(suffix)) as handle:
                figure.savefig(handle, format=suffix[1:], **options)


def _tasks(axes: Axes, report: Report, curve: Curve) -> None:
    for number, task in enumerate(report.tasks if len(report.tasks) > 1 else ()):
        scores = np.array(curve.scores[task], dtype=float)
        scores[list(curve.constant)] = np.nan
        axes.plot(scores, color=f"C{number}", linewidth=1, alpha=0.6, label=task)


def _average(axes: Axes, points: list[tuple[int, float]], label: str) -> None:
    axes.plot(*zip(*points), color="black", linewidth=2, marker="o", markersize=3.5, label=label)


def _best(axes: Axes, where: int, label: str) -> None:
    axes.axvline(where, color="black", linestyle="--", linewidth=1, label=label)


def _step(axes: Axes, step: Step | None, name: str, colour: str) -> None:
    if step is not None:
        axes.axvspan(step.start, step.end, color=colour, alpha=0.15, linewidth=0, label=f"{name}: {step}")


def _finish(figure: Figure, axes: Axes, title: str) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    # 13 letters of this size to the inch; titles with long paths stay within the figure.
    width = int(13 * figure.get_figwidth())
    figure.suptitle("\n".join(textwrap.fill(line, width) for line in title.splitlines()), fontsize=9)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=width // 26, frameon=False, fontsize=9)
