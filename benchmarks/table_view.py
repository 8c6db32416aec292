"""A published table with ours beside it, as text, Markdown, LaTeX, CSV or JSON.

Up to twelve scores stand in one line per row. Of more, one line per score: a page of what is published, the rows as
its columns and the averages after what they are of, then a page for every row that we have results for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import Any

from benchmarks.judgement import Judgement
from benchmarks.published import QUOTED, PublishedTable, Row
from benchmarks.render import PAGE, Cell, Format, Table, for_people, render, render_records, signed
from common.errors import InputError

WIDE = 12  # more score columns than this are printed one line per score
NARROW = 16  # longer names of rows are folded where rows stand side by side
COMMANDS = 40  # no more commands than these are printed below a table


def select(judgements: Sequence[Judgement], patterns: Sequence[str]) -> list[Judgement]:
    """The rows that fit all patterns: `GLOB` for the id, `LABEL=GLOB` for a free column, the kind or the status.

    Raises:
        InputError: no row fits, or no row has that label.
    """
    chosen = list(judgements)
    for pattern in patterns:
        label, equals, glob = pattern.partition("=")
        known = {label for judged in judgements for label in _labels(judged.row)}
        if not equals:
            chosen = [judged for judged in chosen if fnmatchcase(judged.row.id, label)]
        elif label in known:
            chosen = [judged for judged in chosen if fnmatchcase(_labels(judged.row).get(label, ""), glob)]
        else:
            raise InputError(f"--rows {pattern}: no row has the label {label}; known: {', '.join(sorted(known))}")
    if patterns and not chosen:
        raise InputError(f"--rows {' '.join(patterns)}: no row of the table fits; `*` stands for any text")
    return chosen


def best(table: PublishedTable, judgements: Sequence[Judgement]) -> list[Judgement]:
    """Of every group of rows that are alike in `view.best_of`, the one with the highest average.

    Where the source prints none, it is recomputed. A group without any keeps its last row. Rows that were run stay.
    """
    groups: dict[tuple[str, ...], Judgement] = {}
    for judged in judgements:
        key = tuple(judged.row.labels.get(label, "") for label in table.view.best_of)
        if key not in groups or _height(table, judged.row) >= _height(table, groups[key].row):
            groups[key] = judged
    kept = {id(judged) for judged in groups.values()}
    return [judged for judged in judgements if id(judged) in kept or judged.was_run]


def format_table(
    table: PublishedTable, judgements: Sequence[Judgement], style: Format = "text", rows: Sequence[str] = ()
) -> str:
    """The published table with ours beside it.

    Args:
        table: from `published.load`.
        judgements: from `judgement.judge`.
        style: text, markdown, latex, csv or json.
        rows: patterns as of `select`; none: all rows, for people in the table's own view.
    """
    chosen = select(judgements, rows)
    if not for_people(style):
        return render_records(table.title, _facts(table), [_record(table, judged) for judged in chosen], style)
    if table.view.best_of and not rows:
        chosen = best(table, chosen)
    left_out = len(judgements) - len(chosen)
    notes = _notes(table, chosen, left_out)
    title = f"{table.title}. {table.number} (arXiv {table.arxiv})"
    if any(table.columns.values()):
        title += ", ours beside it"
    shown = _shown(table)
    if len(shown) <= WIDE:
        return render(_wide(table, chosen, shown, title, notes), style)
    pages = [*_turned(table, chosen, shown), *(_tall(table, judged, shown) for judged in chosen if judged.was_run)]
    if not pages:
        return render(Table(title, ["score"], [], notes), style)
    first, last = 0, len(pages) - 1
    texts = [
        render(
            Table(
                title if number == first else page.title,
                page.columns,
                page.rows,
                notes if number == last else (),
                page.left,
                dividers=page.dividers,
                widths=page.widths,
            ),
            style,
        )
        for number, page in enumerate(pages)
    ]
    return "\n\n".join(texts)


def _shown(table: PublishedTable) -> list[str]:
    """The scores and averages that are printed for people, in order."""
    return list(table.view.columns) or [*table.columns, *(mean.name for mean in table.means)]


def _height(table: PublishedTable, row: Row) -> float:
    known = table.averages(row.values, row.averages).get(table.average_column or "") if row.average is None else None
    height = row.average if row.average is not None else known
    return float("-inf") if height is None else height


def _labels(row: Row) -> dict[str, str]:
    return {**row.labels, "kind": row.kind, "role": row.role, "status": row.status}


# ---------------------------------------------------------------------------------------------- one line per row


def _wide(table: PublishedTable, judgements: Sequence[Judgement], shown: list[str], title: str, notes: Any) -> Table:
    labels = _label_columns(table)
    rows: list[list[Cell]] = []
    dividers = set()
    for judged in judgements:
        row = judged.row
        if judged.was_run and rows:
            dividers.add(len(rows) - 1)
        words: list[Cell] = [row.labels.get(label) for label in labels]
        rows.append([row.id, *words, row.kind, *(_printed(table, row, name) for name in shown), judged.verdict])
        if judged.was_run:
            pad = [""] * (len(labels) + 1)
            ours: list[Cell] = [_own(judged, name) for name in shown]
            changes: list[Cell] = [signed(_change(judged, name)) for name in shown]
            rows.append(["  ours", *pad, *ours, ""])
            rows.append(["  difference", *pad, *changes, ""])
            dividers.add(len(rows) - 1)
    columns = ["row", *labels, "kind", *shown, "verdict"]
    widths = dict.fromkeys(labels, 26)
    # Names of rows are folded where the page would be too wide.
    lengths = [max(map(len, cells)) for cells in zip(columns, *Table("", columns, rows).cells(), strict=True)]
    used = sum(min(length, widths.get(column, PAGE)) + 3 for column, length in zip(columns[1:], lengths[1:]))
    widths["row"] = max(NARROW, PAGE - used - 4)
    return Table(
        title,
        columns,
        rows,
        notes,
        left=["row", *labels, "kind", "verdict"],
        dividers=frozenset(dividers),
        widths=widths,
    )


def _label_columns(table: PublishedTable) -> list[str]:
    """Free columns worth printing: where a table has hardly any scores, the ids alone say too little."""
    if len(table.columns) > 1:
        return []
    return list(dict.fromkeys(label for row in table.rows for label in row.labels if label not in table.columns))


# -------------------------------------------------------------------------------------------- one line per score


def _turned(table: PublishedTable, judgements: Sequence[Judgement], shown: list[str]) -> Iterator[Table]:
    """What is published, one line per score; as many rows side by side as a page holds."""
    room = PAGE - max(len(name) for name in shown) - 4
    step = max(1, room // (NARROW + 3))
    for start in range(0, len(judgements), step):
        part = judgements[start : start + step]
        page = [judged.row for judged in part]
        numbers = [str(number) for number in range(start + 1, start + 1 + len(page))]
        lines: list[list[Cell]] = [["row", *(row.id for row in page)], ["kind", *(row.kind for row in page)]]
        dividers = {1}
        recomputed = [table.averages(row.values, row.averages) for row in page]
        for name, is_mean in _grouped(table, shown):
            if is_mean:
                lines.append([f"= {name}", *(means[name] for means in recomputed)])
                if any(row.averages[name] is not None for row in page):
                    lines.append(["  as printed", *(_printed(table, row, name) for row in page)])
                dividers.add(len(lines) - 1)
            else:
                lines.append([name, *(_printed(table, row, name) for row in page)])
        lines.append(["verdict", *(judged.verdict for judged in part)])
        yield Table(
            f"{table.title}, rows {numbers[0]} to {numbers[-1]} of {len(judgements)}",
            ["score", *numbers],
            lines,
            left=["score"],
            dividers=frozenset(dividers),
            widths=dict.fromkeys(numbers, NARROW),
        )


def _tall(table: PublishedTable, judged: Judgement, shown: list[str]) -> Table:
    """One row that was run: a line per score with what is published, ours and the difference."""
    lines: list[list[Cell]] = []
    dividers = set()
    for name, is_mean in _grouped(table, shown):
        published = _printed(table, judged.row, name)
        lines.append([f"= {name}" if is_mean else name, published, _own(judged, name), signed(_change(judged, name))])
        if is_mean:
            dividers.add(len(lines) - 1)
    title = f"{judged.row.id}: {judged.verdict}"
    return Table(title, ["score", "published", "ours", "difference"], lines, left=["score"],
                 dividers=frozenset(dividers))  # fmt: skip


def _grouped(table: PublishedTable, shown: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """The scores, each average after what it is of; True with an average."""
    done: set[str] = set()
    for mean in table.means:
        if mean.name not in shown:
            continue
        fresh = [name for name in shown if name in mean.weights and name in table.columns and name not in done]
        done.update(fresh)
        yield from ((name, False) for name in fresh)
        yield mean.name, True
    yield from ((name, False) for name in shown if name in table.columns and name not in done)


# --------------------------------------------------------------------------------------------------------- cells


def _printed(table: PublishedTable, row: Row, name: str) -> Cell:
    """What the source prints; a ! where an average does not follow from its row. Averages of no source: recomputed."""
    if name in row.averages:
        if name in table.unprinted:
            return table.averages(row.values, row.averages)[name]
        value = row.averages[name]
        return f"{value:.2f} !" if value is not None and name in table.slips(row) else value
    value = row.values[name]
    return row.labels.get(name) if value is None else value


def _own(judged: Judgement, name: str) -> Cell:
    if name in judged.averages:
        return judged.averages[name]
    return f"{judged.excluded[name]:.2f}*" if name in judged.excluded else judged.ours[name]


def _change(judged: Judgement, name: str) -> float | None:
    return judged.average_differences[name] if name in judged.averages else judged.differences[name]


# ------------------------------------------------------------------------------------------- notes, and programs


def _notes(table: PublishedTable, judgements: Sequence[Judgement], left_out: int) -> list[str]:
    if table.metric:
        notes = [f"Scores x 100; {table.metric}, protocol {table.protocol}."]
    elif table.protocol:
        notes = [f"Scores x 100, of each task its main score; protocol {table.protocol}."]
    else:
        notes = ["Scores as printed."]
    if left_out:
        labels = " and ".join(table.view.best_of)
        best_only = f"the best of each {labels} is shown; " if table.view.best_of else ""
        notes.append(
            f"{left_out} more rows: {best_only}--rows '*' shows all, --rows PATTERN some, --format csv is all."
        )
    if unprinted := [name for name in table.unprinted if name in _shown(table)]:
        notes.append(f"Recomputed here, the source prints none: {', '.join(unprinted)}.")
    for judged in judgements:
        row = judged.row
        for name, mean in table.slips(row).items():
            what = "average" if name == table.average_column else f"average {name}"
            notes.append(
                f"! {row.id}: the published {what} {row.averages[name]:.2f} is not that of its row, {mean:.2f}."
            )
    if any(judged.excluded for judged in judgements):
        notes.append("* run, but not comparable with the table; left out of the average and the verdict.")
    notes.extend(f"{judged.row.id}: {note}." for judged in judgements for note in judged.notes)
    if table.tolerance:
        t = table.tolerance
        notes.append(
            f"OK: every task within {t.ok_task} and the average within {t.ok_average} of the published row; "
            f"CLOSE: {t.close_task} and {t.close_average}. Only verified own rows are targets."
        )
        notes.append(f"Why so much: {t.reason}.")
    commands: dict[str, list[str]] = {}
    for judged in judgements:
        if judged.row.command != QUOTED:
            commands.setdefault(judged.row.command, []).append(judged.row.id)
    if commands:
        notes.append("Commands (rows not named here are quoted; no command here reproduces them):")
        notes += [f"  {_some(rows)}: {command}" for command, rows in list(commands.items())[:COMMANDS]]
        if len(commands) > COMMANDS:
            notes.append(f"and {len(commands) - COMMANDS} more; --format csv has all.")
    return notes


def _some(rows: list[str]) -> str:
    return ", ".join(rows) if len(rows) <= 3 else f"{', '.join(rows[:2])} and {len(rows) - 2} more"


def _facts(table: PublishedTable) -> dict[str, Any]:
    facts: dict[str, Any] = {key: getattr(table, key) for key in ("name", "paper", "arxiv", "number")}
    facts |= {key: getattr(table, key) for key in ("suite", "protocol", "metric")}
    return facts | {"tolerance": asdict(table.tolerance) if table.tolerance else None}


def _record(table: PublishedTable, judged: Judgement) -> dict[str, Any]:
    """One row for programs: what is published, ours, the differences, the verdict and where it is from."""
    row = judged.row
    record: dict[str, Any] = {"id": row.id, **row.labels, "role": row.role, "status": row.status}
    for column, value in row.values.items():
        record[f"{column} published"] = value
        record[f"{column} ours"] = judged.ours[column]
        record[f"{column} difference"] = judged.differences[column]
    recomputed = table.averages(row.values, row.averages)
    slips = table.slips(row)
    for number, name in enumerate(row.averages, start=1):
        key = "average" if number == len(row.averages) else f"average {name}"
        record[f"{key} published"] = row.averages[name]
        record[f"{key} recomputed"] = recomputed[name]
        record[f"{key} follows from its row"] = name not in slips
        record[f"{key} ours"] = judged.averages[name]
        record[f"{key} difference"] = judged.average_differences[name]
    record |= {"verdict": judged.verdict, "not compared": judged.excluded, "notes": judged.notes}
    return record | {"source": row.source, "command": row.command, "note": row.note}
