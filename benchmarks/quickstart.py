"""`python -m benchmarks quickstart`: every method on the embedded default, zero-shot and after a short training.

Each row is a cell (`benchmarks.cells`), trained and evaluated in processes of their own. What is done is kept, under a
hash over the sources, the data and the settings, so that a change of code never prints an old number.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import cells
from benchmarks.cells import Cell
from benchmarks.suites import SHIPPED_TASK
from common import cli, registry
from common.errors import InputError
from common.io import write_json, write_text

logger = logging.getLogger(__name__)

REFERENCE = "sentence-transformer"
TITLE = (
    "Spearman x 100 on the 300 sentence pairs that ship with this project: small, written for it, "
    "NOT comparable with any published benchmark"
)


@dataclass(kw_only=True)
class QuickstartConfig:
    """Every method on the embedded default: zero-shot, and after the same short training."""

    budget_tokens: int = field(default=30_000, metadata={"help": "training tokens, the same for every method"})
    model: str = field(default="smollm2-135m", metadata={"help": "backbone of all methods"})
    methods: list[str] = field(default_factory=list, metadata={"help": "default: all of the registry"})
    seed: int = field(default=42, metadata={"help": "of the training"})
    output: Path = field(default=Path("results/quickstart"), metadata={"help": "where rows and tables go"})
    fresh: bool = field(default=False, metadata={"help": "run all rows again"})
    row: str | None = field(default=None, metadata={"help": "run one row alone, such as angle--trained"})

    def __post_init__(self) -> None:
        if self.budget_tokens < 1:
            raise InputError(f"--budget_tokens {self.budget_tokens}: must be at least 1")
        for name in self.methods:
            registry.get(name)


@dataclass(frozen=True)
class Row:
    """One line of the table: a method on a model, trained or not."""

    method: str
    model: str
    trained: bool

    @property
    def name(self) -> str:
        """The folder's name."""
        return f"{self.method}--{'trained' if self.trained else 'zero-shot'}"


def rows_of(config: QuickstartConfig) -> list[Row]:
    """The reference row, then every method zero-shot and, where it has a training, trained."""
    wanted = [m for m in registry.methods() if not config.methods or m in config.methods]
    rows = [Row(REFERENCE, "minilm", False)] if REFERENCE in wanted else []
    for method in wanted:
        if method != REFERENCE:
            rows.append(Row(method, config.model, False))
            if registry.get(method).fit:
                rows.append(Row(method, config.model, True))
    return rows


def cell_of(config: QuickstartConfig, row: Row) -> Cell:
    """What is done for a row; its version is a hash over sources, pins and shipped data."""
    recipe = {
        "train_name_or_path": "shipped:triplets",
        "batch_size": 24,
        "max_tokens": config.budget_tokens,
        "learning_rate": 1e-3,  # few steps: at 2e-4 LLM2Vec hardly moves (docs/lab-notes.md)
        "warmup_steps": 0.1,
        "lora_dropout": 0.0,  # drawing the masks is slow on CPUs, and one pass over the data does not overfit
        "seed": config.seed,
        "save_strategy": "no",
        "save_minutes": None,
        "resume": False,
    }
    return Cell(
        config.output / row.name,
        row.method,
        row.model,
        evaluation={"suite": "sts-shipped"},
        recipe=recipe if row.trained else None,
        version=cells.sources_hash(row.method),
    )


def run(config: QuickstartConfig) -> int:
    """Run what is missing, print the table, write it as CSV, Markdown and JSON."""
    rows = rows_of(config)
    if not rows:
        raise InputError("--methods: nothing to run")
    if config.row:
        wanted = [r for r in rows if r.name == config.row]
        if not wanted:
            raise InputError(f"--row {config.row}: one of {', '.join(r.name for r in rows)}")
        rows = wanted
    say(f"{len(rows)} rows; training budget {config.budget_tokens:,} tokens per method; results in {config.output}")
    records = []
    for i, row in enumerate(rows, 1):
        cell = cell_of(config, row)
        if config.fresh:
            shutil.rmtree(cell.folder, ignore_errors=True)
        found = cells.finished(cell)
        state = "done before" if found else "running"
        say(f"[{i}/{len(rows)}] {row.method}, {'trained' if row.trained else 'zero-shot'}, {row.model}: {state}")
        record = _record(found or cells.complete(cell))
        if not found:
            say(f"      {record['score']:.2f} after {record['train_seconds'] + record['seconds']:.0f} s")
        records.append(record)
    if not config.row:
        _write_tables(config, records)
    return 0


def _record(cell: dict[str, Any]) -> dict[str, Any]:
    """The line of the table: a cell's record, its training in three numbers."""
    training = cell["training"] or {"tokens": 0, "seconds": 0.0, "peak_memory_mb": 0.0}
    rest = {key: cell[key] for key in cell if key not in ("training", "scores")}
    return rest | {
        "score": cell["scores"][SHIPPED_TASK],
        "train_tokens": training["tokens"],
        "train_seconds": training["seconds"],
        "peak_memory_mb": max(cell["peak_memory_mb"], training["peak_memory_mb"]),
    }


def _write_tables(config: QuickstartConfig, records: list[dict[str, Any]]) -> None:
    import pandas as pd
    from prettytable import PrettyTable

    budget = f"trained: {config.budget_tokens:,} tokens of the 400 shipped triplets, seed {config.seed}"
    heads = ["method", "model", "training", "Spearman", "train s", "encode s", "tokens/s", "peak MB", "dtype"]
    lines = [
        [
            r["method"],
            r["title"],
            f"{r['train_tokens']:,} tokens" if r["trained"] else "zero-shot",
            f"{r['score']:.2f}",
            f"{r['train_seconds']:.0f}" if r["trained"] else "-",
            f"{r['seconds']:.1f}",
            f"{r['tokens_per_second']:.0f}",
            f"{r['peak_memory_mb']:.0f}",
            r["dtype"],
        ]
        for r in records
    ]
    table = PrettyTable(heads, align="r")
    table.align["method"] = table.align["model"] = table.align["training"] = "l"
    table.add_rows(lines)
    print(f"{TITLE}\n({budget})\n{table}")
    markdown = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    markdown += ["| " + " | ".join(line) + " |" for line in lines]
    write_text(config.output / "table.md", f"{TITLE} ({budget})\n\n" + "\n".join(markdown) + "\n")
    flat = [{k: v for k, v in r.items() if k != "environment"} for r in records]
    write_text(config.output / "table.csv", pd.DataFrame(flat).to_csv(index=False))
    write_json(config.output / "table.json", {"title": TITLE, "budget": budget, "rows": records})
    print(f"written: {config.output}/table.csv, table.md, table.json")


def say(line: str) -> None:
    """A line of progress."""
    print(line, flush=True)


def main(argv: list[str] | None = None) -> None:
    """Every method on the embedded default: zero-shot, and after the same short training."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    cli.run(
        run, QuickstartConfig, argv=argv, prog="python -m benchmarks quickstart", description=QuickstartConfig.__doc__
    )
