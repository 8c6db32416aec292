"""Our results held against the rows of a published table: OK, CLOSE, OFF, or why that can't be said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.published import QUOTED, PublishedTable, Row, Scores, Tolerance
from benchmarks.results import Result, check_one_system, read_folder

OK, CLOSE, OFF = "OK", "CLOSE", "OFF"
NOT_RUN = "not run"
PARTIAL = "partial"  # some tasks are missing, those that are there are within CLOSE
NOT_COMPARED = "not compared"  # results that are limited, of another protocol, metric or size
NO_TARGET = "no target"  # secondary and third-party rows: ours is shown, never judged


@dataclass(frozen=True)
class Judgement:
    """Ours for one published row. All scores per column of the table, x 100, None where not run."""

    row: Row
    verdict: str
    ours: Scores  # only what may be compared
    excluded: dict[str, float]  # what was run, but may not be compared
    averages: Scores  # of ours, per average of the table; None unless every part is there and comparable
    notes: tuple[str, ...] = ()

    @property
    def differences(self) -> Scores:
        """Ours less the published score, both as printed (two decimals)."""
        return {column: _difference(score, self.row.values[column]) for column, score in self.ours.items()}

    @property
    def average_differences(self) -> Scores:
        """Our averages less the published ones, as printed."""
        return {name: _difference(score, self.row.averages[name]) for name, score in self.averages.items()}

    @property
    def average(self) -> float | None:
        """Our average over all, if the table has one."""
        return list(self.averages.values())[-1] if self.averages else None

    @property
    def average_difference(self) -> float | None:
        """Our average over all less the published one, as printed."""
        return _difference(self.average, self.row.average)

    @property
    def was_run(self) -> bool:
        """True if there is any result of ours."""
        return bool(self.excluded) or any(score is not None for score in self.ours.values())


@dataclass
class _Found:
    """What our results say about one column."""

    score: float | None = None
    reasons: set[str] = field(default_factory=set)  # why it may not be compared
    switches: set[str] = field(default_factory=set)  # compat switches it was made with
    differs: set[str] = field(default_factory=set)  # how its data differ from the published task's


def judge_row(table: PublishedTable, row: Row, results: Mapping[str, Result]) -> Judgement:
    """Hold one published row against our results for it, by task (an empty dict: not run).

    A result is compared only if it is complete (its data, too) and of the table's suite, protocol, metric and size.
    One made with a compat switch is compared, but is CLOSE at best: it reproduces a quirk, not the method. So is one
    on the same items in another form, as the result itself says.
    """
    ours: Scores = dict.fromkeys(table.columns)
    excluded: dict[str, float] = {}
    reasons: dict[str, list[str]] = {}
    switches: set[str] = set()
    differs: dict[str, list[str]] = {}
    for column, task in table.columns.items():
        found = _find(table, task.format_map(row.labels), results) if task and results else _Found()
        if found.score is None:
            continue
        if found.reasons:
            excluded[column] = found.score
            for reason in sorted(found.reasons):
                reasons.setdefault(reason, []).append(column)
        else:
            ours[column] = found.score
            switches |= found.switches
            for how in sorted(found.differs):
                differs.setdefault(how, []).append(column)
    judged = Judgement(row, "", ours, excluded, table.averages(ours))
    verdict = _verdict(table, judged)
    notes = [f"ours is {next(iter(results.values())).system}"] if judged.was_run else []
    notes += [f"{', '.join(columns)} not compared: {reason}" for reason, columns in reasons.items()]
    notes += [f"{', '.join(columns)}, so never OK, is of data that differ: {how}" for how, columns in differs.items()]
    if (switches or differs) and verdict == OK:
        verdict = CLOSE
    if switches:
        notes.append(f"made with --compat {','.join(sorted(switches))}, so never OK")
    judged = replace(judged, verdict=verdict)
    if verdict in (CLOSE, OFF, PARTIAL):
        notes.extend(_largest(judged))
    return replace(judged, notes=tuple(notes))


def why_not_comparable(table: PublishedTable, result: Result) -> str | None:
    """Why a result may not be held against the table, or None if it may."""
    size = table.sizes.get(result.task)
    if result.limit is not None and result.n != size:
        return f"limited to {result.n} items"
    if table.protocol and result.protocol != table.protocol:
        return f"protocol {result.protocol}, the table's is {table.protocol}"
    if table.suite and result.suite != table.suite:
        return f"suite {result.suite}, the table's is {table.suite}"
    if table.metric and result.metric != table.metric:
        return f"metric {result.metric}, the table's is {table.metric}"
    if size is not None and result.n != size:
        return f"{result.n} items, the published task has {size}"
    if result.data.get("complete") is False:
        return f"the data are not all of the published task's: {result.data.get('differs') or 'part of it'}"
    return None


def judge(table: PublishedTable, results: str | Path) -> list[Judgement]:
    """All rows of a table held against our results, in `results/<table>/<row id>/` or the folder that a row names.

    Raises:
        InputError: a bad result, named.
    """
    read: dict[Path, dict[str, Result]] = {}
    judged = []
    for row in table.rows:
        folder = Path(results) / row.results
        if folder not in read:
            read[folder] = read_folder(folder) if folder.is_dir() else {}
            check_one_system(read[folder])
        judged.append(judge_row(table, row, read[folder]))
    return judged


def failed(judgements: list[Judgement]) -> bool:
    """True if a verified row of the paper's own models is OFF."""
    return any(judgement.verdict == OFF and judgement.row.is_target for judgement in judgements)


