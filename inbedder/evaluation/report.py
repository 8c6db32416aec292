"""The tables of InBedder's evaluation: scores and averages, robustness, and what was missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inbedder.evaluation.averages import averages, nyt

MEANS = ("right", "implicit", "wrong")
SIGNED = ("margin", "dci", "dii")
SHOWN = ("right", "implicit", "wrong", "margin", "std", "dci", "dii")


Result = Any  # a benchmarks.results.Result; the benchmarks are for programs alone


@dataclass(frozen=True)
class Report:
    """A table in two forms.

    Attributes:
        name: of its files.
        title: in words.
        shown: rows to be read by people, all with the same keys; "missing" is None but where something is.
        records: the same rows with everything, for programs.
        notes: below it.
    """

    name: str
    title: str
    shown: Sequence[Mapping[str, Any]]
    records: Sequence[Mapping[str, Any]]
    notes: Sequence[str]


def scores_report(found: Mapping[str, Result], missing: Mapping[str, str]) -> Report:
    """Task by task with the published instruction, then the averages."""
    rows: list[dict[str, Any]] = []
    for name, result in found.items():
        values = {"metric": result.metric, "score": result.score, "std": result.scores.get("std"), "n": result.n}
        more = {"protocol": result.protocol, "seconds": result.seconds, "missing": None}
        rows.append({"task": name, **values, **more})
    blank = dict.fromkeys(("metric", "score", "std", "n", "protocol", "seconds", "missing"))
    rows += [{"task": name, **blank, "missing": why} for name, why in missing.items()]
    scores = {name: result.score for name, result in found.items()}
    whole = {"NYT (harmonic mean)": nyt(scores)} | {f"{k} average": v for k, v in averages(scores).items()}
    rows += [{"task": name, **blank, "score": value} for name, value in whole.items()]
    return Report("scores", _title(found, "instruction as published"), rows, rows, _notes(found))


def robustness_report(found: Mapping[str, Result], missing: Mapping[str, str]) -> Report:
    """Right, implicit and wrong instructions side by side; records have all that `robustness.summary` gives."""
    records: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []
    for name, result in found.items():
        values = result.scores.get("robustness")
        if values is None:
            records.append({"task": name, "missing": "no instructions of this test"})
            continue
        records.append({"task": name, **values, "seeds": len(result.scores["seeds"]), "n": result.n, "missing": None})
    records += [{"task": name, "missing": why} for name, why in missing.items()]
    for record in records:
        row: dict[str, Any] = dict.fromkeys(("task", *SHOWN, "missing")) | {k: record[k] for k in ("task", "missing")}
        if record["missing"] is None:
            row |= {kind: record[f"{kind}_mean"] for kind in MEANS} | {"std": record["margin_std"]}
            row |= {name: f"{record[name]:+.2f}" for name in SIGNED}
        shown.append(row)
    notes = [
        "V-measure x 100, means over the instructions of a kind and over the seeds of k-means. margin: right - wrong; "
        "std: its standard deviation over seeds. dci: min(right) - max(wrong); dii: min(implicit) - max(wrong).",
        *_notes(found),
    ]
    return Report("robustness", _title(found, "right, implicit and wrong instructions"), shown, records, notes)


def _title(found: Mapping[str, Result], what: str) -> str:
    first = next(iter(found.values()))
    limits = {result.limit for result in found.values() if result.limit}
    limited = f", --limit {min(limits)}" if limits else ""
    return f"{first.system}: InBedder's tasks, {what}{limited}"


def _notes(found: Mapping[str, Result]) -> list[str]:
    first = next(iter(found.values()))
    clusters, reading = first.data["clusters"], first.encoder["reading"]
    starts = f", best of {clusters['n_init']} starts" if "n_init" in clusters else ""
    prompt = first.encoder["template"].replace("\n", "\\n")
    return [
        f"k-means: {clusters['kmeans']}{starts}, {len(clusters['seeds'])} seeds, vectors {clusters['vectors']}; std is "
        f"over seeds. Instruction: {reading['form']}; mode: {reading['mode'] or 'default'}; dtype: "
        f"{first.encoder['dtype']}; prompt: {prompt}"
    ]
