"""Evaluate an AnglE model on STS, with the flags and the table of the released evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from angle.model_flags import ALIASES, DROPPED, REFUSED, ModelFlags
from benchmarks.results import Result
from benchmarks.run import RunConfig, evaluate, load_tasks
from common import cli
from common.errors import InputError

# Tasks under the names of the released table.
TITLES = {"SICK-R": "SICKRelatedness"}
_LATER = "the transfer tasks are not here yet; give --task_set sts"


def _flag(default: Any, help: str, group: str = "evaluation") -> Any:
    return field(default=default, metadata={"help": help, "group": group})


@dataclass(kw_only=True)
class EvalConfig(ModelFlags):
    """A model and what it is tested on."""

    mode: Literal["test", "fasttest", "dev"] = _flag("test", "test (fasttest differs in the transfer tasks only)")
    task_set: Literal["sts", "transfer", "full", "na"] = _flag("sts", "sts; na: those of --tasks")
    tasks: list[str] = _flag((), "some tasks; default: all of the suite")
    suite: Literal["sts", "sts-mteb", "sts-shipped"] = _flag("sts", "sts is the protocol of the papers")
    text_edits: Literal["auto", "one-word-prompt", "none"] = _flag(
        "auto", "edits of the released evaluation before the prompt; auto: where there is a prompt"
    )
    data_dir: Path | None = _flag(None, "folder with the data; default: EMBED_DATA, else the hub")
    limit: int | None = _flag(None, "a seeded sample of so many pairs per task")
    batch_size: int | None = _flag(None, "texts per batch, at most; default: by tokens")
    output: Path | None = _flag(None, "result folder; default: results/SUITE/angle--MODEL")
    fresh: bool = _flag(False, "run all tasks again, whatever the folder holds")
    seed: int = _flag(0, "of --limit")
    dry_run: bool = field(
        default=False,
        metadata={"help": "print the resolved recipe and stop", "group": "evaluation", "recipe": False},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.task_set in ("transfer", "full"):
            raise InputError(f"--task_set {self.task_set}: {_LATER}")
        if self.task_set == "na" and not self.tasks:
            raise InputError("--task_set na: needs --tasks")
        if self.mode == "dev":
            raise InputError("--mode dev: only the test sets are here; give --mode test")

    def resolve(self) -> None:
        """As of the model; and the text edits, where the prompt is known without loading anything."""
        super().resolve()
        if self.text_edits == "auto" and self.prompt:
            self.text_edits = edits_for(self.prompt)

    def run_config(self) -> RunConfig:
        """The same for the shared harness."""
        return RunConfig(
            method="angle",
            model=self.model_name_or_path,
            adapter=list(self.lora_name_or_path),
            compat=list(self.compat),
            suite=self.suite,
            tasks=list(self.tasks),
            data_dir=self.data_dir,
            limit=self.limit,
            text_edits="one-word-prompt" if self.text_edits == "one-word-prompt" else None,
            seed=self.seed,
            batch_size=self.batch_size,
            output=self.output,
            fresh=self.fresh,
        )


def edits_for(prompt: str) -> Literal["one-word-prompt", "none"]:
    """What the released evaluation does to texts: with a prompt it edits them, without one it does not."""
    return "none" if prompt == "{text}" else "one-word-prompt"


def main(config: EvalConfig) -> None:
    """Load the data, then the model; evaluate, print."""
    config.resolve()
    if config.dry_run:
        print(cli.describe(config), end="")
        return
    tasks = load_tasks(config.run_config())
    encoder = config.load()
    if config.text_edits == "auto":
        config.text_edits = edits_for(encoder.info.template)
    found = evaluate(config.run_config(), encoder=encoder, tasks=tasks)
    print(f"prompt: {encoder.info.template}   pooling: {encoder.pooling}   text edits: {config.text_edits}")
    print(released_table(found, config.mode))
    print(f"results: {next(iter(found.values())).path.parent}")


def released_table(found: dict[str, Result], mode: str = "test") -> str:
    """The table as the released script prints it: two decimals, and the mean of these."""
    from prettytable import PrettyTable

    scores = [f"{result.score:.2f}" for result in found.values()]
    table = PrettyTable([*(TITLES.get(name, name) for name in found), "Avg."])
    table.add_row([*scores, f"{sum(map(float, scores)) / len(scores):.2f}"])
    first = next(iter(found.values()))
    limited = f", a sample of {first.limit} pairs a task" if any(r.limit for r in found.values()) else ""
    return f"------ {mode} ------ ({first.suite}, {first.protocol} protocol, Spearman x 100{limited})\n{table}"


_ESE = dict.fromkeys(("embedding_start", "embedding_size"), "Espresso (ESE) is left out for now")
# What the command line understands besides the fields.
OPTIONS: dict[str, Any] = {"aliases": ALIASES, "dropped": DROPPED, "refused": {**REFUSED, **_ESE}}

if __name__ == "__main__":
    cli.run(main, EvalConfig, description=__doc__, **OPTIONS)
