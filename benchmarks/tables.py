"""Ours beside the published rows: `python -m benchmarks table NAME` and `python -m benchmarks tables`.

A row's own results are looked for in `RESULTS/<table>/<row id>/`. What was not run is a dash, never the
paper's number. The exit code is 1 if a verified row of the paper's own models is OFF.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import published
from benchmarks.published import QUOTED, PublishedTable, Row, Tolerance
from benchmarks.render import Cell, Format, Table, for_people, render, render_records, signed
from benchmarks.results import Result, check_one_system, read_folder
from common import cli

OK, CLOSE, OFF = "OK", "CLOSE", "OFF"
NOT_RUN = "not run"
PARTIAL = "partial"  # some tasks are missing, those that are there are within CLOSE
NOT_COMPARED = "not compared"  # results that are limited, of another protocol, metric or size
NO_TARGET = "no target"  # secondary and third-party rows: ours is shown, never judged
WIDE = 12  # more score columns than this are printed one line per score


@dataclass
class TableConfig:
    """Hold our results against a published table."""

    name: str = field(metadata={"positional": True, "help": "the table; `python -m benchmarks tables` lists them"})
    results: Path = field(default=Path("results"), metadata={"help": "folder with <table>/<row id>/ result folders"})
    format: Format = field(default="text", metadata={"help": "text, markdown, csv, json or latex"})


@dataclass
class TablesConfig:
    """List the published tables."""

    format: Format = field(default="text", metadata={"help": "text, markdown, csv, json or latex"})


@dataclass(frozen=True)
class Judgement:
    """Ours for one published row. All scores per column of the table, x 100, None where not run."""

    row: Row
    verdict: str
    ours: dict[str, float | None]  # only what may be compared
    excluded: dict[str, float]  # what was run, but may not be compared
    average: float | None  # of ours; None unless every task is there and comparable
    notes: tuple[str, ...] = ()

    @property
    def differences(self) -> dict[str, float | None]:
        """Ours less the published score, both as printed (two decimals)."""
        return {column: _difference(score, self.row.values[column]) for column, score in self.ours.items()}

    @property
    def average_difference(self) -> float | None:
        """Our average less the published one, as printed."""
        return _difference(self.average, self.row.average)

    @property
    def was_run(self) -> bool:
        """True if there is any result of ours."""
        return bool(self.excluded) or any(score is not None for score in self.ours.values())


def judge_row(table: PublishedTable, row: Row, results: dict[str, Result]) -> Judgement:
    """Hold one published row against our results for it, by task (an empty dict: not run).

    A result is compared only if it is complete and of the table's suite, protocol, metric and size. One made
    with a compat switch is compared, but is CLOSE at best: it reproduces a quirk, not the method.
    """
    ours: dict[str, float | None] = dict.fromkeys(table.columns)
    excluded: dict[str, float] = {}
    reasons: dict[str, list[str]] = {}
    switches: set[str] = set()
    for column, task in table.columns.items():
        result = results.get(task) if task else None
        if result is None:
            continue
        if reason := why_not_comparable(table, result):
            excluded[column] = result.score
            reasons.setdefault(reason, []).append(column)
        else:
            ours[column] = result.score
            switches.update(result.switches)
    average = table.mean(ours)
    verdict = _verdict(table, row, ours, average, bool(excluded))
    notes = [f"ours is {next(iter(results.values())).system}"] if results else []
    notes += [f"{', '.join(columns)} not compared: {reason}" for reason, columns in reasons.items()]
    if switches:
        verdict = CLOSE if verdict == OK else verdict
        notes.append(f"made with --compat {','.join(sorted(switches))}, so never OK")
    judgement = Judgement(row, verdict, ours, excluded, average)
    if verdict in (CLOSE, OFF, PARTIAL):
        notes.extend(_largest(judgement))
    return Judgement(row, verdict, ours, excluded, average, tuple(notes))


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
    return None


def judge(table: PublishedTable, results: str | Path) -> list[Judgement]:
    """All rows of a table held against `results/<table>/<row id>/`. InputError for a bad result."""
    judged = []
    for row in table.rows:
        folder = Path(results) / table.name / row.id
        results_of_row = read_folder(folder) if folder.is_dir() else {}
        check_one_system(results_of_row)
        judged.append(judge_row(table, row, results_of_row))
    return judged


def failed(judgements: list[Judgement]) -> bool:
    """True if a verified row of the paper's own models is OFF."""
    return any(judgement.verdict == OFF and judgement.row.is_target for judgement in judgements)


