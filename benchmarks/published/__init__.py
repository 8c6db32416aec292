"""The papers' tables as data: `tables.yaml` says what each is, CSV files beside it hold rows and scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache, cached_property
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
Scores = dict[str, float | None]


@dataclass(frozen=True)
class Tolerance:
    """The largest differences (points) for OK and CLOSE, on each task and on the average, and why."""

    ok_task: float
    ok_average: float
    close_task: float
    close_average: float
    reason: str


@dataclass(frozen=True)
class Mean:
    """An average over scores, or over averages before it.

    Attributes:
        name: as it is printed.
        weights: score column or earlier average -> weight.
        harmonic: the harmonic mean, else the arithmetic one.
    """

    name: str
    weights: Mapping[str, float]
    harmonic: bool = False

    def over(self, values: Mapping[str, float | None]) -> float | None:
        """The mean of its parts; None unless all are there."""
        known = {part: values.get(part) for part in self.weights}
        scores = {part: score for part, score in known.items() if score is not None}
        total = sum(self.weights.values())
        if len(scores) < len(known) or not total:
            return None
        if self.harmonic:  # of a part that is 0 or less, as of correlations, there is none
            return (
                total / sum(w / scores[part] for part, w in self.weights.items()) if min(scores.values()) > 0 else 0.0
            )
        return sum(weight * scores[part] for part, weight in self.weights.items()) / total


@dataclass(frozen=True)
class Row:
    """One published row; scores as printed (x 100)."""

    id: str
    values: Scores  # per score column; None where the source prints none
    averages: Scores  # per average of the table, as printed
    role: str
    source: str
    status: str
    command: str
    note: str
    results: str  # folder of our results for it, below RESULTS; several rows may share one
    labels: dict[str, str] = field(default_factory=dict)  # the free columns: method, backbone, setting ...

    @property
    def is_target(self) -> bool:
        """A verified row of the paper's own models: missing it is a failure. No other row is one."""
        return self.role == "own" and self.status == "verified"

    @property
    def kind(self) -> str:
        """In a word: own, baseline ..., or the status of what is not verified."""
        return self.role if self.status == "verified" else self.status

    @property
    def average(self) -> float | None:
        """The published average over all, if the table has one: its last."""
        return list(self.averages.values())[-1] if self.averages else None


@dataclass(frozen=True)
class View:
    """What is printed for people where a table is large; CSV and JSON hold all of it.

    Attributes:
        columns: score columns and averages; none named: all.
        best_of: of every group of rows that are alike in these labels, only the one with the best average.
    """

    columns: tuple[str, ...] = ()
    best_of: tuple[str, ...] = ()


@dataclass(frozen=True)
class PublishedTable:
    """A published table and what a result must fulfil to be held against it."""

    name: str
    title: str
    paper: str
    arxiv: str
    number: str
    columns: dict[str, str | None]  # score column -> task, TASK/KEY or group of tasks
    means: tuple[Mean, ...]  # each over columns and means before it; the last is the average over all
    groups: Mapping[str, tuple[str, ...]]  # name -> the tasks (or groups) that it is the mean of
    suite: str | None
    protocol: str | None
    metric: str | None
    sizes: dict[str, int]
    tolerance: Tolerance | None
    rows: tuple[Row, ...]
    view: View = View()

    @property
    def average_column(self) -> str | None:
        """The name of the average over all, if there is one."""
        return self.means[-1].name if self.means else None

    @cached_property
    def unprinted(self) -> list[str]:
        """The averages that the source prints for no row."""
        return [mean.name for mean in self.means if all(row.averages[mean.name] is None for row in self.rows)]

    def averages(self, values: Mapping[str, float | None], known: Mapping[str, float | None] | None = None) -> Scores:
        """Every average of the table from these scores; None where a part is missing.

        Args:
            values: per score column.
            known: averages to go on with where one has no parts, as of sources that print the averages alone.
        """
        found: Scores = {}
        for mean in self.means:
            parts = {name: value for name, value in (known or {}).items() if found.get(name) is None}
            found[mean.name] = mean.over({**values, **found, **parts})
        return found

    def slips(self, row: Row) -> dict[str, float]:
        """The averages that do not follow from the row's scores, and what they are from these.

        Scores with two decimals are each off by up to 0.005, so is their mean, and so is the printed average
        again: only more than 0.01 contradicts the row.
        """
        found = {}
        for name, mean in self.averages(row.values, row.averages).items():
            printed = row.averages[name]
            if mean is not None and printed is not None and abs(mean - printed) > ROUNDING + 1e-9:
                found[name] = mean
        return found


def statuses(folder: Path = FOLDER) -> dict[str, str]:
    """What each status of a row means."""
    return dict(_index(folder)["statuses"])


def names(folder: Path = FOLDER) -> list[str]:
    """The names of all published tables."""
    return list(_index(folder)["tables"])


