"""Result folders held against each other: who may stand beside whom, averages, differences with intervals.

Folders of different suites, protocols or metrics are refused. Results over other items or other data than the
first row's are marked, and get no difference. `benchmarks.compare` prints what is found here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.paired import can_resample, check_one_table, other_items, paired_draws
from benchmarks.results import Result, check_one_system, read_folder
from benchmarks.stats import Floats, Interval, holm, interval
from benchmarks.suites import tasks_of
from common.errors import InputError

AVERAGE = "average"
LEVEL = 0.95
SHORT = {"STSBenchmark": "STS-B"}  # names in column heads
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
    check_one_table(result for entry in entries for result in entry.results.values())
    tasks = _tasks(entries)
    base = entries[0] if baseline is not None else None
    marks, notes = _marks(entries, tasks)
    differences = _differences(base, entries[1:] or entries, tasks, samples, seed) if base else {}
    if base and not any(differences.values()):
        raise InputError(f"{base.folder}: shares no task, over the same items, with any folder it is compared with")
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


def _tasks(entries: Sequence[Entry]) -> tuple[str, ...]:
    """The tasks of the suite in their order, then those that any folder has besides."""
    found = dict.fromkeys(task for entry in entries for task in entry.results)
    return tuple(dict.fromkeys([*tasks_of(entries[0].any.suite), *found]))


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
            if why := other_items(first.results[task], result):
                unequal.setdefault(f"{why} than {first.label}", []).append(task)
                marks[entry.label, task] = marks.get((entry.label, task), "") + "#"
        notes += [f"* {entry.label}: only {n} items of {', '.join(names)}." for n, names in limited.items()]
        notes += [f"# {entry.label}: {why} on {', '.join(names)}." for why, names in unequal.items()]
        switches = sorted({switch for result in entry.results.values() for switch in result.switches})
        notes += [f"{entry.label}: made with --compat {','.join(switches)}."] if switches else []
    return marks, notes


def _differences(
    base: Entry, others: Sequence[Entry], tasks: Sequence[str], samples: int, seed: int
) -> dict[str, list[Difference]]:
    """Per entry, its difference to the baseline on each task over the same items, and on the average.

    All entries of a task are scored on the same resamples. Tasks without stored predictions have no difference,
    but STS results always have them: where one's are gone, that is an error.
    """
    found: dict[str, dict[str, tuple[float, float, Floats]]] = {entry.label: {} for entry in others}
    for task in tasks:
        if (theirs := base.results.get(task)) is None:
            continue
        equal = [e for e in others if task in e.results and not other_items(theirs, e.results[task])]
        if theirs.metric != "spearman":
            equal = [e for e in equal if can_resample(theirs) and can_resample(e.results[task])]
        if not equal:
            continue
        folders = [base.folder, *(entry.folder for entry in equal)]
        scores = paired_draws(folders, task, theirs.metric, samples=samples, seed=seed)
        for number, entry in enumerate(equal, start=1):
            found[entry.label][task] = (theirs.score, entry.results[task].score, scores[number] - scores[0])
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
