"""Turn NLI pairs (premise, hypothesis, label) into training triplets: query, positive, negative."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from common import cli
from common.environment import command_line
from common.errors import InputError
from common.flags import flag
from common.io import sha256_file, write_json
from common.mining.triplets import Rule, check_output, make_triplets, read_nli, write_triplets

logger = logging.getLogger(__name__)

EXAMPLES = 3


@dataclass(kw_only=True)
class TripletConfig:
    """Files in, rule, file out."""

    nli: list[Path] = field(
        metadata={"help": "NLI files, pooled (AllNLI.tsv.gz, SNLI and MultiNLI as .jsonl, ...)", "group": "data"}
    )
    output: Path = field(metadata={"help": "the triplets, .jsonl or .jsonl.gz; a report goes beside", "group": "data"})
    split: str = flag("train", "the split, for files that name it in a column (AllNLI.tsv.gz)", "data")
    limit: int | None = flag(None, "the first rows of each file only", "data")
    query_column: Literal["query", "text"] = flag("query", "what the premise's column is called", "data")
    rule: Rule = flag(
        "matched", "per premise: i-th entailed with i-th contradicting text; one, drawn by the seed; all", "triplets"
    )
    seed: int = flag(42, "of --rule one", "triplets")
    dry_run: bool = field(
        default=False, metadata={"help": "print the resolved settings and stop", "group": "triplets", "recipe": False}
    )

    def __post_init__(self) -> None:
        if not self.nli:
            raise InputError("--nli: names no file")
        if self.limit is not None and self.limit < 1:
            raise InputError(f"--limit {self.limit}: must be at least 1")


def main(config: TripletConfig) -> None:
    """Read, pair, write, report."""
    report_file = check_output(config.output, config.nli)
    if config.dry_run:
        print(cli.describe(config), end="")
        return
    pairs = (pair for path in config.nli for pair in read_nli(path, split=config.split, limit=config.limit))
    rows, counts = make_triplets(pairs, rule=config.rule, seed=config.seed)
    if not rows:
        raise InputError(
            f"{', '.join(map(str, config.nli))}: no premise has both an entailed and a contradicting text; "
            "give files that share premises together, or a higher --limit"
        )
    write_triplets(config.output, rows, config.query_column)
    report = {
        "settings": {"rule": config.rule, "seed": config.seed, "split": config.split, "limit": config.limit},
        "inputs": {str(path): sha256_file(path) for path in config.nli},
        "output": {config.output.name: sha256_file(config.output)},
        "counts": counts,
        "command": command_line(),
    }
    write_json(report_file, report)
    for name, count in counts.items():
        print(f"{name:32}{count:>10,}")
    for row in rows[:EXAMPLES]:
        print(*(f"{name:>10}: {text}" for name, text in row.items()), sep="\n", end="\n\n")
    print(f"{config.output}: {len(rows):,} triplets; report: {report_file}")


if __name__ == "__main__":
    cli.run(main, TripletConfig, description=__doc__)
