"""Result folders held against each other: who may stand beside whom, averages, differences with intervals.

Folders of different suites, protocols or metrics are refused. Results over other pairs or other data than the
first row's are marked, and get no difference. `benchmarks.compare` prints what is found here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np

import senteval
from benchmarks.results import Result, check_one_system, predictions, read_folder
from benchmarks.stats import Floats, Interval, bootstrap_scores, holm, interval, spearman
from common.errors import InputError

AVERAGE = "average"
LEVEL = 0.95
SHIPPED = "-shipped"  # suites of the project's own data end in this


@dataclass(frozen=True)
class Entry:
    """One result folder."""

    folder: Path
    label: str
    results: dict[str, Result]

    @property
    def any(self) -> Result:
        """Any of its results, for what all of them share."""
        return next(iter(self.results.values()))

    def average(self, tasks: Sequence[str]) -> float | None:
        """The mean score over `tasks`; None unless all of them are there."""
        if any(task not in self.results for task in tasks):
            return None
        return math.fsum(self.results[task].score for task in tasks) / len(tasks)

    @property
    def seconds(self) -> float:
        """Over all its tasks."""
        return math.fsum(result.seconds for result in self.results.values())

    @property
    def tokens_per_second(self) -> float | None:
        """All tokens by all seconds."""
        tokens = sum(result.tokens for result in self.results.values())
        return tokens / self.seconds if self.seconds > 0 else None

    @property
    def peak_memory_mb(self) -> float | None:
        """The highest over its tasks."""
        peaks = [r.peak_memory_mb for r in self.results.values() if r.peak_memory_mb is not None]
        return max(peaks, default=None)


@dataclass(frozen=True)
class Difference:
    """One entry less the baseline on one task (or the average), with Holm's p over the entry's tasks."""

    task: str
    baseline: float
    score: float
    interval: Interval
    p_holm: float | None  # None for the average, which is not of the family

    @property
    def mark(self) -> str:
        """`*` if the interval excludes 0, `**` if the corrected p is below 0.05 too."""
        if not self.interval.excludes_zero:
            return ""
        return "**" if self.p_holm is not None and self.p_holm < 1 - LEVEL else "*"


@dataclass(frozen=True)
class Comparison:
    """All that is printed: the first entry is the baseline if there is one."""

    entries: tuple[Entry, ...]
    tasks: tuple[str, ...]
    baseline: Entry | None
    differences: dict[str, list[Difference]]  # per entry's label
    marks: dict[tuple[str, str], str]  # (label, task) -> marks behind the score
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        """Says suite and protocol, and of shipped data what it is not."""
        one = self.entries[0].any
        title = f"Suite {one.suite}, protocol {one.protocol}: {metric_of(self.entries[0].results.values())} x 100"
        if one.suite.endswith(SHIPPED):
            title += " on the project's own small set; not comparable with published benchmarks"
        return title


def compare(
    folders: Sequence[str | Path], *, baseline: str | Path | None = None, samples: int = 1000, seed: int = 0
) -> Comparison:
    """Read and compare result folders.

    Raises:
        InputError: a missing, empty or broken folder; folders of different suites, protocols or metrics
            (both are named); a baseline that shares no task with any other folder.
    """
    entries = entries_of([*([baseline] if baseline is not None else []), *folders])
    _check_together(entries)
    tasks = _tasks(entries)
    base = entries[0] if baseline is not None else None
    marks, notes = _marks(entries, tasks)
    differences = _differences(base, entries[1:] or entries, tasks, samples, seed) if base else {}
    if base and not any(differences.values()):
        raise InputError(f"{base.folder}: shares no task, over the same pairs, with any folder it is compared with")
    return Comparison(tuple(entries), tasks, base, differences, marks, tuple(notes))


def entries_of(folders: Sequence[str | Path]) -> list[Entry]:
    """Folders in the given order, each once; labels are the shortest path endings that tell them apart."""
    unique: dict[Path, Path] = {}
    for folder in folders:
        unique.setdefault(Path(folder).resolve(), Path(folder))
    paths = list(unique.values())
    depth = 1
    longest = max(len(path.resolve().parts) for path in paths)
    while depth < longest and len({path.resolve().parts[-depth:] for path in paths}) < len(paths):
        depth += 1
    entries = []
    for path in paths:
        results = read_folder(path)
        if not results:
            raise InputError(f"{path}: no result in this folder (a finished task is a TASK.json)")
        check_one_system(results)
        entries.append(Entry(path, "/".join(path.resolve().parts[-depth:]), results))
    return entries


def metric_of(results: Iterable[Result]) -> str:
    """The metric of all results; mteb's tasks have several."""
    metrics = {result.metric for result in results}
    return metrics.pop() if len(metrics) == 1 else "main metric of each task"