@cache
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
    groups = {group: tuple(tasks) for group, tasks in (_index(folder).get("groups") or {}).items()}
    columns, scores = _columns(entry, folder)
    means = tuple(_mean(one, columns, groups, folder) for one in entry.get("averages") or ())
    tolerance = _tolerance(entry.get("tolerance"))
    if tolerance is None and any(columns.values()):
        raise InputError(f"{folder / INDEX}: table {name} maps columns to tasks but has no tolerance")
    printed = [one["column"] for one in entry.get("averages") or () if one.get("printed", True)]
    view = entry.get("view") or {}
    return PublishedTable(
        name=name,
        **{key: str(entry[key]) for key in ("title", "paper", "arxiv", "number")},
        columns=columns,
        means=means,
        groups=groups,
        **{key: entry.get(key) for key in ("suite", "protocol", "metric")},
        sizes=entry.get("sizes") or {},
        tolerance=tolerance,
        rows=tuple(_rows(name, entry, columns, [mean.name for mean in means], printed, scores, folder)),
        view=View(tuple(view.get("columns") or ()), tuple(view.get("best_of") or ())),
    )


@cache
def _index(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / INDEX).read_text(encoding="utf-8"))


def _tolerance(entry: Mapping[str, Any] | None) -> Tolerance | None:
    if entry is None:
        return None
    ok, close = entry["ok"], entry["close"]
    return Tolerance(ok["task"], ok["average"], close["task"], close["average"], entry["reason"])


def _mean(
    entry: Mapping[str, Any], columns: Mapping[str, Any], groups: Mapping[str, tuple[str, ...]], folder: Path
) -> Mean:
    """An average: over `of` (a group, or a list of columns and earlier averages), by `weights`, else over all."""
    parts = entry.get("of", list(columns))
    parts = groups.get(parts, ()) if isinstance(parts, str) else parts
    if not parts:
        raise InputError(f"{folder / INDEX}: the average {entry['column']} is of {entry['of']!r}, which is no group")
    weights = entry.get("weights") or dict.fromkeys(parts, 1.0)
    return Mean(entry["column"], weights, entry.get("mean") == "harmonic")


def _columns(entry: Mapping[str, Any], folder: Path) -> tuple[dict[str, str | None], pd.DataFrame | None]:
    """The columns -> task mapping, and the scores where they stand in a file of their own."""
    given = entry["columns"]
    if "scores" not in entry:
        return dict(given or {}), None
    file = folder / entry["scores"]
    scores = _read(file)
    if "task" not in scores.columns:
        raise InputError(f"{file}: no column task")
    tasks = list(scores["task"])
    if len(set(tasks)) < len(tasks):
        raise InputError(f"{file}: a task stands there twice")
    return {task: task if given == "tasks" else dict(given or {}).get(task) for task in tasks}, scores.set_index("task")


def _rows(
    table: str,
    entry: Mapping[str, Any],
    columns: Mapping[str, str | None],
    averages: list[str],
    printed: list[str],
    scores: pd.DataFrame | None,
    folder: Path,
) -> list[Row]:
    """The rows of one table."""
    file = folder / entry["file"]
    frame = _read(file)
    wanted = [*FIXED, *(columns if scores is None else ()), *printed]
    if absent := [column for column in wanted if column not in frame.columns]:
        raise InputError(f"{file}: no column {', '.join(absent)}")
    if frame["id"].duplicated().any():
        raise InputError(f"{file}: the id {frame['id'][frame['id'].duplicated()].iloc[0]} stands there twice")
    if scores is not None and (lost := set(frame["id"]) ^ set(scores.columns)):
        raise InputError(f"{folder / entry['scores']}: its columns are not the rows of {file.name}: {min(lost)}")
    free = [column for column in frame.columns if column not in {*wanted, *columns, *averages, "results"}]
    known = statuses(folder)
    rows = []
    for line in frame.to_dict("records"):
        name = line["id"]
        if line["status"] not in known:
            raise InputError(f"{file}: row {name} has the unknown status {line['status']!r}")
        cells = dict(line) if scores is None else dict(scores[name])
        values = {column: _number(cells[column], task, file, name) for column, task in columns.items()}
        words = {column: cells[column] for column, value in values.items() if value is None and cells[column]}
        rows.append(
            Row(
                values=values,
                averages={a: _number(line.get(a, ""), a, file, name) for a in averages},
                results=line.get("results") or f"{table}/{name}",
                labels={column: line[column] for column in free if line[column]} | words,
                **{column: line[column] for column in FIXED},
            )
        )
    return rows


def _read(file: Path) -> pd.DataFrame:
    return pd.read_csv(file, dtype=str, keep_default_na=False)


def _number(text: str, task: str | None, file: Path, row: Any) -> float | None:
    """A printed score; None for an empty cell, for nan, and for words in a column that no task of ours measures."""
    try:
        return float(text) if text and text != "nan" else None
    except ValueError:
        if task is None:
            return None
        raise InputError(f"{file}: row {row}: {text!r} is not a score") from None
