"""`python -m benchmarks quickstart`: every method on the embedded default, zero-shot and after a short training.

Each row runs in a process of its own, since peak memory is a high-water mark. What is done is kept, under a key
over the sources, the data and the settings, so that a change of code never prints an old number.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.run import RunConfig, evaluate, peak_memory_mb
from benchmarks.suites import SHIPPED_TASK
from common import cli, registry
from common.data import SHIPPED, load_rows
from common.errors import InputError
from common.io import environment, read_json, sha256_file, sha256_of, write_json, write_text
from common.recipe import TrainConfig

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[1]
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
    row: str | None = field(default=None, metadata={"help": "run one row in this process (used by itself)"})

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


def key_of(config: QuickstartConfig, row: Row) -> str:
    """A hash over everything that could change a row: sources, shipped data, pins, settings."""
    packages = sorted({"common", "senteval", "benchmarks", *(_package(row.method))})
    files = [ROOT / "requirements.txt", *SHIPPED.glob("*.jsonl")]
    for package in packages:
        files += [p for p in (ROOT / package).rglob("*") if p.suffix in (".py", ".yaml")]
    hashes = {str(p.relative_to(ROOT)): sha256_file(p) for p in sorted(files)}
    settings = [row.method, row.model, row.trained]
    if row.trained:
        settings += [config.budget_tokens, config.seed]
    return sha256_of([hashes, settings])


def _package(method: str) -> list[str]:
    """The folder of a method that lives in this repository."""
    top = registry.get(method).load.partition(":")[0].partition(".")[0]
    return [top] if (ROOT / top).is_dir() else []


def run_row(config: QuickstartConfig, row: Row) -> dict[str, Any]:
    """Train (where the row says so), evaluate, and return the line of the table."""
    record: dict[str, Any] = {"method": row.method, "model": row.model, "trained": row.trained}
    record |= {"train_tokens": 0, "train_seconds": 0.0}
    folder = config.output / row.name
    model = row.model
    if row.trained:
        record |= _train(config, row, folder / "model")
        model = str(folder / "model")
    found = evaluate(
        RunConfig(method=row.method, model=model, suite="sts-shipped", output=folder / "sts-shipped", fresh=True)
    )[SHIPPED_TASK]
    title = found.encoder["title"]
    return record | {
        "title": title,
        "score": found.score,
        "seconds": found.seconds,
        "tokens": found.tokens,
        "tokens_per_second": found.tokens_per_second,
        "peak_memory_mb": peak_memory_mb(),
        "dtype": found.encoder["dtype"],
        "template": found.encoder["template"],
        "pooling": found.encoder["pooling"],
        "key": key_of(config, row),
        "environment": environment(),
    }


def _train(config: QuickstartConfig, row: Row, folder: Path) -> dict[str, Any]:
    import shutil

    from common.lora import training_attention
    from common.registry import resolve_attribute

    shutil.rmtree(folder, ignore_errors=True)
    data = load_rows("shipped:triplets")
    encoder = registry.load(row.method, row.model, attn_implementation=training_attention(None))
    recipe = TrainConfig(
        output_dir=folder,
        train_name_or_path="shipped:triplets",
        batch_size=24,
        max_tokens=config.budget_tokens,
        learning_rate=2e-4,
        warmup_steps=0.1,
        lora_dropout=0.0,  # drawing the masks is slow on CPUs, and one pass over the data does not overfit
        seed=config.seed,
        save_strategy="no",
        save_minutes=None,
        resume=False,
    )
    started = time.perf_counter()
    fit = resolve_attribute(str(registry.get(row.method).fit))
    fit(encoder, data, recipe)
    tokens = read_json(folder / "training.json")["tokens"]
    return {"train_tokens": tokens, "train_seconds": time.perf_counter() - started}


def run(config: QuickstartConfig) -> int:
    """Run what is missing, print the table, write it as CSV, Markdown and JSON."""
    rows = rows_of(config)
    if not rows:
        raise InputError("--methods: nothing to run")
    if config.row:
        row = next((r for r in rows if r.name == config.row), None)
        if row is None:
            raise InputError(f"--row {config.row}: one of {', '.join(r.name for r in rows)}")
        write_json(config.output / f"{row.name}.row.json", run_row(config, row))
        return 0
    say(f"{len(rows)} rows; training budget {config.budget_tokens:,} tokens per method; results in {config.output}")
    records = []
    for i, row in enumerate(rows, 1):
        file = config.output / f"{row.name}.row.json"
        done = None if config.fresh else _done(file, key_of(config, row))
        state = "done before" if done else "running"
        say(f"[{i}/{len(rows)}] {row.method}, {'trained' if row.trained else 'zero-shot'}, {row.model}: {state}")
        if done is None:
            _in_own_process(config, row)
            done = read_json(file)
            say(f"      {done['score']:.2f} after {done['train_seconds'] + done['seconds']:.0f} s")
        records.append(done)
    _write_tables(config, records)
    return 0


def _done(file: Path, key: str) -> dict[str, Any] | None:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None
    return record if record.get("key") == key else None


def _in_own_process(config: QuickstartConfig, row: Row) -> None:
    command = [sys.executable, "-m", "benchmarks", "quickstart", "--row", row.name]
    command += ["--budget_tokens", str(config.budget_tokens), "--model", config.model, "--seed", str(config.seed)]
    command += ["--output", str(config.output)]
    if config.methods:
        command += ["--methods", *config.methods]
    code = subprocess.run(command, check=False).returncode
    if code:
        raise InputError(f"row {row.name} failed with exit code {code}; run it alone: --row {row.name}")


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
    flat = [{k: v for k, v in r.items() if k not in ("environment", "key")} for r in records]
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
