"""A picture of clustered texts: a map in two dimensions, coloured by cluster, each cluster named by its words."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from common.io import atomic_file
from inbedder.text_clusters import Clustering

Colour = tuple[float, float, float]
MapMethod = Literal["auto", "tsne", "pca"]
# Beyond it t-SNE takes minutes; below it a handful of points has no neighbourhoods to keep.
TSNE_MOST, TSNE_LEAST = 5000, 10
PERPLEXITY = 30
NAMING_WORDS = 4
LEGEND_MOST = 20
STYLE: Any = {"font.size": 10, "svg.hashsalt": "clusters"}


def map_texts(vectors: np.ndarray, method: MapMethod = "auto", seed: int = 42) -> np.ndarray:
    """Places (n, 2) of vectors (n, D) on a map.

    tsne keeps neighbours together (distances between groups mean little), pca shows the two directions of largest
    variance as they are; auto is tsne for 10 to 5,000 texts, else pca.
    """
    n = len(vectors)
    if method == "auto":
        method = "tsne" if TSNE_LEAST <= n <= TSNE_MOST else "pca"
    if method == "tsne" and n > 3:
        from sklearn.manifold import TSNE

        perplexity = min(PERPLEXITY, (n - 1) / 3)
        return np.asarray(TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(vectors))
    from sklearn.decomposition import PCA

    places = np.zeros((n, 2), dtype=np.float32)
    parts = min(2, *vectors.shape)
    if n > 1:
        places[:, :parts] = PCA(parts, random_state=seed).fit_transform(vectors)
    return places


def plot_clusters(clustering: Clustering, places: np.ndarray, note: str = "") -> Figure:
    """The map: points and a number in the middle of each cluster; the legend has the number, size and words of each.

    Args:
        clustering: of n texts.
        places: (n, 2), of `map_texts`.
        note: a line below the instruction: model, data.
    """
    colours = cluster_colours(len(clustering.clusters))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.5, 6), layout="constrained")
        axes = figure.add_subplot()
        size = float(np.clip(6000 / max(1, len(places)), 3, 40))
        rows = np.random.default_rng(0).permutation(len(places))  # so that no cluster hides the others
        colour = np.array(colours)[clustering.assignment]
        axes.scatter(places[rows, 0], places[rows, 1], c=colour[rows], s=size, alpha=0.8, linewidths=0)
        for number, one in enumerate(clustering.clusters):
            x, y = _middle(places[list(one.members)])
            text = axes.text(x, y, str(number + 1), ha="center", va="center", fontsize=13, fontweight="bold")
            text.set_path_effects([patheffects.withStroke(linewidth=3, foreground="white")])
        axes.set_xticks([])
        axes.set_yticks([])
        for side in axes.spines.values():
            side.set_color("0.8")
        axes.set_title(textwrap.fill(clustering.instruction, 72), fontsize=13, loc="left", parse_math=False)
        if note:
            axes.set_xlabel(textwrap.fill(note, 100), fontsize=8, color="0.4", loc="left", parse_math=False)
        _legend(figure, clustering, colours)
    return figure


def save_plot(figure: Figure, path: Path) -> None:
    """Write a .png, atomically."""
    with atomic_file(path) as handle:
        figure.savefig(handle, format="png", dpi=150)


def cluster_colours(count: int) -> list[Colour]:
    """So many colours that are told apart as well as may be."""
    if count <= 10:
        return list(matplotlib.colormaps["tab10"].colors[:count])  # type: ignore[attr-defined]
    if count <= 20:
        return list(matplotlib.colormaps["tab20"].colors[:count])  # type: ignore[attr-defined]
    hues = [(r, g, b) for r, g, b, _ in matplotlib.colormaps["turbo"](np.linspace(0.03, 0.97, count)).tolist()]
    return hues[::2] + hues[1::2]  # neighbours in the list are apart in hue


def _middle(places: np.ndarray) -> tuple[float, float]:
    """The place in a cluster that is nearest to its median: the median itself may lie in another cluster."""
    distance = np.linalg.norm(places - np.median(places, axis=0), axis=1)
    x, y = places[distance.argmin()]
    return float(x), float(y)


def _legend(figure: Figure, clustering: Clustering, colours: Sequence[Colour]) -> None:
    handles, labels = [], []
    for number, one in enumerate(clustering.clusters[:LEGEND_MOST]):
        words = textwrap.fill(", ".join(one.words[:NAMING_WORDS]) or "(no words)", 34)
        handles.append(Line2D([], [], color=colours[number], marker="o", linestyle="", markersize=8))
        labels.append(f"{number + 1}  ({one.size} texts)\n{words}")
    rest = len(clustering.clusters) - LEGEND_MOST
    if rest > 0:
        handles.append(Line2D([], [], linestyle=""))
        labels.append(f"and {rest} more, see the summary")
    columns = 1 if len(handles) <= 12 else 2
    legend = figure.legend(handles, labels, loc="outside right upper", frameon=False, ncols=columns,
                           fontsize=9 if columns == 1 else 8, labelspacing=0.9, alignment="left")  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)
