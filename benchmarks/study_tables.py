"""The tables of a study: scores, differences to the baseline, cost, and what is to be said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.comparison import AVERAGE, SHORT
from benchmarks.render import Cell, Format, Table, render
from common.io import write_text

FEW_SEEDS = 10
COST = {  # key of a row's cost -> column, decimals
    "train_tokens": ("train tokens", 0),
    "train_steps": ("steps", 0),
    "train_rows": ("rows", 0),
    "train_seconds": ("train s", 0),
    "train_tokens_per_second": ("train tok/s", 0),
    "train_peak_memory_mb": ("train peak MB", 0),
    "trainable_parameters": ("trainable", 0),
    "encode_seconds": ("encode s", 1),
    "encode_tokens_per_second": ("encode tok/s", 0),
    "encode_peak_memory_mb": ("encode peak MB", 0),
}


def notes_of(document: Mapping[str, Any]) -> list[str]:
    """What a reader of the tables must know."""
    metric = str(document["metric"])
    items = "pairs" if "spearman" in metric else "items"
    what = f"±: standard deviation over seeds; [ ]: 95% bootstrap interval over {items} and seeds."
    notes = [f"{metric[0].upper()}{metric[1:]} x 100. {what}"]
    seeds = max((len(row["seeds"]) for row in document["rows"] if row["trained"]), default=0)
    if 1 < seeds < FEW_SEEDS:
        notes.append(
            f"{seeds} seeds are few: how much seeds differ, and so their part of the intervals, is a rough guess."
        )
    if document["baseline"]:
        notes.append(
            f"Differences are to {document['baseline']}, on the same resampled {items}. *: the interval excludes 0; "
            "**: Holm's p over the tasks is below 0.05, too (the average is not of that family)."
        )
    if document["limited"]:
        notes.append(f"Only a seeded sample of each task's {items} was scored: not comparable with published figures.")
    if document["protocol"] == "shipped":
        notes.append("The project's own small set: not comparable with any benchmark.")
    leakage = document.get("leakage") or {}
    if text := leakage.get("summary") or leakage.get("error"):
        notes.append(f"Leakage: {text}.")
    notes += _notes_of_versions(document) + _notes_of_missing(document)
    notes += [f"Failed: {reason}" for reason in document.get("failed", ())]
    return notes


def _notes_of_versions(document: Mapping[str, Any]) -> list[str]:
    """Which code made the numbers, unless it was one commit without changes."""
    notes = []
    states = [git for e in document["environments"] if (git := e.get("git")) and git.get("commit")]
    changed = {git["commit"] for git in states if git.get("dirty")}
    commits = sorted({git["commit"] for git in states})
    if len(commits) > 1 or changed:
        named = ", ".join(c[:9] + (" with uncommitted changes" if c in changed else "") for c in commits)
        notes.append(f"Made by {len(commits)} version{'s' if len(commits) > 1 else ''} of the code: {named}.")
    hashes: dict[str, set[str]] = {}  # of each method by itself: every method has sources of its own
    for row in document["rows"]:
        told = [part.get("sources") for made in row["made"] for part in (made, made["training"] or {})]
        hashes.setdefault(row["method"], set()).update(one for one in told if one)
    mixed = [f"{method} ({len(found)})" for method, found in hashes.items() if len(found) > 1]
    if mixed:
        notes.append(
            f"The sources were changed between the cells of a method, versions: {', '.join(mixed)}; "
            "--fresh makes all cells by one."
        )
    return notes


def _notes_of_missing(document: Mapping[str, Any]) -> list[str]:
    """What was planned and did not finish."""
    there = {row["name"] for row in document["rows"]}
    planned = document.get("planned") or {}
    gone = [name for name in planned.get("rows", ()) if name not in there]
    notes = [f"Not finished, so not shown: {', '.join(gone)}."] if gone else []
    seeds = (document.get("settings") or {}).get("seeds", ())
    for row in (row for row in document["rows"] if row["trained"]):
        missing = [str(seed) for seed in seeds if seed not in row["seeds"]]
        if missing:
            which = f"seed{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
            notes.append(f"{row['name']}: {len(row['seeds'])} of {len(seeds)} seeds, without {which}.")
    baseline = planned.get("baseline")
    if baseline in gone:
        notes.append(f"No differences: the baseline {baseline} did not finish.")
    return notes


def score_table(document: Mapping[str, Any]) -> Table:
    """A row per system: every task, the average with spread and interval, the difference to the baseline."""
    tasks = document["tasks"]
    rows: list[list[Cell]] = []
    for row in document["rows"]:
        scores: list[Cell] = [value and value["mean"] for value in (row["scores"][task] for task in tasks)]
        average = row[AVERAGE]
        interval = average and average["interval"]
        rows.append(
            [
                row["name"] + (" (baseline)" if row["name"] == document["baseline"] else ""),
                len(row["seeds"]) if row["trained"] else None,
                *scores,
                average and average["mean"],
                average and average["spread"],
                f"[{interval[0]:.2f}, {interval[1]:.2f}]" if interval else None,
                _difference(document, row["name"], AVERAGE if len(tasks) > 1 else tasks[0]),
            ]
        )
    heads = ["row", "seeds", *(SHORT.get(t, t) for t in tasks), AVERAGE, "±", "95%", "to baseline"]
    return Table(document["title"], heads, rows, document["notes"], left=("row",))


def difference_table(document: Mapping[str, Any]) -> Table:
    """A row per system: its difference to the baseline on every task, with its mark."""
    columns = [*document["tasks"], *([AVERAGE] if len(document["tasks"]) > 1 else [])]
    rows = [[name, *(_difference(document, name, column) for column in columns)] for name in document["differences"]]
    return Table(
        f"Differences to {document['baseline']}", ["row", *(SHORT.get(c, c) for c in columns)], rows, left=("row",)
    )


def cost_table(document: Mapping[str, Any]) -> Table:
    """A row per system: training and encoding, means over seeds."""
    rows = [[row["name"], *(row["cost"].get(key) for key in COST)] for row in document["rows"]]
    heads = ["row", *(head for head, _ in COST.values())]
    return Table(
        "Cost (means over seeds; memory: the highest)", heads, rows, left=("row",), decimals=dict(COST.values())
    )


def records(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A record per system and task, and per average: full precision."""
    found = []
    for row in document["rows"]:
        differences = {d["task"]: d for d in document["differences"].get(row["name"], ())}
        for task, score in {**row["scores"], AVERAGE: row[AVERAGE]}.items():
            if score is None:
                continue
            low, high = score["interval"] or (None, None)
            record = {"row": row["name"], "method": row["method"], "model": row["model"], "trained": row["trained"]}
            record |= {"task": task, "seeds": len(score["by_seed"]), "mean": score["mean"], "spread": score["spread"]}
            record |= {"low": low, "high": high}
            change = differences.get(task, {})
            record |= {k: change.get(k) for k in ("difference", "p", "p_holm")}
            record |= {"difference_low": change.get("low"), "difference_high": change.get("high")}
            found.append(record | row["cost"])
    return found