def _check_together(entries: Sequence[Entry]) -> None:
    first = entries[0]
    for entry in entries[1:]:
        pairs = [(key, first.any, entry.any) for key in ("suite", "protocol")]
        # mteb's tasks have metrics of their own
        pairs += [("metric", first.results[t], entry.results[t]) for t in first.results.keys() & entry.results]
        for key, one, two in pairs:
            mine, other = getattr(one, key), getattr(two, key)
            if mine != other:
                raise InputError(
                    f"{first.folder} and {entry.folder} can't stand in one table: {key} {mine} and {other}"
                )


def _tasks(entries: Sequence[Entry]) -> tuple[str, ...]:
    """The tasks of the suite in their order; for a suite unknown to senteval, those that any folder has."""
    protocol = entries[0].any.protocol
    expected = senteval.task_names(protocol) if protocol in senteval.PROTOCOLS else ()
    found = dict.fromkeys(task for entry in entries for task in entry.results)
    return tuple(dict.fromkeys([*expected, *found]))


def _marks(entries: Sequence[Entry], tasks: Sequence[str]) -> tuple[dict[tuple[str, str], str], list[str]]:
    """Marks behind scores and the notes that explain them."""
    marks: dict[tuple[str, str], str] = {}
    notes: list[str] = []
    for entry in entries:
        limited: dict[int, list[str]] = {}
        unequal: dict[str, list[str]] = {}
        for task in tasks:
            if (result := entry.results.get(task)) is None:
                continue
            if result.limit is not None:
                limited.setdefault(result.n, []).append(task)
                marks[entry.label, task] = "*"
            first = next(other for other in entries if task in other.results)
            if why := _other_pairs(first.results[task], result):
                unequal.setdefault(f"{why} than {first.label}", []).append(task)
                marks[entry.label, task] = marks.get((entry.label, task), "") + "#"
        notes += [f"* {entry.label}: only {n} pairs of {', '.join(names)}." for n, names in limited.items()]
        notes += [f"# {entry.label}: {why} on {', '.join(names)}." for why, names in unequal.items()]
        switches = sorted({switch for result in entry.results.values() for switch in result.switches})
        notes += [f"{entry.label}: made with --compat {','.join(switches)}."] if switches else []
    return marks, notes


def _other_pairs(first: Result, second: Result) -> str | None:
    """What makes two results of a task incomparable pair by pair, or None."""
    if first.data_hash != second.data_hash:
        return "other data"
    return "other pairs" if (first.index, first.n) != (second.index, second.n) else None


def _differences(
    base: Entry, others: Sequence[Entry], tasks: Sequence[str], samples: int, seed: int
) -> dict[str, list[Difference]]:
    """Per entry, its difference to the baseline on each task over the same pairs, and on the average.

    All entries of a task are scored on the same resamples. Every task draws its own, so that the resampled
    average is one over independent tasks.
    """
    found: dict[str, dict[str, tuple[float, float, Floats]]] = {entry.label: {} for entry in others}
    for task in tasks:
        equal = [e for e in others if task in base.results and task in e.results]
        equal = [e for e in equal if not _other_pairs(base.results[task], e.results[task])]
        if not equal:
            continue
        base_prediction, gold = predictions(base.folder, task)
        columns = [base_prediction]
        for entry in equal:
            prediction, other_gold = predictions(entry.folder, task)
            if not np.array_equal(gold, other_gold):
                raise InputError(
                    f"{base.folder} and {entry.folder}: {task} has equal data hashes but other gold scores"
                )
            columns.append(prediction)
        scores = bootstrap_scores(columns, gold, samples=samples, seed=[seed, crc32(task.encode())])
        measured = [spearman(column, gold) for column in columns]
        for number, entry in enumerate(equal, start=1):
            found[entry.label][task] = (measured[0], measured[number], scores[number] - scores[0])
    return {label: family(per_task, tasks) for label, per_task in found.items()}


def family(per_task: dict[str, tuple[float, float, Floats]], tasks: Sequence[str]) -> list[Difference]:
    """Differences on each task with Holm's p over them, and on the average where all of `tasks` are there.

    Args:
        per_task: task -> (baseline's score, score, resampled differences (samples,)).
        tasks: of the suite.
    """
    intervals = {task: interval(d, score - base, level=LEVEL) for task, (base, score, d) in per_task.items()}
    corrected = dict(zip(intervals, holm([found.p for found in intervals.values()])))
    family = [
        Difference(task, *per_task[task][:2], interval=found, p_holm=corrected[task])
        for task, found in intervals.items()
    ]
    if len(tasks) > 1 and len(per_task) == len(tasks):
        base, score = (math.fsum(d[i] for d in per_task.values()) / len(tasks) for i in (0, 1))
        mean = np.mean([draws for _, _, draws in per_task.values()], axis=0)
        family.append(Difference(AVERAGE, base, score, interval(mean, score - base, level=LEVEL), None))
    return family
