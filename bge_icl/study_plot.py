"""The plot of the few-shot study: left quality, right cost, over the number of examples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bge_icl.study_report import METRIC, Report, Row
from common.io import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Text stays text in the SVG, and the same numbers give the same file.
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "fewshot",
}
LINES: tuple[Any, ...] = ("-", "--", ":", "-.")
MARKERS: tuple[Any, ...] = ("o", "s", "^", "D", "v")


def plot(report: Report) -> Figure:
    """Colour: the set. Line: the model. Right: hollow marks without the prefix cache."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 4.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        for s, name in enumerate(report.sets):
            for m, model in enumerate(report.models):
                rows = [row for row in report.rows if (row.set, row.model) == (name, model)]
                if rows:
                    style = {"color": f"C{s}", "linestyle": LINES[m % 4], "marker": MARKERS[m % 5], "markersize": 5}
                    _quality(left, rows, style)
                    _cost(right, rows, style)
        left.set_ylabel("nDCG@10 x 100")
        right.set_ylabel("seconds per 1,000 queries")
        right.set_yscale("log")
        for axes in (left, right):
            axes.set_xlabel("examples in the query")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(alpha=0.25)
        handles = [Line2D([], [], color=f"C{s}", label=name) for s, name in enumerate(report.sets)]
        handles += [
            Line2D([], [], color="black", linestyle=LINES[m % 4], marker=MARKERS[m % 5], label=model)
            for m, model in enumerate(report.models)
        ]
        if any(row.plain_seconds is not None for row in report.rows):
            handles.append(
                Line2D([], [], color="black", linestyle="", marker="o", fillstyle="none", label="without prefix cache")
            )
        figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
        figure.suptitle("Quality and cost over the number of few-shot examples", fontsize=10)
    return figure


def _quality(axes: Axes, rows: list[Row], style: dict[str, Any]) -> None:
    shots, scores = [row.shots for row in rows], [row.scores[METRIC] for row in rows]
    axes.errorbar(shots, scores, yerr=[row.spread or 0.0 for row in rows], capsize=2, linewidth=1.4, **style)


def _cost(axes: Axes, rows: list[Row], style: dict[str, Any]) -> None:
    axes.plot([row.shots for row in rows], [row.seconds for row in rows], linewidth=1.4, **style)
    plain = [(row.shots, row.plain_seconds) for row in rows if row.plain_seconds is not None]
    if plain:
        axes.plot(*zip(*plain), linewidth=0.8, fillstyle="none", **style)


def save(figure: Figure, path: Path) -> None:
    """Write `path`.png and `path`.svg, each atomically."""
    with matplotlib.rc_context(STYLE):
        for suffix, options in ((".png", {"dpi": 150}), (".svg", {"metadata": {"Date": None}})):
            with atomic_file(path.with_suffix(suffix)) as handle:
                figure.savefig(handle, format=suffix[1:], **options)
