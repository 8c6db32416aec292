"""The figures of a report, as SVG text: quality against cost, differences, few-shot curves."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from benchmarks.comparison import AVERAGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLE: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "none"}
MARKERS = "osD^vP*X<>"


def svg(figure: Figure, salt: str) -> str:
    """The figure as an <svg> element; `salt` keeps ids of several figures on a page apart."""
    buffer = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return text[text.index("<svg") :]


def quality_against_cost(document: Mapping[str, Any]) -> Figure | None:
    """The average (or the first task) over seconds of training and of encoding; bars: the 95% interval."""
    rows = [(row, row[AVERAGE] or row["scores"][document["tasks"][0]]) for row in document["rows"]]
    rows = [(row, score) for row, score in rows if score]
    if not rows:
        return None
    trained = any(row["cost"]["train_seconds"] for row, _ in rows)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 4.2) if trained else (6.5, 4.2), layout="constrained")
        axes = figure.subplots(1, 2 if trained else 1, squeeze=False, sharey=True)[0]
        methods = list(dict.fromkeys(row["method"] for row, _ in rows))
        for number, (row, score) in enumerate(rows):
            place = methods.index(row["method"]) if trained else number
            look = {"color": f"C{place % 10}", "marker": MARKERS[place % 10], "linestyle": "none", "label": row["name"]}
            look |= {"fillstyle": "full" if row["trained"] or not trained else "none", "elinewidth": 0.8}
            low, high = score["interval"] or (score["mean"], score["mean"])
            bars = [[max(0.0, score["mean"] - low)], [max(0.0, high - score["mean"])]]
            if not row["cost"]["encode_tokens"]:  # words are counted, nothing is encoded
                for one in axes:
                    one.axhline(score["mean"], color="grey", linestyle=":", label=row["name"])
                continue
            axes[-1].errorbar(row["cost"]["encode_seconds_per_1000"], score["mean"], yerr=bars, **look)
            if trained:
                axes[0].errorbar(row["cost"]["train_seconds"] or 0, score["mean"], yerr=bars, **look)
        axes[-1].set_xlabel("encoding, seconds per 1,000 texts")
        axes[-1].set_xscale("log")
        axes[-1].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes[-1].xaxis.set_minor_formatter(NullFormatter())
        axes[0].set_ylabel(
            f"{document['metric']} x 100, {'average' if len(document['tasks']) > 1 else document['tasks'][0]}"
        )
        if trained:
            axes[0].set_xlabel("training, seconds (0: not trained)")
        for one in axes:
            one.grid(alpha=0.25)
        axes[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
    return figure


def differences(document: Mapping[str, Any]) -> Figure | None:
    """Per task, every row's difference to the baseline with its interval."""
    found = document["differences"]
    tasks = [t for t in [*document["tasks"], AVERAGE] if any(d["task"] == t for of in found.values() for d in of)]
    if not tasks:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 1.6 + 0.16 * len(found) * len(tasks)), layout="constrained")
        axes = figure.subplots()
        for number, (name, of_row) in enumerate(found.items()):
            at = {d["task"]: d for d in of_row}
            shown = [t for t in tasks if t in at]
            heights = [-tasks.index(t) - 0.8 * number / len(found) for t in shown]
            middle = [at[t]["difference"] for t in shown]
            bars = [[max(0.0, at[t]["difference"] - at[t]["low"]) for t in shown],
                    [max(0.0, at[t]["high"] - at[t]["difference"]) for t in shown]]  # fmt: skip
            axes.errorbar(middle, heights, xerr=bars, fmt=MARKERS[number % 10], ms=4, elinewidth=1, label=name,
                          color=f"C{number % 10}")  # fmt: skip
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks([-i - 0.4 for i in range(len(tasks))], tasks)
        axes.set_xlabel(f"difference to {document['baseline']}, with 95% interval")
        axes.grid(alpha=0.25, axis="x")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
    return figure


def fewshot(documents: Sequence[Mapping[str, Any]]) -> Figure:
    """nDCG@10 over the number of examples, a line per model and set; the mean over the draws of examples."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.5, 4), layout="constrained")
        axes = figure.subplots()
        for number, document in enumerate(documents):
            for place, name in enumerate(dict.fromkeys(cell["set"] for cell in document["cells"])):
                _curve(axes, document, name, f"C{place % 10}", ("-", "--", ":", "-.")[number % 4])
        axes.set_xlabel("examples in the query")
        axes.set_ylabel("nDCG@10 x 100")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
    return figure


def _curve(axes: Axes, document: Mapping[str, Any], name: str, color: str, line: str) -> None:
    shots: dict[int, list[float]] = {}
    for cell in document["cells"]:
        if cell["set"] == name:
            shots.setdefault(cell["shots"], []).append(100 * cell["scores"]["ndcg@10"])
    points = sorted((n, sum(values) / len(values)) for n, values in shots.items())
    label = f"{document.get('label', document['encoder'].get('model'))}, {name}"
    axes.plot(*zip(*points), color=color, linestyle=line, marker="o", markersize=4, label=label)
