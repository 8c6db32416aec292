"""What `python -m inbedder.propose` writes: a CSV per instruction, a summary of all of them in Markdown."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from common.io import write_text
from inbedder.text_clusters import Cluster, Clustering

SHOWN_WORDS = 10
SHOWN_TEXTS = 3
SHOWN_LABELS = 5
TEXT_WIDTH = 160


def write_csv(path: Path, texts: Sequence[str], clustering: Clustering, places: np.ndarray) -> None:
    """One row per text, in the order of the texts: text, cluster (from 1), answer, x, y. Atomic."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["text", "cluster", "answer", "x", "y"])
    answers = clustering.answers or [""] * len(texts)
    for text, number, answer, (x, y) in zip(texts, clustering.assignment, answers, places, strict=True):
        writer.writerow([text, int(number) + 1, answer, f"{x:.4f}", f"{y:.4f}"])
    write_text(path, buffer.getvalue())


def file_names(instructions: Sequence[str], given: str | None = None) -> list[str]:
    """A name for the files of each instruction, without suffix: a number, and its words or the name given."""
    names = [given or instruction for instruction in instructions]
    slugs = [re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:48].strip("-") for name in names]
    return [f"{number}-{slug}".rstrip("-") for number, slug in enumerate(slugs, 1)]


def agreement(found: Sequence[Clustering]) -> list[tuple[int, int, float]]:
    """The adjusted Rand index of every pair of clusterings: 1 for the same clusters, about 0 for unrelated ones."""
    from sklearn.metrics import adjusted_rand_score

    pairs = combinations(range(len(found)), 2)
    return [(i, j, float(adjusted_rand_score(found[i].assignment, found[j].assignment))) for i, j in pairs]


def summary(
    found: Sequence[Clustering],
    texts: Sequence[str],
    names: Sequence[str],
    settings: Mapping[str, object],
    labels: Sequence[str | None] = (),
) -> str:
    """The summary in Markdown.

    Args:
        found: a clustering per instruction.
        texts: that were clustered.
        names: of the files of each, without suffix.
        settings: what to say of how they were made, by name.
        labels: the name of the labels that each was compared with, or None.
    """
    lines = ["# Clusters", "", f"{len(texts)} texts, {len(found)} instruction{'s' * (len(found) > 1)}.", ""]
    lines += [f"- {name}: {inline(str(value))}" for name, value in settings.items()]
    if len(found) > 1:
        lines += ["", "How alike the clusterings are (adjusted Rand index; 1: the same clusters, 0: no more than by "
                      "chance):", ""]  # fmt: skip
        lines += [f"- {i + 1} and {j + 1}: {value:.3f}" for i, j, value in agreement(found)]
    for number, one in enumerate(found):
        label = labels[number] if labels else None
        lines += ["", f"## {number + 1}. {inline(one.instruction)}", ""]
        if one.v_measure is not None:
            lines += [f"V-measure against {inline(label or 'the labels')}: {one.v_measure:.1f}", ""]
        lines += [f"![map of the texts]({names[number]}.png)", "", f"Every text: [{names[number]}.csv]"
                  f"({names[number]}.csv)", ""]  # fmt: skip
        lines += _table(one)
        for place, part in enumerate(one.clusters, 1):
            lines += ["", f"### {number + 1}.{place} {inline(', '.join(part.words[:4]) or '(no words)')}", ""]
            for index in part.representatives[:SHOWN_TEXTS]:
                lines.append(f"- {inline(_short(texts[index]))}{_answer(one, index)}")
    return "\n".join(lines) + "\n"


def inline(text: str) -> str:
    """Text as one line of Markdown that means what it says: no markup, no table column begins in it."""
    return re.sub(r"([\\`*_\[\]<>|#~$])", r"\\\1", " ".join(text.split()))


def _table(clustering: Clustering) -> list[str]:
    """Clusters as rows; only columns that say something."""
    parts = clustering.clusters
    total = len(clustering.assignment)
    columns: dict[str, list[str]] = {
        "cluster": [str(number) for number in range(1, len(parts) + 1)],
        "texts": [f"{one.size} ({one.size / total:.0%})" for one in parts],
    }
    for heading, words in (
        ("words of the answers", [one.answer_words for one in parts]),
        ("words of the model's head", [one.head_words for one in parts]),
        ("words of the texts", [one.text_words for one in parts]),
    ):
        if any(words):
            columns[heading] = [inline(", ".join(some[:SHOWN_WORDS])) for some in words]
    if clustering.v_measure is not None:
        columns["labels"] = [_components(one) for one in parts]
        columns["entropy (bits)"] = [f"{one.entropy:.3f}" for one in parts]
    rows = [list(columns), ["---"] * len(columns), *(list(row) for row in zip(*columns.values()))]
    return ["| " + " | ".join(row) + " |" for row in rows]


def _components(one: Cluster) -> str:
    counts = list((one.components or {}).items())
    shown = [f"{inline(label)}: {count}" for label, count in counts[:SHOWN_LABELS]]
    rest = len(counts) - SHOWN_LABELS
    return "; ".join(shown) + (f"; {rest} more" if rest > 0 else "")


def _answer(clustering: Clustering, index: int) -> str:
    return f" → {inline(clustering.answers[index])}" if clustering.answers and clustering.answers[index] else ""


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= TEXT_WIDTH else text[: TEXT_WIDTH - 1] + "…"