def format_table(table: PublishedTable, judgements: list[Judgement], style: Format = "text") -> str:
    """The published table with ours beside it, as text, Markdown, LaTeX, CSV or JSON."""
    if not for_people(style):
        return render_records(table.title, _facts(table), [_record(table, j) for j in judgements], style)
    rows: list[list[Cell]] = []
    dividers = set()
    tall = len(table.columns) > WIDE
    for judgement in judgements:
        rows.extend(_tall(table, judgement) if tall else _wide(table, judgement))
        if tall or judgement.was_run:
            dividers |= {len(rows) - 1}
            if not tall and len(rows) > 3:  # also a line above a row that has more than one line
                dividers.add(len(rows) - 4)
    if tall:
        columns = ["row", "kind", "score", "published", "ours", "difference", "verdict"]
    else:
        averages = [table.average_column, f"our {table.average_column}"] if table.average_column else []
        columns = ["row", *(_label_columns(table)), "kind", *table.columns, *averages, "verdict"]
    left = ["row", *_label_columns(table), "kind", "score", "verdict"]
    title = f"{table.title}. {table.number} (arXiv {table.arxiv})"
    page = Table(
        title=title + (", ours beside it" if any(table.columns.values()) else ""),
        columns=columns,
        rows=rows,
        notes=_notes(table, judgements),
        left=left,
        dividers=frozenset(dividers),
        widths=dict.fromkeys(_label_columns(table), 26),
    )
    return render(page, style)


def format_index(style: Format = "text") -> str:
    """The list of all published tables."""
    columns = ["table", "title", "arXiv", "where", "rows", "own", "commands", "protocol", "metric"]
    rows: list[list[Cell]] = []
    for name in published.names():
        table = published.load(name)
        own = sum(row.is_target for row in table.rows)
        commands = sum(row.command != QUOTED for row in table.rows)
        counts: list[Cell] = [len(table.rows), own, commands]
        rows.append([name, table.title, table.arxiv, table.number, *counts, table.protocol, table.metric])
    title = "Published tables (own: verified rows of the papers' own models; commands: rows that have one)"
    if not for_people(style):
        return render_records(title, {}, [dict(zip(columns, row)) for row in rows], style)
    left = ["table", "title", "arXiv", "where", "protocol", "metric"]
    notes = [f"status {status}: {meaning}" for status, meaning in published.statuses().items()]
    return render(Table(title, columns, rows, notes, left, widths={"title": 36, "arXiv": 12, "where": 34}), style)


def show_table(config: TableConfig) -> int:
    """Print one table; 1 if an own row is OFF."""
    table = published.load(config.name)
    judgements = judge(table, config.results)
    print(format_table(table, judgements, config.format))
    return int(failed(judgements))


def show_index(config: TablesConfig) -> int:
    """Print the list of tables."""
    print(format_index(config.format))
    return 0


def main(argv: list[str] | None = None) -> None:
    """Our results beside the rows of a published table: OK, CLOSE, OFF or not run."""
    cli.run(show_table, TableConfig, argv=argv, prog="python -m benchmarks table", description=TableConfig.__doc__)


def main_index(argv: list[str] | None = None) -> None:
    """The list of published tables."""
    cli.run(
        show_index,
        TablesConfig,
        argv=argv,
        prog="python -m benchmarks tables",
        description=TablesConfig.__doc__,
    )


def _verdict(
    table: PublishedTable, row: Row, ours: dict[str, float | None], average: float | None, excluded: bool
) -> str:
    if not any(table.columns.values()):
        return QUOTED
    if row.status != "verified":
        return NO_TARGET if excluded or any(score is not None for score in ours.values()) else NOT_RUN
    if not excluded and all(score is None for score in ours.values()):
        return NOT_RUN
    assert table.tolerance is not None  # published.load sees to it
    per_task = [_difference(score, row.values[column]) for column, score in ours.items()]
    worst = _grade([d for d in per_task if d is not None], _difference(average, row.average), table.tolerance)
    if worst == OFF:
        return OFF
    if excluded:
        return NOT_COMPARED
    missing = [column for column, task in table.columns.items() if task and ours[column] is None]
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


def _largest(judgement: Judgement) -> list[str]:
    known = {column: d for column, d in judgement.differences.items() if d is not None}
    parts = []
    if known:
        column = max(known, key=lambda name: abs(known[name]))
        parts.append(f"largest difference {known[column]:+.2f} ({column})")
    if judgement.average_difference is not None:
        parts.append(f"average {judgement.average_difference:+.2f}")
    if judgement.verdict == PARTIAL:
        done = sum(score is not None for score in judgement.ours.values())
        parts.insert(0, f"{done} of {len(judgement.ours)} tasks run")
    return [", ".join(parts)] if parts else []


