"""`python -m benchmarks matrix`: the results matrix of README.md, made from the result folders in docs/results."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.results import Result, check_one_system, read_folder
from common import cli
from common.errors import InputError
from common.io import write_text
from senteval import task_names

START, END = "<!-- results matrix: start (python -m benchmarks matrix) -->", "<!-- results matrix: end -->"
ROOT = Path(__file__).resolve().parents[1]


@dataclass
class MatrixConfig:
    """Write the results matrix into README.md from the result folders beneath docs/results."""

    results: Path = field(default=ROOT / "docs" / "results", metadata={"help": "folder of result folders"})
    readme: Path = field(default=ROOT / "README.md", metadata={"help": "the file with the two markers"})
    check: bool = field(default=False, metadata={"help": "change nothing; exit with 1 if it is out of date"})


def matrix(folder: Path) -> str:
    """Markdown: one line per result folder SUITE/NAME beneath `folder`, linked; only what was run in full."""
    lines = ["| result | protocol | " + " | ".join(task_names("mteb")) + " | Avg | dtype |"]
    lines.append("|---" * (len(task_names("mteb")) + 4) + "|")
    for suite in sorted(p for p in folder.iterdir() if p.is_dir()):
        for run in sorted(p for p in suite.iterdir() if p.is_dir()):
            if not any((run / f"{task}.json").is_file() for task in task_names("mteb")):
                continue  # transfer tasks, word level, few-shot curves and others have no place here
            found = read_folder(run)
            check_one_system(found)
            lines.append(_line(folder, run, found))
    return "\n".join(lines)


def _line(folder: Path, run: Path, found: dict[str, Result]) -> str:
    first = next(iter(found.values()))
    scores = [found[name].score if name in found else None for name in task_names("mteb")]
    cells = ["-" if s is None else f"{s:.2f}" for s in scores]
    known = [s for s in scores if s is not None]
    average = f"{sum(known) / len(known):.2f}" if len(known) == len(scores) else "-"
    link = f"[{run.name}]({folder.parent.name}/{folder.name}/{run.parent.name}/{run.name})"
    protocol = first.protocol + (f", {first.limit} pairs a task" if first.limit else "")
    return "| " + " | ".join([link, protocol, *cells, average, str(first.encoder["dtype"])]) + " |"


def run(config: MatrixConfig) -> int:
    """Write, or check, the matrix."""
    text = config.readme.read_text(encoding="utf-8")
    if START not in text or END not in text:
        raise InputError(f"{config.readme}: the markers {START!r} and {END!r} are not both there")
    before, rest = text.split(START, 1)
    after = rest.split(END, 1)[1]
    fresh = f"{before}{START}\n{matrix(config.results)}\n{END}{after}"
    if config.check:
        if fresh != text:
            print(f"{config.readme}: the results matrix is out of date; run: python -m benchmarks matrix")
            return 1
        return 0
    write_text(config.readme, fresh)
    print(f"wrote {config.readme}")
    return 0


def main(argv: list[str] | None = None) -> None:
    """The results matrix of README.md, made from the result folders in docs/results."""
    cli.run(run, MatrixConfig, argv=argv, prog="python -m benchmarks matrix", description=MatrixConfig.__doc__)