def _find(table: PublishedTable, name: str, results: Mapping[str, Result]) -> _Found:
    """Our score for a task, for TASK/KEY.KEY (one of a result's further scores), or for the mean of a group."""
    task, _, keys = name.partition("/")
    if task in results:
        result = results[task]
        score: Any = result.scores if keys else result.score
        for key in keys.split(".") if keys else ():
            score = score.get(key) if isinstance(score, Mapping) else None
        reason = why_not_comparable(table, result)
        how = result.data.get("differs")
        return _Found(score, {reason} if reason else set(), set(result.switches), {how} if how else set())
    parts = [_find(table, part, results) for part in table.groups.get(name, ())]
    scores = [part.score for part in parts if part.score is not None]
    if not parts or len(scores) < len(parts):
        return _Found()
    return _Found(
        sum(scores) / len(scores),
        set().union(*(part.reasons for part in parts)),
        set().union(*(part.switches for part in parts)),
        set().union(*(part.differs for part in parts)),
    )


def _verdict(table: PublishedTable, judged: Judgement) -> str:
    row = judged.row
    if not any(table.columns.values()):
        return QUOTED
    if not judged.was_run:
        return NOT_RUN
    if row.status != "verified":
        return NO_TARGET
    assert table.tolerance is not None  # published.load sees to it
    tasks = [difference for difference in judged.differences.values() if difference is not None]
    worst = _grade(tasks, judged.average_difference, table.tolerance)
    if worst == OFF:
        return OFF
    if judged.excluded:
        return NOT_COMPARED
    averages_only = all(value is None for value in row.values.values())
    missing = [
        column
        for column, task in table.columns.items()
        if task and judged.ours[column] is None and (averages_only or row.values[column] is not None)
    ]
    return PARTIAL if missing else worst


def _grade(tasks: list[float], average: float | None, tolerance: Tolerance) -> str:
    """The worst grade over the tasks and the average; both sides are rounded, so compare as printed."""
    worst = max((abs(difference) for difference in tasks), default=0.0)
    mean = abs(average or 0.0)
    for grade, task_limit, average_limit in (
        (OK, tolerance.ok_task, tolerance.ok_average),
        (CLOSE, tolerance.close_task, tolerance.close_average),
    ):
        if worst <= task_limit + 1e-9 and mean <= average_limit + 1e-9:
            return grade
    return OFF


def _difference(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or theirs is None else round(round(ours, 2) - theirs, 2)


def _largest(judged: Judgement) -> list[str]:
    known = {column: d for column, d in judged.differences.items() if d is not None}
    parts = []
    if known:
        column = max(known, key=lambda name: abs(known[name]))
        parts.append(f"largest difference {known[column]:+.2f} ({column})")
    if judged.average_difference is not None:
        parts.append(f"average {judged.average_difference:+.2f}")
    if judged.verdict == PARTIAL:
        done = sum(score is not None for score in judged.ours.values())
        parts.insert(0, f"{done} of {len(judged.ours)} tasks run")
    return [", ".join(parts)] if parts else []
