"""Ours beside the published rows: `python -m benchmarks table NAME` and `python -m benchmarks tables`.

A row's own results are looked for in `RESULTS/<table>/<row id>/`, or the folder that the row names. What was not run
is a dash, never the paper's number. The exit code is 1 if a verified row of the paper's own models is OFF.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import published
from benchmarks.judgement import failed, judge
from benchmarks.published import QUOTED
from benchmarks.render import Cell, Format, Table, for_people, render, render_records
from benchmarks.table_view import format_table
from common import cli


@dataclass
class TableConfig:
    """Hold our results against a published table."""

    name: str = field(metadata={"positional": True, "help": "the table; `python -m benchmarks tables` lists them"})
    results: Path = field(default=Path("results"), metadata={"help": "folder with <table>/<row id>/ result folders"})
    rows: list[str] = field(
        default_factory=list,
        metadata={"help": "only these rows: 'llama*' for ids, 'mode=first' for labels; all must fit"},
    )
    format: Format = field(default="text", metadata={"help": "text, markdown, csv, json or latex"})


@dataclass
class TablesConfig:
    """List the published tables."""

    format: Format = field(default="text", metadata={"help": "text, markdown, csv, json or latex"})


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
    return render(Table(title, columns, rows, notes, left, widths={"title": 34, "arXiv": 11, "where": 24}), style)


def show_table(config: TableConfig) -> int:
    """Print one table; 1 if an own row is OFF."""
    table = published.load(config.name)
    judgements = judge(table, config.results)
    print(format_table(table, judgements, config.format, list(config.rows)))
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
