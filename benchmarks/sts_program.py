"""What the eval.py of the STS papers does: the released evaluation's flags and table on the shared harness."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

from benchmarks.results import Result
from benchmarks.run import RunConfig, evaluate, load_tasks
from common import cli
from common.errors import InputError
from common.flags import flag
from common.model_flags import ModelFlags

# Tasks under the names of the released table.
TITLES = {"SICK-R": "SICKRelatedness"}
_ELSEWHERE = "python -m benchmarks transfer runs the transfer tasks; give --task_set sts here"


_flag = partial(flag, group="evaluation")


@dataclass(kw_only=True)
class StsConfig(ModelFlags):
    """A model and what it is tested on; a paper's configuration is this and its own model flags.

    EDITS: what the paper's released evaluation does to texts before a prompt.
    """

    EDITS: ClassVar[Literal["one-word-prompt", "end-marks"]] = "one-word-prompt"

    mode: Literal["test", "fasttest", "dev"] = _flag("test", "test (fasttest differs in the transfer tasks only)")
    task_set: Literal["sts", "transfer", "full", "na"] = _flag("sts", "sts; na: those of --tasks")
    tasks: list[str] = _flag((), "some tasks; default: all of the suite")
    suite: Literal["sts", "sts-mteb", "sts-shipped"] = _flag("sts", "sts is the protocol of the papers")
    text_edits: Literal["auto", "one-word-prompt", "end-marks", "none"] = _flag(
        "auto", "edits of the released evaluation before the prompt; auto: where there is a prompt"
    )
    instruction: str | None = _flag(None, "what texts are embedded for, where the prompt has a place for it")
    data_dir: Path | None = _flag(None, "folder with the data; default: EMBED_DATA, else the hub")
    limit: int | None = _flag(None, "a seeded sample of so many pairs per task")
    batch_size: int | None = _flag(None, "texts per batch, at most; default: by tokens")
    output: Path | None = _flag(None, "result folder; default: results/SUITE/METHOD--MODEL")
    fresh: bool = _flag(False, "run all tasks again, whatever the folder holds")
    seed: int = _flag(0, "of --limit")
    dry_run: bool = field(
        default=False,
        metadata={"help": "print the resolved recipe and stop", "group": "evaluation", "recipe": False},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.task_set in ("transfer", "full"):
            raise InputError(f"--task_set {self.task_set}: {_ELSEWHERE}")
        if self.task_set == "na" and not self.tasks:
            raise InputError("--task_set na: needs --tasks")
        if self.mode == "dev":
            raise InputError("--mode dev: only the test sets are here; give --mode test")

    def resolve(self) -> None:
        """As of the model; and the text edits, where the prompt is known without loading anything."""
        super().resolve()
        if self.text_edits == "auto" and self.prompt:
            self.text_edits = self.edits_for(self.prompt)

    def edits_for(self, prompt: str) -> Literal["one-word-prompt", "end-marks", "none"]:
        """What the released evaluation does to texts: with a prompt it edits them, without one it does not."""
        return "none" if prompt == "{text}" else self.EDITS

    def run_config(self) -> RunConfig:
        """The same for the shared harness."""
        return RunConfig(
            method=self.METHOD,
            model=self.model_name_or_path,
            adapter=list(self.lora_name_or_path),
            compat=list(self.compat),
            suite=self.suite,
            tasks=list(self.tasks),
            data_dir=self.data_dir,
            limit=self.limit,
            text_edits=None if self.text_edits in ("auto", "none") else self.text_edits,  # type: ignore[arg-type]
            instruction=self.instruction,
            seed=self.seed,
            batch_size=self.batch_size,
            output=self.output,
            fresh=self.fresh,
        )


def evaluate_sts(config: StsConfig) -> None:
    """Load the data, then the model; evaluate, print."""
    config.resolve()
    if config.dry_run:
        print(cli.describe(config), end="")
        return
    tasks = load_tasks(config.run_config())
    encoder = config.load()
    if config.text_edits == "auto":
        config.text_edits = config.edits_for(encoder.info.template)
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
