"""The table of the few-shot study: quality and cost by model, set and number of examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.render import Table, render, render_records
from common.errors import InputError
from common.io import read_json, write_text

METRIC = "ndcg@10"
RESAMPLES = 2000
TITLE = "Few-shot study"
COLUMNS = [
    *("set", "model", "examples", "nDCG@10", "± seeds", "vs 0 [95%]", "MRR@10", "MAP", "R@10", "R@100"),
    *("prefix", "s / 1,000", "CPU s", "plain s", "plain CPU s"),
]


@dataclass(frozen=True)
class Row:
    """A model on a set with so many examples, over all seeds.

    Attributes:
        scores: mean over the seeds, x 100.
        spread: standard deviation of nDCG@10 over the seeds; None for one seed.
        difference: nDCG@10 less that without examples, with its 95% bootstrap interval over queries; None for the
            row without examples, or where that is missing.
        seconds, cpu_seconds: per 1,000 queries, median over the seeds.
        plain_seconds, plain_cpu_seconds: the same without the prefix cache; None: not measured.
    """

    set: str
    model: str
    shots: int
    seeds: tuple[int, ...]
    queries: int
    scores: dict[str, float]
    spread: float | None
    difference: tuple[float, float, float] | None
    prefix_tokens: float
    seconds: float
    cpu_seconds: float
    plain_seconds: float | None
    plain_cpu_seconds: float | None
    max_difference: float | None


@dataclass(frozen=True)
class Report:
    """All rows, in the order of sets, models, numbers of examples; and what is to be said of them."""

    rows: list[Row]
    notes: list[str]

    @classmethod
    def of(cls, folders: Sequence[str | Path]) -> Report:
        """Read every `study.json` beneath the folders.

        Raises:
            InputError: there is none.
        """
        files = sorted({file for folder in folders for file in Path(folder).rglob("study.json")})
        documents = [document for document in map(read_json, files) if _is_study(document)]
        documents.sort(key=lambda d: d["sessions"][0]["created"])
        labels = [document["label"] for document in documents]
        for document in documents:
            if labels.count(document["label"]) > 1:  # one name, other weights
                document["label"] += f" {document['weights'][:6]}"
        rows = [row for document in documents for row in _rows(document)]
        if not rows:
            raise InputError(f"{', '.join(map(str, folders))}: no results of a few-shot study there; give --model")
        order = list(dict.fromkeys(row.set for row in rows))
        models = list(dict.fromkeys(row.model for row in rows))
        rows.sort(key=lambda row: (order.index(row.set), models.index(row.model), row.shots))
        return cls(rows, _notes(documents))

    @property
    def sets(self) -> list[str]:
        """The sets, in order."""
        return list(dict.fromkeys(row.set for row in self.rows))

    @property
    def models(self) -> list[str]:
        """The models, in order."""
        return list(dict.fromkeys(row.model for row in self.rows))


def _is_study(document: Any) -> bool:
    return isinstance(document, dict) and document.get("kind") == "fewshot"


def _rows(document: dict[str, Any]) -> list[Row]:
    by_place: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for cell in document["cells"]:
        by_place.setdefault((cell["set"], cell["shots"]), []).append(cell)
    rows = []
    for (name, shots), cells in by_place.items():
        plain = [cell["plain"] for cell in cells if cell["plain"]]
        scores = [cell["scores"][METRIC] for cell in cells]
        rows.append(
            Row(
                set=name,
                model=document["label"],
                shots=shots,
                seeds=tuple(cell["seed"] for cell in cells),
                queries=cells[0]["queries"],
                scores={m: _mean([cell["scores"][m] for cell in cells]) for m in document["metrics"]},
                spread=float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
                difference=_difference(by_place.get((name, 0), []), cells) if shots else None,
                prefix_tokens=_mean([cell["prefix_tokens"] for cell in cells]),
                seconds=_median([cell["seconds_per_1000"] for cell in cells]),
                cpu_seconds=_median([cell["cpu_seconds_per_1000"] for cell in cells]),
                plain_seconds=_median([p["seconds_per_1000"] for p in plain]) if plain else None,
                plain_cpu_seconds=_median([p["cpu_seconds_per_1000"] for p in plain]) if plain else None,
                max_difference=max(p["max_difference"] for p in plain) if plain else None,
            )
        )
    return rows


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _median(values: Sequence[float]) -> float:
    return float(np.median(values))


def _difference(zero: list[dict[str, Any]], few: list[dict[str, Any]]) -> tuple[float, float, float] | None:
    """Mean difference over the queries (each the mean of its seeds), and the interval over draws of queries."""
    if not zero:
        return None
    before = np.mean([cell["per_query"][METRIC] for cell in zero], axis=0)
    after = np.mean([cell["per_query"][METRIC] for cell in few], axis=0)
    values = after - before
    if len(values) < 2 or np.ptp(values) == 0:
        return float(values.mean()), float(values.mean()), float(values.mean())
    found = stats.bootstrap((values,), np.mean, n_resamples=RESAMPLES, method="percentile", batch=200, rng=0)
    return float(values.mean()), float(found.confidence_interval.low), float(found.confidence_interval.high)


def _notes(documents: list[dict[str, Any]]) -> list[str]:
    notes = [
        "Scores x 100. s / 1,000 and CPU s: seconds per 1,000 queries on the clock, and of all threads, with the "
        "common prefix run once; plain: without. wikiqa is reranking: each question ranks its own candidates."
    ]
    seen = set()
    for document in documents:
        for name, facts in document["sets"].items():
            size = f"{name}: {facts['queries']} queries, {facts['passages']} passages"
            more = [size, *facts["notes"]]
            if facts.get("corpus", {}).get("truncated"):
                more.append(f"{facts['corpus']['truncated']} passages cut to "
                            f"{document['settings']['max_passage_tokens']} tokens")  # fmt: skip
            line = "; ".join(more)
            if line not in seen:
                notes.append(line)
                seen.add(line)
            overlap = facts.get("overlap")
            if overlap:
                notes.append(
                    f"{name} shares with the training data of {document['label']}: {overlap['queries']} of "
                    f"{overlap['of_queries']} queries, {overlap['relevant']} of {overlap['of_relevant']} relevant "
                    f"passages, {overlap['corpus']} of {overlap['of_corpus']} passages, {overlap['pairs']} whole pairs"
                )
        encoder, cpu = document["encoder"], document["sessions"][0]["environment"].get("cpu") or {}
        notes.append(
            f"{document['label']}: {encoder['model']}, {encoder['dtype']}, examples: "
            f"{document['settings']['examples']}; {cpu.get('model')}, {cpu.get('threads')} threads"
        )
    return notes


def table(report: Report) -> Table:
    """For people."""
    rows: list[list[Any]] = []
    dividers = set()
    for number, row in enumerate(report.rows):
        change = None
        if row.difference:
            change = "{:+.2f} [{:+.2f}, {:+.2f}]".format(*row.difference)
        rows.append([
            *(row.set, row.model, row.shots, row.scores[METRIC], row.spread, change, row.scores["mrr@10"]),
            *(row.scores["map"], row.scores["recall@10"], row.scores["recall@100"], round(row.prefix_tokens)),
            *(row.seconds, row.cpu_seconds, row.plain_seconds, row.plain_cpu_seconds),
        ])  # fmt: skip
        following = report.rows[number + 1] if number + 1 < len(report.rows) else None
        if following and (following.set, following.model) != (row.set, row.model):
            dividers.add(number)
    places = {"s / 1,000": 1, "CPU s": 1, "plain s": 1, "plain CPU s": 1}
    return Table(TITLE, COLUMNS, rows, report.notes, ("set", "model"), places, frozenset(dividers))


def records(report: Report) -> list[dict[str, Any]]:
    """For programs, full precision."""
    made = []
    for row in report.rows:
        values = dict(vars(row))
        scores, difference = values.pop("scores"), values.pop("difference")
        low = dict(zip(("difference", "difference_low", "difference_high"), difference or (None,) * 3))
        made.append({**values, "seeds": list(row.seeds), **scores, **low})
    return made


def text(report: Report) -> str:
    """The table as it is printed."""
    return render(table(report), "text")


def write(report: Report, folder: Path) -> None:
    """`table.txt`, `.md`, `.csv`, `.json` in `folder`, each atomically."""
    shown, facts = table(report), {"notes": report.notes}
    write_text(folder / "table.txt", render(shown, "text") + "\n")
    write_text(folder / "table.md", render(shown, "markdown") + "\n")
    write_text(folder / "table.csv", render_records(TITLE, {}, records(report), "csv") + "\n")
    write_text(folder / "table.json", render_records(TITLE, facts, records(report), "json") + "\n")
