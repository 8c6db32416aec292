"""`python -m benchmarks leakage`: count the test sentences that stand in training data, and write a report."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.leakage import Leakage, leakage, suite_items, training_file, training_rows
from common import cli
from common.errors import InputError
from common.flags import flag
from common.io import command_line, sha256_file, write_json, write_text


@dataclass(kw_only=True)
class LeakageConfig:
    """Count the sentences of a test suite that stand in training data, exactly or nearly."""

    train: list[str] = field(
        metadata={"help": "files to train on (JSON Lines, CSV, ..., .txt), or shipped:NAME", "group": "data"}
    )
    suite: str = flag("sts", "a suite of `python -m benchmarks list`", "data")
    tasks: list[str] = flag((), "some tasks of the suite; default: all", "data")
    data_dir: Path | None = flag(None, "folder with the data; default: EMBED_DATA, else the hub", "data")
    columns: list[str] = flag(
        (), "columns of the training files that hold texts; default: those that training knows", "data"
    )
    ngram: int = flag(8, "near: words in a row that a training text has, too", "what counts")
    share: float = flag(0.5, "near: the share of a sentence's words that such runs cover", "what counts")
    examples: int = flag(3, "shown per task, as an index and an excerpt", "output")
    output: Path | None = flag(None, "report as .json (with all indices) or .md", "output")

    def __post_init__(self) -> None:
        if not self.train:
            raise InputError("missing: --train FILE")
        if self.ngram < 2:
            raise InputError(f"--ngram {self.ngram}: must be at least 2")
        if not 0 <= self.share <= 1:
            raise InputError(f"--share {self.share}: must be between 0 and 1")
        if self.output is not None and self.output.suffix not in (".json", ".md"):
            raise InputError(f"--output {self.output}: must end in .json or .md")


HEADS = ("task", "pairs", "sentences", "exact", "near", "too short", "pairs with exact", "both exact", "one row")


def table(found: Leakage) -> list[list[str]]:
    """The lines under `HEADS`."""
    return [
        [
            t.task,
            *(f"{n:,}" for n in (t.items, t.texts, t.exact, t.near, t.short)),
            *(f"{len(n):,}" for n in (t.exact_items, t.all_items, t.together)),
        ]
        for t in found.tasks
    ]


def legend(found: Leakage) -> str:
    """What the columns are."""
    return (
        f"exact: the same letters and digits, whatever the case, marks and tokenisation. near: runs of {found.ngram} "
        f"words of one training text cover {found.share:.0%} of the sentence or more. too short: under {found.ngram} "
        "words, so near can't be told. one row: both sentences of a pair in one training row."
    )


def markdown(found: Leakage, title: str) -> str:
    """The report as Markdown."""
    lines = [f"# {title}", "", found.summary() + f"; {found.rows_exact:,} training rows have a test text.", ""]
    lines += ["| " + " | ".join(HEADS) + " |", "|---|" + "---:|" * (len(HEADS) - 1)]
    lines += ["| " + " | ".join(line) + " |" for line in table(found)]
    lines += [
        "",
        legend(found),
        "",
        "| task | pair | side | found | training row | begins |",
        "|---|---:|---:|---|---|---|",
    ]
    for t in found.tasks:
        for e in t.examples:
            excerpt = e.excerpt.replace("|", "\\|")
            lines.append(f"| {t.task} | {e.item} | {e.side} | {e.kind} {e.share:.2f} | {e.train} | {excerpt} |")
    return "\n".join(lines) + "\n"


def run(config: LeakageConfig) -> int:
    """Read, compare, print, write."""
    from prettytable import PrettyTable

    files = {name: training_file(name, config.data_dir) for name in config.train}
    items = suite_items(config.suite, config.tasks, config.data_dir)
    found = leakage(
        training_rows(config.train, config.data_dir, config.columns),
        items,
        ngram=config.ngram,
        share=config.share,
        examples=config.examples,
    )
    shown = PrettyTable(HEADS, align="r")
    shown.align["task"] = "l"
    shown.add_rows(table(found))
    title = f"{config.suite} in {', '.join(config.train)}"
    print(f"{title}\n{shown}\n{legend(found)}")
    print(f"{found.summary()}; {found.rows_exact:,} training rows have a test text")
    for t in found.tasks:
        for e in t.examples:
            print(f"  {t.task} pair {e.item} side {e.side}: {e.kind} {e.share:.2f} at {e.train}: {e.excerpt!r}")
    if config.output and config.output.suffix == ".md":
        write_text(config.output, markdown(found, title))
    elif config.output:
        about = {
            "command": command_line(),
            "suite": config.suite,
            "train": {n: sha256_file(f) for n, f in files.items()},
        }
        write_json(config.output, {**about, **found.to_dict()})
    return 0


def main(argv: list[str] | None = None) -> None:
    """Test sentences that stand in training data, exactly or nearly."""
    cli.run(run, LeakageConfig, argv=argv, prog="python -m benchmarks leakage", description=LeakageConfig.__doc__)
