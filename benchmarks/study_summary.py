"""What a set of systems on the same pairs shows: mean and spread over seeds, intervals, differences, cost.

A system is a `Line`: one result folder, or one per seed. Intervals come from resamples of the items, in which every
line of a task is scored on the same items, and of the seeds: a resample draws as many of a line's seeds as it has,
with replacement, the same ones in all lines with equally many and in all tasks (see `mean_over_drawn_seeds`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.comparison import AVERAGE, LEVEL, Difference, family, metric_of
from benchmarks.paired import can_resample, check_one_table, other_items, paired_draws
from benchmarks.results import Result, check_one_system, read_folder
from benchmarks.stats import Floats
from benchmarks.suites import tasks_of
from common.errors import InputError


@dataclass(frozen=True)
class Line:
    """A system: a result folder for each of its seeds.

    Attributes:
        name: of the row.
        folders: of results, in the order of `seeds`.
        seeds: of the trainings; (None,) of what was not trained here.
        cells: what `benchmarks.cells` told of each folder; empty for result folders of elsewhere.
    """

    name: str
    folders: tuple[Path, ...]
    seeds: tuple[int | None, ...] = (None,)
    cells: tuple[Mapping[str, Any], ...] = ()
    trained: bool = False
    about: str = ""

    @cached_property
    def results(self) -> list[dict[str, Result]]:
        """Per seed, task -> result.

        Raises:
            InputError: an empty folder, or one with results of several systems.
        """
        found = []
        for folder in self.folders:
            results = read_folder(folder)
            if not results:
                raise InputError(f"{folder}: no result in this folder (a finished task is a TASK.json)")
            check_one_system(results)
            found.append(results)
        return found

    @property
    def any(self) -> Result:
        """Any result, for what all share."""
        return next(iter(self.results[0].values()))

    def scores(self, task: str) -> list[float] | None:
        """Score per seed; None unless all seeds have the task."""
        found = [results[task].score for results in self.results if task in results]
        return found if len(found) == len(self.folders) else None


def check_same_pairs(lines: Sequence[Line]) -> None:
    """InputError, naming two results, unless all are of one suite and every task of the same items."""
    check_one_table(result for line in lines for results in line.results for result in results.values())
    first: dict[str, Result] = {}
    for result in (result for line in lines for results in line.results for result in results.values()):
        known = first.setdefault(result.task, result)
        if other_items(known, result):
            raise InputError(f"{known.path} and {result.path}: are over other items; run one of them again")


def _tasks(lines: Sequence[Line]) -> list[str]:
    """All tasks that are there, in the suite's order, then as they come."""
    found = {task for line in lines for results in line.results for task in results}
    known = tasks_of(lines[0].any.suite)
    return [t for t in known if t in found] + sorted(found - set(known))


def draws_of(lines: Sequence[Line], tasks: Sequence[str], samples: int, seed: int) -> dict[str, dict[str, Floats]]:
    """Line -> task -> resampled scores, (samples,); tasks that a line lacks, or has no predictions of, are left out."""
    most = {count: np.random.default_rng([seed, count]) for count in {len(line.folders) for line in lines}}
    drawn = {count: rng.integers(0, count, size=(samples, count)) for count, rng in most.items()}
    found: dict[str, dict[str, Floats]] = {line.name: {} for line in lines}
    for task in tasks:
        there = [line for line in lines if all(task in of and can_resample(of[task]) for of in line.results)]
        if not there:
            continue
        folders = [folder for line in there for folder in line.folders]
        metric = there[0].results[0][task].metric
        scores = iter(paired_draws(folders, task, metric, samples=samples, seed=seed))
        for line in there:
            by_seed = np.stack([next(scores) for _ in line.folders])
            found[line.name][task] = mean_over_drawn_seeds(by_seed, drawn[len(line.folders)])
    return found


def mean_over_drawn_seeds(by_seed: Floats, drawn: NDArray[np.int64]) -> Floats:
    """The mean score over resampled seeds, (samples,), with the variance that a mean over fresh seeds would have.

    n seeds drawn with replacement have a mean that varies by only (n - 1) / n of what the mean of n new seeds
    does (2/3 for three), so deviations from the mean over all are widened by sqrt(n / (n - 1)).

    Args:
        by_seed: (seeds, samples), scores on the same resampled items.
        drawn: (samples, seeds), numbers of seeds.
    """
    count, mean = len(by_seed), by_seed.mean(axis=0)
    if count == 1:
        return mean
    again = np.take_along_axis(by_seed.T, drawn, axis=1).mean(axis=1)
    return mean + math.sqrt(count / (count - 1)) * (again - mean)


