"""`python -m benchmarks mteb`: any method on mteb's benchmarks or tasks, resumable, with or without the hub."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.model_choice import EncodeFlags, ModelChoice
from benchmarks.result_record import default_output
from benchmarks.results import Result
from common import cli
from common.errors import InputError
from common.flags import flag

if TYPE_CHECKING:
    from benchmarks.mteb_adapter import MtebEncoder, Prompts
    from benchmarks.mteb_tasks import Planned
    from common.encoder import Encoder


@dataclass(kw_only=True)
class MtebTasks:
    """What is evaluated, of every program that runs mteb."""

    benchmark: str | None = flag(None, '"MTEB(eng, v1)", "MTEB(eng, v2)", llm2vec-15, or another of mteb', "tasks")
    tasks: list[str] = flag((), "single tasks of mteb; with --benchmark: some of it", "tasks")
    data_dir: Path | None = flag(
        None, "folder with local files of tasks; default: EMBED_DATA; what is not there comes from the hub", "tasks"
    )
    instructions: str = flag(
        "method",
        "method (its own, if it has some), mteb (mteb's), none, or FILE.json with {TASK: instruction}",
        "tasks",
    )

    def __post_init__(self) -> None:
        if not self.benchmark and not self.tasks:
            raise InputError(
                'missing: --tasks (for example STS12 SciFact), or --benchmark (for example "MTEB(eng, v1)")'
            )


@dataclass(kw_only=True)
class MtebFlags(EncodeFlags, MtebTasks):
    """What is evaluated, how it is encoded, and where the results go, of every program that runs mteb."""

    output: Path | None = flag(None, "result folder; default: results/mteb/METHOD--MODEL", "output")
    fresh: bool = flag(False, "run all tasks again, whatever the folder holds", "output")
    dry_run: bool = field(
        default=False, metadata={"help": "print the resolved settings and stop", "group": "output", "recipe": False}
    )

    def __post_init__(self) -> None:
        MtebTasks.__post_init__(self)
        EncodeFlags.__post_init__(self)


@dataclass(kw_only=True)
class MtebConfig(ModelChoice, MtebFlags):
    """Evaluate an encoder on mteb."""

    def __post_init__(self) -> None:
        MtebFlags.__post_init__(self)
        ModelChoice.__post_init__(self)


def evaluate(config: MtebConfig) -> tuple[dict[str, Result], list[str]]:
    """Results by task, and the tasks without data.

    Raises:
        InputError: wrong use, missing data, or an output folder with results of another run.
    """
    from benchmarks.mteb_prompts import load_prompts

    prompts = load_prompts(config.instructions, config.method)
    planned, missing = plan_tasks(config)
    encoder = config.load()
    return run_planned(config, planned, encoder, prompts), missing


def plan_tasks(flags: MtebTasks) -> tuple[list[Planned], list[str]]:
    """The tasks that the flags ask for, with where their data is, and the names of those without data.

    Raises:
        InputError: no such task or benchmark, or no data for a task that is named.
    """
    from benchmarks.mteb_tasks import get_tasks, plan

    quiet_mteb()
    return plan(get_tasks(flags.benchmark, flags.tasks), flags.data_dir, strict=not flags.benchmark)


def run_planned(
    flags: MtebFlags,
    planned: Sequence[Planned],
    encoder: Encoder,
    prompts: Prompts,
    adapter_class: type[MtebEncoder] | None = None,
) -> dict[str, Result]:
    """Results by task.

    Args:
        flags: where they go, and how texts are batched.
        planned: of `plan_tasks`.
        encoder: what encodes.
        prompts: how each task is read.
        adapter_class: `MtebEncoder`, or one of a program's own.

    Raises:
        InputError: an instruction that the encoder's template has no place for, or results of another run there.
    """
    from benchmarks.mteb_adapter import MtebEncoder
    from benchmarks.mteb_run import run_tasks

    asked = [one.name for one in planned if prompts.of(one.task.metadata).instruction]
    if asked and not encoder.template_for("query").takes_instruction:
        raise InputError(f"--instructions {flags.instructions}: there is one for {asked[0]}, but the template "
                         f"{encoder.template_for('query').pattern!r} has no place for it")  # fmt: skip
    adapter = (adapter_class or MtebEncoder)(encoder, prompts, **flags.encode_options())
    return run_tasks(planned, adapter, flags.output or default_output("mteb", encoder.info), fresh=flags.fresh)


def quiet_mteb() -> None:
    """Keep mteb from saying of every older task that there is a newer one: published scores are of the older."""
    warnings.filterwarnings("ignore", message=".*is superseded by.*")
    logging.getLogger("mteb.abstasks.abstask").setLevel(logging.ERROR)


def summary(found: dict[str, Result], missing: Sequence[str] = ()) -> str:
    """The scores as a table, by type of task; averages only where no task is missing."""
    from prettytable import PrettyTable

    first = next(iter(found.values()))
    table = PrettyTable(["task", "type", "metric", "score", "data"])
    table.align = "l"
    table.align["score"] = "r"
    for name, result in found.items():
        place = "hub" if result.data["source"].startswith("hub") else "local"
        mark = " *" if result.data.get("differs") else ""
        table.add_row([name, result.data["task_type"], result.metric, f"{result.score:.2f}{mark}", place])
    for name in missing:
        table.add_row([name, "", "", "-", "missing"])
    lines = [f"{first.system}: mteb {first.data['mteb_version']}, scores x 100", str(table)]
    if len(found) > 1 and not missing:
        lines.append("mean over types: " + _means(found))
    lines += [f"* {name}: {r.data['differs']}" for name, r in found.items() if r.data.get("differs")]
    if missing:
        lines.append(f"{len(missing)} tasks have no data here (give --data_dir, or connect to the hub), so no average")
    return "\n".join(lines)


def _means(found: dict[str, Result]) -> str:
    """The mean per type of task, and over all tasks."""
    kinds: dict[str, list[float]] = {}
    for result in found.values():
        kinds.setdefault(result.data["task_type"], []).append(result.score)
    parts = [f"{kind} ({len(scores)}) {sum(scores) / len(scores):.2f}" for kind, scores in kinds.items()]
    every = [result.score for result in found.values()]
    return ", ".join(parts) + f"; all tasks ({len(every)}) {sum(every) / len(every):.2f}"


def run(config: MtebConfig) -> int:
    """Evaluate and print the scores."""
    if config.dry_run:
        print(cli.describe(config), end="")
        return 0
    found, missing = evaluate(config)
    print(summary(found, missing))
    print(f"results: {next(iter(found.values())).path.parent}")
    return 0


def main(argv: list[str] | None = None) -> None:
    """Any method on mteb's benchmarks or tasks, resumable, with or without the hub."""
    cli.run(run, MtebConfig, argv=argv, prog="python -m benchmarks mteb", description=MtebConfig.__doc__)
