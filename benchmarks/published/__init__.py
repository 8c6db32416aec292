"""The papers' tables as data: `tables.yaml` says what each is, a CSV file beside it holds its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from common.errors import InputError

FOLDER = Path(__file__).parent
INDEX = "tables.yaml"
QUOTED = "quoted"  # in the command column: nothing here reproduces the row
ROUNDING = 0.01  # an average of two-decimal scores, itself rounded, is at most this far from their mean
FIXED = ("id", "role", "source", "status", "command", "note")


@dataclass(frozen=True)
class Tolerance:
    """The largest differences (points) for OK and CLOSE, on each task and on the average, and why."""

    ok_task: float
    ok_average: float
    close_task: float
    close_average: float
    reason: str


@dataclass(frozen=True)
class Row:
    """One published row; scores as printed (x 100)."""

    id: str
    values: dict[str, float | None]  # per score column; None where the source prints none
    average: float | None
    role: str
    source: str
    status: str
    command: str
    note: str
    labels: dict[str, str] = field(default_factory=dict)  # the free columns: method, backbone, setting ...

    @property
    def is_target(self) -> bool:
        """A verified row of the paper's own models: missing it is a failure. No other row is one."""
        return self.role == "own" and self.status == "verified"

    @property
    def kind(self) -> str:
        """In a word: own, baseline ..., or the status of what is not verified."""
        return self.role if self.status == "verified" else self.status


@dataclass(frozen=True)
class PublishedTable:
    """A published table and what a result must fulfil to be held against it."""

    name: str
    title: str
    paper: str
    arxiv: str
    number: str
    columns: dict[str, str | None]  # score column -> task
    average_column: str | None
    weights: dict[str, float]  # of the published average, per score column
    suite: str | None
    protocol: str | None
    metric: str | None
    sizes: dict[str, int]
    tolerance: Tolerance | None
    rows: tuple[Row, ...]

    def mean(self, values: Mapping[str, float | None]) -> float | None:
        """The average as the paper takes it; None unless every score is there."""
        if not self.weights or any(values.get(column) is None for column in self.weights):
            return None
        total = sum(weight * float(values[column] or 0.0) for column, weight in self.weights.items())
        return total / sum(self.weights.values())

    def slip(self, row: Row) -> float | None:
        """The mean of the row's scores where the published average does not follow from them, else None.

        Scores with two decimals are each off by up to 0.005, so is their mean, and so is the printed average
        again: only more than 0.01 contradicts the row.
        """
        mean = self.mean(row.values)
        if mean is None or row.average is None or abs(mean - row.average) <= ROUNDING + 1e-9:
            return None
        return mean


def statuses(folder: Path = FOLDER) -> dict[str, str]:
    """What each status of a row means."""
    return dict(_index(folder)["statuses"])


def names(folder: Path = FOLDER) -> list[str]:
    """The names of all published tables."""
    return list(_index(folder)["tables"])


def load(name: str, folder: Path = FOLDER) -> PublishedTable:
    """One published table by name.

    Raises:
        InputError: an unknown name (the nearest is named), or an entry or CSV file that is not as
            `tables.yaml` describes it (file, row and column are named).
    """
    if name not in names(folder):
        near = get_close_matches(name, names(folder), n=1)
        hint = f"did you mean {near[0]}?" if near else "`python -m benchmarks tables` lists them"
        raise InputError(f"no published table is called {name!r}; {hint}")
    entry = _index(folder)["tables"][name]
    missing = [key for key in ("title", "paper", "arxiv", "number", "file", "columns") if key not in entry]
    if missing:
        raise InputError(f"{folder / INDEX}: table {name} has no {', '.join(missing)}")
    average = entry.get("average") or {}
    rows, columns = _read(folder / entry["file"], entry)
    tolerance = _tolerance(entry.get("tolerance"))
    if tolerance is None and any(columns.values()):
        raise InputError(f"{folder / INDEX}: table {name} maps columns to tasks but has no tolerance")
    for row in rows:
        if row.status not in statuses(folder):
            raise InputError(f"{folder / entry['file']}: row {row.id} has the unknown status {row.status!r}")
    return PublishedTable(
        name=name,
        **{key: str(entry[key]) for key in ("title", "paper", "arxiv", "number")},
        columns=columns,
        average_column=average.get("column"),
        weights=(average.get("weights") or dict.fromkeys(columns, 1.0)) if average else {},
        **{key: entry.get(key) for key in ("suite", "protocol", "metric")},
        sizes=entry.get("sizes") or {},
        tolerance=tolerance,
        rows=tuple(rows),
    )


@cache
def _index(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / INDEX).read_text(encoding="utf-8"))


def _tolerance(entry: Mapping[str, Any] | None) -> Tolerance | None:
    if entry is None:
        return None
    ok, close = entry["ok"], entry["close"]
    return Tolerance(ok["task"], ok["average"], close["task"], close["average"], entry["reason"])


def _read(file: Path, entry: Mapping[str, Any]) -> tuple[list[Row], dict[str, str | None]]:
    """Rows and the columns -> task mapping of one CSV file, in either layout."""
    frame = pd.read_csv(file, dtype=str, keep_default_na=False)
    mapping: dict[str, str | None] = dict(entry["columns"] or {})
    average = (entry.get("average") or {}).get("column")
    long = entry.get("layout", "wide") == "long"
    wanted = [
        *FIXED,
        *([entry["task"], entry["value"]] if long else [*mapping, *([average] if average else [])]),
    ]
    if absent := [column for column in wanted if column not in frame.columns]:
        raise InputError(f"{file}: no column {', '.join(absent)}")
    if long:
        present = [task for task in dict.fromkeys(frame[entry["task"]]) if task != average]
        mapping = {task: mapping.get(task) for task in present}
    elif frame["id"].duplicated().any():
        raise InputError(f"{file}: the id {frame['id'][frame['id'].duplicated()].iloc[0]} stands there twice")
    free = [column for column in frame.columns if column not in {*wanted, *mapping}]
    rows = []
    for identity, lines in frame.groupby("id", sort=False):
        first = lines.iloc[0]
        scores = dict(zip(lines[entry["task"]], lines[entry["value"]])) if long else dict(first)
        values = {column: _number(scores.get(column, ""), mapping[column], file, identity) for column in mapping}
        labels = {column: first[column] for column in free if first[column]}
        labels |= {column: scores[column] for column, value in values.items() if value is None and scores.get(column)}
        rows.append(
            Row(
                values=values,
                average=_number(scores.get(average, ""), average, file, identity) if average else None,
                labels=labels,
                **{column: first[column] for column in FIXED},
            )
        )
    return rows, mapping


def _number(text: str, task: str | None, file: Path, row: Any) -> float | None:
    """A printed score; None for an empty cell, and for words in a column that no task of ours measures."""
    try:
        return float(text) if text else None
    except ValueError:
        if task is None:
            return None
        raise InputError(f"{file}: row {row}: {text!r} is not a score") from None