def summarise(
    lines: Sequence[Line], *, baseline: str | None = None, samples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Tasks, rows and differences as JSON: what tables and the report show.

    Args:
        lines: on the same items (`check_same_pairs`).
        baseline: name of the line that the others are held against; None: no differences.
        samples: bootstrap resamples; seed: of these.
    """
    check_same_pairs(lines)
    tasks = _tasks(lines)
    draws = draws_of(lines, tasks, samples, seed)
    rows = [_row(line, tasks, draws[line.name]) for line in lines]
    document: dict[str, Any] = {"tasks": tasks, "rows": rows, "baseline": baseline, "samples": samples}
    document["suite"], document["protocol"] = lines[0].any.suite, lines[0].any.protocol
    document["metric"] = metric_of(r for line in lines for results in line.results for r in results.values())
    document["pairs"] = {t: r.n for line in reversed(lines) for results in line.results for t, r in results.items()}
    document["limited"] = any(
        r.limit is not None for line in lines for results in line.results for r in results.values()
    )
    document["index"] = {
        t: list(r.index)
        for line in lines
        for results in line.results
        for t, r in results.items()
        if r.index is not None
    }
    document["environments"] = _interned(rows)
    document["differences"] = {}
    if baseline is not None:
        base = next(line for line in lines if line.name == baseline)
        others = [line for line in lines if line is not base]
        document["differences"] = {line.name: _differences(base, line, tasks, draws) for line in others}
    return document


def _row(line: Line, tasks: Sequence[str], draws: Mapping[str, Floats]) -> dict[str, Any]:
    per_task = {task: _score(line.scores(task), draws.get(task)) for task in tasks}
    average = None
    if all(per_task.values()):
        by_seed = np.mean([line.scores(task) or [] for task in tasks], axis=0)
        both = np.mean([draws[task] for task in tasks], axis=0) if len(draws) == len(tasks) else None
        average = _score([float(value) for value in by_seed], both)
    first = line.any
    return {
        "name": line.name,
        "method": first.method,
        "model": first.model if not line.trained else (line.cells[0]["model"] if line.cells else first.model),
        "title": first.encoder.get("title", first.model),
        "trained": line.trained,
        "about": line.about,
        "seeds": list(line.seeds),
        "scores": per_task,
        AVERAGE: average,
        "cost": _cost(line),
        "made": [_made(results, cell) for results, cell in _with_cells(line)],
    }


def _score(by_seed: list[float] | None, draws: Floats | None) -> dict[str, Any] | None:
    """Mean, standard deviation over seeds (None for one), interval (None without predictions)."""
    if by_seed is None:
        return None
    interval = None
    if draws is not None:
        interval = [float(v) for v in np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])]
    spread = float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else None
    return {"mean": math.fsum(by_seed) / len(by_seed), "spread": spread, "interval": interval, "by_seed": by_seed}


def _differences(
    base: Line, line: Line, tasks: Sequence[str], draws: Mapping[str, Mapping[str, Floats]]
) -> list[dict[str, Any]]:
    per_task = {}
    for task in tasks:
        ours, theirs = line.scores(task), base.scores(task)
        if ours and theirs and task in draws[line.name] and task in draws[base.name]:
            change = draws[line.name][task] - draws[base.name][task]
            per_task[task] = (float(np.mean(theirs)), float(np.mean(ours)), change)
    return [difference_record(found) for found in family(per_task, tasks)]


def difference_record(found: Difference) -> dict[str, Any]:
    """A `comparison.Difference` as JSON."""
    return {
        "task": found.task,
        "difference": found.interval.difference,
        "low": found.interval.low,
        "high": found.interval.high,
        "p": found.interval.p,
        "p_holm": found.p_holm,
        "mark": found.mark,
    }


def _with_cells(line: Line) -> list[tuple[dict[str, Result], Mapping[str, Any]]]:
    cells = line.cells or tuple({} for _ in line.folders)
    return list(zip(line.results, cells, strict=True))


def _cost(line: Line) -> dict[str, float | None]:
    """Means over the seeds; memory: the highest."""
    by_seed: list[dict[str, float | None]] = []
    for results, cell in _with_cells(line):
        training = cell.get("training") or {}
        seconds = math.fsum(r.seconds for r in results.values())
        texts = sum(r.texts for r in results.values())
        tokens = sum(r.tokens for r in results.values())
        by_seed.append(
            {
                **{f"train_{k}": training.get(k) for k in ("seconds", "tokens", "steps", "rows", "tokens_per_second")},
                "train_peak_memory_mb": training.get("peak_memory_mb"),
                "trainable_parameters": training.get("trainable_parameters"),
                "encode_seconds": seconds,
                "encode_seconds_per_1000": 1000 * seconds / texts,
                "encode_tokens": tokens,
                "encode_tokens_per_second": tokens / seconds if seconds and tokens else None,
                "encode_peak_memory_mb": max((r.peak_memory_mb or 0 for r in results.values()), default=0) or None,
            }
        )
    merged: dict[str, float | None] = {}
    for key in by_seed[0]:
        values = [value for one in by_seed if (value := one[key]) is not None]
        merged[key] = None if not values else max(values) if "peak" in key else math.fsum(values) / len(values)
    return merged


def _interned(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Take the environments out of the rows: each stands once in the list, and the rows hold its number."""
    found: list[dict[str, Any]] = []

    def number(environment: dict[str, Any]) -> int:
        if environment not in found:
            found.append(environment)
        return found.index(environment)

    for made in (made for row in rows for made in row["made"]):
        for record in (*made["tasks"].values(), *([made["training"]] if made["training"] else [])):
            record["environment"] = number(record["environment"])
    return found


def _made(results: Mapping[str, Result], cell: Mapping[str, Any]) -> dict[str, Any]:
    """What made the numbers of one seed: command, versions, prompt; per task where tasks differ."""
    training = cell.get("training")
    return {
        "encoder": dict(next(iter(results.values())).encoder),
        "training": training and dict(training),
        "sources": cell.get("sources"),  # a hash over the code that the evaluation ran
        "tasks": {
            task: {
                "score": result.score,
                "command": result.command,
                "created": result.created,
                "n": result.n,
                "limit": result.limit,
                "seed": result.seed,
                "data": result.data,
                "compat": list(result.switches),
                "environment": result.environment,
            }
            for task, result in results.items()
        },
    }
