"""Result folders side by side: `python -m benchmarks compare RESULT_DIR... [--baseline DIR]`.

One row per folder, one column per task, then the average over the whole suite, time and memory. With a
baseline, every task's difference comes with its paired bootstrap interval, and p-values are corrected over
the tasks with Holm's method.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.comparison import AVERAGE, SHORT, Comparison, Difference, Entry, compare
from benchmarks.render import SUFFIXES, Cell, Format, Table, for_people, render, render_records, signed
from common import cli
from common.errors import InputError
from common.io import write_text


@dataclass
class CompareConfig:
    """Compare result folders: scores, time and memory, and differences to a baseline with intervals."""

    results: list[Path] = field(metadata={"positional": True, "help": "result folders, one row each"})
    baseline: Path | None = field(default=None, metadata={"help": "result folder that all others are held against"})
    samples: int = field(default=1000, metadata={"help": "bootstrap resamples"})
    seed: int = field(default=0, metadata={"help": "of the bootstrap"})
    format: Format | None = field(default=None, metadata={"help": "default: by the suffix of --output, else text"})
    output: Path | None = field(default=None, metadata={"help": "write the table to this file instead"})


def format_comparison(comparison: Comparison, style: Format = "text") -> str:
    """The comparison as text, Markdown, LaTeX (two tables if there is a baseline), CSV or JSON (one)."""
    if for_people(style):
        parts = [render(_score_table(comparison), style)]
        if comparison.baseline:
            parts.append(render(_difference_table(comparison), style))
        return "\n\n".join(parts)
    records = [_record(comparison, entry, nested=style == "json") for entry in comparison.entries]
    return render_records(comparison.title, {"notes": comparison.notes}, records, style)


def run(config: CompareConfig) -> int:
    """Print the comparison, or write it to `--output`."""
    if not config.results:
        raise InputError("name at least one result folder: python -m benchmarks compare RESULT_DIR...")
    style = config.format
    if style is None:
        suffix = config.output.suffix.lower() if config.output else ".txt"
        if suffix not in SUFFIXES:
            known = ", ".join(SUFFIXES)
            raise InputError(f"--output {config.output}: no format for {suffix!r}; use {known}, or give --format")
        style = SUFFIXES[suffix]
    comparison = compare(config.results, baseline=config.baseline, samples=config.samples, seed=config.seed)
    text = format_comparison(comparison, style)
    if config.output:
        write_text(config.output, text + "\n")
        print(f"wrote {config.output}")
    else:
        print(text)
    return 0


def main(argv: list[str] | None = None) -> None:
    """Result folders side by side, with differences to a baseline and their intervals."""
    cli.run(run, CompareConfig, argv=argv, prog="python -m benchmarks compare", description=CompareConfig.__doc__)


def _score_table(comparison: Comparison) -> Table:
    entries = comparison.entries
    about: dict[str, list[str | None]] = {
        "method": [entry.any.method for entry in entries],
        "model": [_short(entry.any.model) for entry in entries],
        "adapter": [_short(entry.any.adapter) if entry.any.adapter else None for entry in entries],
    }
    # What all rows share is said once, below; a dash for all is not said at all.
    shared = {key: values[0] for key, values in about.items() if len(entries) > 1 and len(set(values)) == 1}
    about = {key: values for key, values in about.items() if key not in shared and any(values)}
    rows: list[list[Cell]] = []
    for number, entry in enumerate(entries):
        label = entry.label + (" (baseline)" if entry is comparison.baseline else "")
        scores: list[Cell] = [_score_cell(comparison, entry, task) for task in comparison.tasks]
        cost: list[Cell] = [entry.seconds, entry.tokens_per_second, entry.peak_memory_mb]
        facts = [values[number] for values in about.values()]
        rows.append([label, *facts, *scores, entry.average(comparison.tasks), *cost])
    heads = [SHORT.get(task, task) for task in comparison.tasks]
    columns = ["result", *about, *heads, AVERAGE, "seconds", "tokens/s", "peak MB"]
    said = (
        [f"All: {', '.join(f'{key} {value}' for key, value in shared.items() if value)}."]
        if any(shared.values())
        else []
    )
    decimals = {"seconds": 1, "tokens/s": 0, "peak MB": 0}
    notes = [*said, *comparison.notes]
    return Table(comparison.title, columns, rows, notes, ["result", *about], decimals)


def _score_cell(comparison: Comparison, entry: Entry, task: str) -> Cell:
    if task not in entry.results:
        return None
    score, mark = entry.results[task].score, comparison.marks.get((entry.label, task), "")
    return f"{score:.2f}{mark}" if mark else score


def _difference_table(comparison: Comparison) -> Table:
    assert comparison.baseline is not None
    rows: list[list[Cell]] = []
    dividers = set()
    for label, family in comparison.differences.items():
        for d in family:
            low, high, change = (signed(value) for value in (d.interval.low, d.interval.high, d.interval.difference))
            cells: list[Cell] = [
                label,
                d.task,
                d.baseline,
                d.score,
                change,
                low,
                high,
                d.interval.p,
                d.p_holm,
                d.mark,
            ]
            rows.append(cells)
        dividers.add(len(rows) - 1)
    columns = ["result", "task", "baseline", "score", "difference", "low", "high", "p", "p (Holm)", ""]
    notes = [
        "* the 95% interval (paired bootstrap over items) excludes 0; ** and p is below 0.05 after Holm's "
        "correction over the tasks of the row.",
    ]
    skipped = [
        f"{entry.label} on {', '.join(missing)}: no difference, as predictions are missing or the items are others."
        for entry in comparison.entries
        if entry.label in comparison.differences and (missing := _missing(comparison, entry.label))
    ]
    title = f"Difference to {comparison.baseline.label}"
    decimals = {"p": 3, "p (Holm)": 3}
    return Table(title, columns, rows, [*notes, *skipped], ["result", "task", ""], decimals, frozenset(dividers))


def _missing(comparison: Comparison, label: str) -> list[str]:
    done = {d.task for d in comparison.differences[label]}
    return [task for task in comparison.tasks if task not in done]


def _record(comparison: Comparison, entry: Entry, *, nested: bool) -> dict[str, Any]:
    """One folder for programs: flat for CSV, with per-task detail nested for JSON."""
    one = entry.any
    record: dict[str, Any] = {"result": entry.label, "folder": str(entry.folder)}
    record |= {key: getattr(one, key) for key in ("method", "model", "adapter", "suite", "protocol", "metric")}
    for task in comparison.tasks:
        result = entry.results.get(task)
        record[task] = result.score if result else None
    record[AVERAGE] = entry.average(comparison.tasks)
    record |= {"seconds": entry.seconds, "tokens_per_second": entry.tokens_per_second}
    record |= {"peak_memory_mb": entry.peak_memory_mb, "baseline": entry is comparison.baseline}
    record["limit"] = max((r.limit for r in entry.results.values() if r.limit is not None), default=None)
    record["compat"] = sorted({switch for r in entry.results.values() for switch in r.switches})
    record["marks"] = [f"{t} {m}" for (label, t), m in comparison.marks.items() if label == entry.label]
    family = comparison.differences.get(entry.label, [])
    parts = {d.task: _numbers(d) for d in family}
    if nested:
        record["commands"] = {task: result.command for task, result in entry.results.items()}
        return record | {"differences": parts}
    for task in [*comparison.tasks, AVERAGE] if comparison.baseline else []:
        for key in ("difference", "low", "high", "p", "p_holm"):
            record[f"{task} {key}"] = parts.get(task, {}).get(key)
    return record


def _numbers(d: Difference) -> dict[str, float | None]:
    found = d.interval
    return {
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
        "p": found.p,
        "p_holm": d.p_holm,
    }


def _short(name: str) -> str:
    """The last part of a hub id or path."""
    return name.rstrip("/").rsplit("/", 1)[-1]
