"""Tables as text, Markdown, CSV, JSON and LaTeX. What has no value prints as a dash, in JSON as null."""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pandas as pd
from prettytable import PrettyTable, TableStyle

from common.errors import InputError

Format = Literal["text", "markdown", "csv", "json", "latex"]
FORMATS: tuple[Format, ...] = ("text", "markdown", "csv", "json", "latex")
SUFFIXES: dict[str, Format] = {
    ".txt": "text",
    ".md": "markdown",
    ".csv": "csv",
    ".json": "json",
    ".tex": "latex",
}
DASH = "-"
PAGE = 160  # columns of a terminal that the text form is made for
LATEX = str.maketrans(
    {
        **{character: "\\" + character for character in "&%$#_{}"},
        "\\": "\\textbackslash{}",
        "~": "\\textasciitilde{}",
        "^": "\\textasciicircum{}",
    }
)

Cell = str | float | int | None


@dataclass(frozen=True)
class Table:
    """A table to be read by people: floats are rounded, None is a dash."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()
    left: Sequence[str] = ()  # columns of words, aligned left; the others are aligned right
    decimals: Mapping[str, int] = field(default_factory=dict)  # per column; 2 where not named
    dividers: frozenset[int] = frozenset()  # numbers of the rows that end a group
    widths: Mapping[str, int] = field(default_factory=dict)  # text only: columns whose long cells are folded

    def cells(self) -> list[list[str]]:
        """All cells as they are printed."""
        places = [self.decimals.get(column, 2) for column in self.columns]
        return [[_text(cell, place) for cell, place in zip(row, places, strict=True)] for row in self.rows]


def render(table: Table, style: Format) -> str:
    """A `Table` as text, Markdown or LaTeX, title above and notes below."""
    if style == "text":
        pretty = _pretty(table, table.cells())
        for column, width in table.widths.items():
            pretty.max_width[column] = width
        return "\n".join([table.title, pretty.get_string(), *(_folded(note) for note in table.notes)])
    if style == "markdown":
        cells = [[_markdown(cell) for cell in row] for row in table.cells()]
        pretty = _pretty(replace(table, dividers=frozenset()), cells)
        pretty.set_style(TableStyle.MARKDOWN)
        notes = "\n".join(f"- {_markdown(note.strip())}" for note in table.notes)
        return "\n\n".join([f"**{table.title}**", pretty.get_string(), *([notes] if notes else [])])
    if style == "latex":
        frame = pd.DataFrame(table.cells(), columns=list(table.columns)).map(_latex)
        frame.columns = [_latex(column) for column in table.columns]
        align = "".join("l" if column in table.left else "r" for column in table.columns)
        body = frame.to_latex(index=False, escape=False, column_format=align, caption=_latex(table.title))
        return "\n".join([body.rstrip("\n"), *(f"% {note}" for note in table.notes)])
    raise InputError(f"a table for reading has the formats text, markdown and latex, not {style!r}")


def render_records(title: str, facts: Mapping[str, Any], records: Sequence[Mapping[str, Any]], style: Format) -> str:
    """Rows for programs, full precision: JSON with title and facts on top, CSV with the title in every row.

    Nested values stand in CSV as JSON, lists of words with semicolons.
    """
    if style == "json":
        document = _plain({"title": title, **facts, "rows": list(records)})
        return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    if style == "csv":
        flat = [{key: _flat(value) for key, value in record.items()} | {"title": title} for record in records]
        return pd.DataFrame(flat, dtype=object).to_csv(index=False, lineterminator="\n").rstrip("\n")
    raise InputError(f"records have the formats csv and json, not {style!r}")


def for_people(style: Format) -> bool:
    """True for the formats that people read (`render`), False for those of programs (`render_records`)."""
    return style in ("text", "markdown", "latex")


def signed(value: float | None) -> str | None:
    """A difference with its sign, two decimals."""
    return None if value is None else f"{value:+.2f}"


def _pretty(table: Table, cells: list[list[str]]) -> PrettyTable:
    pretty = PrettyTable(list(table.columns))
    pretty.align = "r"
    for column in table.left:
        pretty.align[column] = "l"
    for number, row in enumerate(cells):
        pretty.add_row(row, divider=number in table.dividers)
    return pretty


def _text(cell: Cell, places: int) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return DASH
    return f"{cell:.{places}f}" if isinstance(cell, float) else str(cell)


def _folded(note: str) -> str:
    """A note in lines of the page's width; indented notes (commands) stay on one line, to be copied."""
    return note if note.startswith(" ") else textwrap.fill(note, PAGE, subsequent_indent="  ")


def _markdown(text: str) -> str:
    return re.sub(r"([|*_#])", r"\\\1", text)


def _latex(text: str) -> str:
    return text.translate(LATEX)


def _flat(value: Any) -> Any:
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return "; ".join(value)
    return json.dumps(_plain(value), ensure_ascii=False) if isinstance(value, (dict, list, tuple)) else value


def _plain(value: Any) -> Any:
    """The value with tuples as lists and nan as None, for JSON."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
