"""`python -m benchmarks report RESULTS... -o report.html`: one page of results, with what is behind every number.

RESULTS are folders of `benchmarks run`, `study`, `layers` or the few-shot study, or folders of such folders. Beside the
page stand the tables of results and studies as CSV (full precision), Markdown and LaTeX.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common import cli
from common.errors import InputError
from common.io import command_line, write_text
from common.reading import read_lines


@dataclass
class ReportConfig:
    """One self-contained page of results, and its tables as CSV, Markdown and LaTeX."""

    results: list[Path] = field(
        metadata={"positional": True, "help": "result folders, studies, layer or few-shot curves"}
    )
    output: Path = field(
        default=Path("report.html"), metadata={"help": "the page (also -o); tables of results stand beside it"}
    )
    title: str | None = field(default=None, metadata={"help": "of the page; default: that of the study"})
    about: Path | None = field(
        default=None,
        metadata={"help": "text file for the top of the page: what it shows and what not"},
    )
    baseline: Path | None = field(default=None, metadata={"help": "result folder that others are held against"})
    samples: int = field(default=1000, metadata={"help": "bootstrap resamples of result folders"})

    def __post_init__(self) -> None:
        if not self.results:
            raise InputError("name at least one result folder: python -m benchmarks report RESULTS... -o report.html")
        if self.output.suffix not in (".html", ".htm"):
            raise InputError(f"--output {self.output}: must end in .html")
        if self.samples < 1:
            raise InputError(f"--samples {self.samples}: must be at least 1")
        if self.about and not self.about.is_file():
            raise InputError(f"--about {self.about}: no such file; give a text file, or leave it out")


def run(config: ReportConfig) -> int:
    """Read, draw, write."""
    from benchmarks import study_tables
    from benchmarks.report_inputs import read_inputs
    from benchmarks.report_page import page

    about = "\n".join(line for _, line in read_lines(config.about)).strip() if config.about else ""
    inputs = read_inputs(config.results, baseline=config.baseline, samples=config.samples)
    title = config.title or (inputs.documents[0]["title"] if len(inputs.documents) == 1 else "Results")
    footer = f"{command_line()}, {datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')}"
    write_text(config.output, page(inputs, title, footer, about))
    written = [config.output]
    if inputs.documents:
        texts = {
            ".md": "\n\n".join(
                [*([about] if about else []), *(study_tables.text(d, "markdown") for d in inputs.documents)]
            ),
            ".tex": "\n\n".join(study_tables.text(document, "latex") for document in inputs.documents),
            ".csv": study_tables.csv_of(inputs.documents),
        }
        for suffix, text in texts.items():
            write_text(config.output.with_suffix(suffix), text + "\n")
            written.append(config.output.with_suffix(suffix))
    for file in written:
        print(f"written: {file}")
    return 0


def main(argv: Sequence[str] | None = None) -> None:
    """One self-contained page of results, sortable, with what made every number; CSV, Markdown, LaTeX beside it."""
    words = None if argv is None else ["--output" if word == "-o" else word for word in argv]
    cli.run(run, ReportConfig, argv=words, prog="python -m benchmarks report", description=ReportConfig.__doc__)