def _difference(document: Mapping[str, Any], name: str, task: str) -> str | None:
    found = next((d for d in document["differences"].get(name, ()) if d["task"] == task), None)
    return f"{found['difference']:+.2f}{found['mark']} [{found['low']:+.2f}, {found['high']:+.2f}]" if found else None


def tables(document: Mapping[str, Any]) -> list[Table]:
    """All tables."""
    middle = [difference_table(document)] if document["differences"] and len(document["tasks"]) > 1 else []
    return [score_table(document), *middle, cost_table(document)]


def text(document: Mapping[str, Any], style: Format = "text") -> str:
    """All tables one below the other, as text, Markdown or LaTeX."""
    return "\n\n".join(render(table, style) for table in tables(document))


def csv_of(documents: Sequence[Mapping[str, Any]]) -> str:
    """The records of some documents as CSV, each with the title of its own."""
    found = [record | {"title": document["title"]} for document in documents for record in records(document)]
    return pd.DataFrame(found, dtype=object).to_csv(index=False, lineterminator="\n").rstrip("\n")


def write(document: Mapping[str, Any], folder: Path, stem: str = "study") -> list[Path]:
    """STEM.txt, .md, .tex and .csv in a folder; their paths."""
    contents = {
        "txt": text(document),
        "md": text(document, "markdown"),
        "tex": text(document, "latex"),
        "csv": csv_of([document]),
    }
    for suffix, content in contents.items():
        write_text(folder / f"{stem}.{suffix}", content + "\n")
    return [folder / f"{stem}.{suffix}" for suffix in contents]