def _label_columns(table: PublishedTable) -> list[str]:
    """Free columns worth printing: where a table has hardly any scores, the ids alone say too little."""
    if len(table.columns) > 1:
        return []
    return list(dict.fromkeys(label for row in table.rows for label in row.labels if label not in table.columns))


def _wide(table: PublishedTable, judgement: Judgement) -> list[list[Cell]]:
    """The published line; ours and the difference beneath it where something was run."""
    row = judgement.row
    labels = [row.labels.get(label) for label in _label_columns(table)]
    scores: list[Cell] = [row.labels.get(c) if v is None else v for c, v in row.values.items()]
    averages: list[Cell] = []
    blank: list[Cell] = []
    if table.average_column:
        mark = " !" if table.slip(row) is not None else ""
        averages = [None if row.average is None else f"{row.average:.2f}{mark}", judgement.average]
        blank = ["", ""]
    lines: list[list[Cell]] = [[row.id, *labels, row.kind, *scores, *averages, judgement.verdict]]
    if judgement.was_run:
        pad = [""] * len(labels)
        ours: list[Cell] = [_own_cell(judgement, column) for column in table.columns]
        changes: list[Cell] = [signed(judgement.differences[column]) for column in table.columns]
        mean: list[Cell] = ["", signed(judgement.average_difference)] if table.average_column else []
        lines.append(["  ours", *pad, "", *ours, *blank, ""])
        lines.append(["  difference", *pad, "", *changes, *mean, ""])
    return lines


def _tall(table: PublishedTable, judgement: Judgement) -> list[list[Cell]]:
    """One line per score, for tables with many of them; the average comes last."""
    row = judgement.row
    lines: list[list[Cell]] = [
        [
            row.id,
            row.kind,
            column,
            value,
            _own_cell(judgement, column),
            signed(judgement.differences[column]),
            "",
        ]
        for column, value in row.values.items()
        if value is not None or judgement.ours[column] is not None
    ]
    if table.average_column:
        change = signed(judgement.average_difference)
        lines.append([row.id, row.kind, table.average_column, row.average, judgement.average, change, ""])
    if lines:
        lines[-1][-1] = judgement.verdict
    return lines


def _own_cell(judgement: Judgement, column: str) -> Cell:
    if column in judgement.excluded:
        return f"{judgement.excluded[column]:.2f}*"
    return judgement.ours[column]


def _notes(table: PublishedTable, judgements: list[Judgement]) -> list[str]:
    notes = [f"Scores x 100; {table.metric}, protocol {table.protocol}." if table.metric else "Scores as printed."]
    for row in table.rows:
        if (mean := table.slip(row)) is not None:
            notes.append(f"! {row.id}: the published average {row.average:.2f} is not that of its row, {mean:.2f}.")
    if any(judgement.excluded for judgement in judgements):
        notes.append("* run, but not comparable with the table; left out of the average and the verdict.")
    notes.extend(f"{j.row.id}: {note}." for j in judgements for note in j.notes)
    if table.tolerance:
        t = table.tolerance
        notes.append(
            f"OK: every task within {t.ok_task} and the average within {t.ok_average} of the published row; "
            f"CLOSE: {t.close_task} and {t.close_average}. Only verified own rows are targets."
        )
        notes.append(f"Why so much: {t.reason}.")
    commands = [f"  {row.id}: {row.command}" for row in table.rows if row.command != QUOTED]
    if commands:
        notes += ["Commands (rows not named here are quoted; no command here reproduces them):", *commands]
    return notes


def _facts(table: PublishedTable) -> dict[str, Any]:
    facts: dict[str, Any] = {key: getattr(table, key) for key in ("name", "paper", "arxiv", "number")}
    facts |= {key: getattr(table, key) for key in ("suite", "protocol", "metric")}
    return facts | {"tolerance": asdict(table.tolerance) if table.tolerance else None}


def _record(table: PublishedTable, judgement: Judgement) -> dict[str, Any]:
    """One row for programs: what is published, ours, the differences, the verdict and where it is from."""
    row = judgement.row
    record: dict[str, Any] = {"id": row.id, **row.labels, "role": row.role, "status": row.status}
    for column, value in row.values.items():
        record[f"{column} published"] = value
        record[f"{column} ours"] = judgement.ours[column]
        record[f"{column} difference"] = judgement.differences[column]
    if table.average_column:
        record["average published"] = row.average
        record["average recomputed"] = table.mean(row.values)
        record["average follows from its row"] = table.slip(row) is None
        record["average ours"] = judgement.average
        record["average difference"] = judgement.average_difference
    record |= {"verdict": judgement.verdict, "not compared": judgement.excluded, "notes": judgement.notes}
    return record | {"source": row.source, "command": row.command, "note": row.note}
