"""`python -m benchmarks run`: one encoder on one suite; a result file per task, resumable."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from benchmarks import results, suites
from benchmarks.model_choice import EncodeFlags, ModelChoice, check_counts
from benchmarks.result_record import default_output, result_record
from common import cli
from common.errors import InputError
from common.flags import flag
from common.registry import check_compat
from senteval import PairTask, evaluate_pairs

if TYPE_CHECKING:
    from common.encoder import Encoder

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class RunConfig(EncodeFlags, ModelChoice):
    """Evaluate an encoder on a suite."""

    suite: str = flag("sts", "sts, sts-mteb or sts-shipped", "data")
    tasks: list[str] = flag((), "some tasks of the suite; default: all", "data")
    data_dir: Path | None = flag(None, "folder with the data; default: EMBED_DATA, else the hub", "data")
    limit: int | None = flag(None, "a seeded sample of so many pairs per task", "data")
    text_edits: Literal["one-word-prompt", "end-marks"] | None = flag(
        None, "edits of the released one-word-prompt evaluations, before the template", "data"
    )
    instruction: str | None = flag(None, "what texts are embedded for, where the method's template takes one", "data")
    shuffle_gold: bool = flag(False, "control run: the gold scores in random order", "data")
    seed: int = flag(0, "of --limit and --shuffle_gold", "data")

    output: Path | None = flag(None, "result folder; default: results/SUITE/METHOD--MODEL", "output")
    fresh: bool = flag(False, "run all tasks again, whatever the folder holds", "output")

    def __post_init__(self) -> None:
        ModelChoice.__post_init__(self)
        EncodeFlags.__post_init__(self)
        check_counts(self, "limit")


def load_tasks(config: RunConfig) -> dict[str, PairTask]:
    """The data of a run, by task; before any model is loaded, so that a missing file is found in a second."""
    compat = check_compat(config.compat)
    suite = suites.get_suite(config.suite, config.tasks)
    return {
        name: suites.load(suite, name, config.data_dir, limit=config.limit, seed=config.seed, compat=compat)
        for name in suite.tasks
    }


def evaluate(
    config: RunConfig, *, encoder: Encoder | None = None, tasks: dict[str, PairTask] | None = None
) -> dict[str, results.Result]:
    """Run what is not there yet; returns all results of the suite, by task.

    Args:
        config: the run.
        encoder: what to evaluate, where the caller has loaded it; else as `config.load` does.
        tasks: the data, where the caller has loaded it; else as `load_tasks` does.

    Raises:
        InputError: wrong use, missing data, or an output folder with results of another run.
    """
    compat = check_compat(config.compat)
    suite = suites.get_suite(config.suite, config.tasks)
    tasks = tasks or load_tasks(config)
    encoder = encoder or config.load()
    info = encoder.info.to_dict()
    folder = config.output or default_output(suite.name, encoder.info)
    for name, task in tasks.items():
        if not config.fresh and _is_done(folder, name, info, task, config):
            logger.info("%s: done before", name)
            continue
        edit = suites.EDITS[config.text_edits] if config.text_edits else None
        used = encoder.usage.tokens
        started = time.perf_counter()
        options = {"instruction": config.instruction, **config.encode_options()}

        def encode(texts: list[str], edit: Any = edit, options: dict[str, Any] = options) -> np.ndarray:
            edited = [edit(t) for t in texts] if edit else texts
            return encoder.encode(edited, **options)

        scores, prediction = evaluate_pairs(encode, task)
        seconds = time.perf_counter() - started
        gold = task.gold
        if config.shuffle_gold:
            from senteval import score_pairs

            gold = np.random.default_rng(config.seed).permutation(gold)
            scores |= score_pairs(prediction, gold, task.subset)
        sampled = len(task) < task.total
        record = result_record(
            info,
            task=name,
            suite=suite.name,
            protocol=suite.protocol,
            metric="spearman",
            score=scores["spearman"],
            scores=scores,
            n=len(task),
            limit=config.limit if sampled else None,
            index=task.index if sampled else None,
            compat=compat,
            data={
                "source": task.source,
                "sha256": task.fingerprint,
                "text_edits": config.text_edits,
                "instruction": config.instruction,
                "shuffled_gold": config.shuffle_gold,
                "complete": task.complete,
            },
            seed=config.seed,
            texts=2 * len(task),
            tokens=encoder.usage.tokens - used,
            seconds=seconds,
        )
        results.write_result(folder, record, {"prediction": prediction, "gold": gold})
        logger.info("%s: %.2f (%d pairs, %.1f s)", name, scores["spearman"], len(task), seconds)
    found = results.read_folder(folder)
    return {name: found[name] for name in tasks}


def _is_done(folder: Path, name: str, info: dict[str, Any], task: Any, config: RunConfig) -> bool:
    """Whether the folder holds this very result; a result of other settings there is an error."""
    if not (folder / f"{name}.json").is_file():
        return False
    found = results.read_folder(folder)[name]
    same = (
        found.encoder.get("fingerprint") == info["fingerprint"]
        and found.data_hash == task.fingerprint
        and found.data.get("text_edits") == config.text_edits
        and found.data.get("instruction") == config.instruction
        and found.data.get("shuffled_gold", False) == config.shuffle_gold
        and (found.seed == config.seed or not config.shuffle_gold)
    )
    if not same:
        raise InputError(
            f"{folder / name}.json: is a result of another model, data or setting; give another --output, or --fresh"
        )
    return True


def summary(found: dict[str, results.Result]) -> str:
    """The scores as a table."""
    from prettytable import PrettyTable

    first = next(iter(found.values()))
    table = PrettyTable([*found, "Avg"])
    scores = [r.score for r in found.values()]
    table.add_row([*(f"{s:.2f}" for s in scores), f"{np.mean(scores):.2f}"])
    limited = f", {first.limit} pairs a task" if first.limit else ""
    shuffled = ", GOLD SHUFFLED" if first.data.get("shuffled_gold") else ""
    title = f"{first.system}: {first.suite} ({first.protocol} protocol), Spearman x 100{limited}{shuffled}"
    if first.protocol == "shipped":
        title += "; the project's own small set, not comparable with any benchmark"
    return f"{title}\n{table}"


def run(config: RunConfig) -> int:
    """Evaluate and print the scores."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    found = evaluate(config)
    print(summary(found))
    print(f"results: {next(iter(found.values())).path.parent}")
    return 0


def main(argv: list[str] | None = None) -> None:
    """One encoder on one suite; a result file per task, resumable."""
    cli.run(run, RunConfig, argv=argv, prog="python -m benchmarks run", description=RunConfig.__doc__)
