"""`python -m benchmarks transfer`: SentEval's transfer tasks, by its classifier or a quick scikit-learn probe."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from benchmarks import results, suites
from benchmarks.model_choice import EncodeFlags, ModelChoice, check_counts
from benchmarks.result_record import default_output, result_record
from common import cli
from common.errors import InputError
from common.flags import flag

if TYPE_CHECKING:
    from common.encoder import Encoder
    from senteval.transfer_tasks import TransferTask

logger = logging.getLogger(__name__)

# Classifier -> suite, protocol: results of the two never share a folder or a table.
PROTOCOLS = {"senteval": (suites.TRANSFER, "senteval"), "sklearn": (suites.TRANSFER_PROBE, "sklearn-probe")}

# Method -> published rows to print beside ours: (table, row) of whole rows, or {task: (table, row)} of single figures.
# All of them are other models than most users run: a scale to read ours by, not a target.
_LLM: tuple[Any, ...] = (("transfer-zero-shot", "llama-2-7b-prompteol"),)
COMPARABLE: dict[str, tuple[Any, ...]] = {
    "sentence-transformer": (("baselines-transfer", "sbert-base"), ("baselines-transfer", "sup-simcse-bert-base")),
    "angle": (
        {task: ("angle-secondary", f"angle-llama-7b-{task.lower()}") for task in ("MR", "CR")}
        | {"Avg": ("angle-secondary", "angle-transfer-average")},
        *_LLM,
    ),
    "bellm": ({"Avg": ("bellm-secondary", "bellm-transfer")}, *_LLM),
}


@dataclass(kw_only=True)
class TransferConfig(EncodeFlags, ModelChoice):
    """Evaluate an encoder on SentEval's transfer tasks."""

    tasks: list[str] = flag((), "some of MR CR SUBJ MPQA SST2 TREC MRPC; default: all", "data")
    data_dir: Path | None = flag(None, "folder with the data; default: EMBED_DATA", "data")
    limit: int | None = flag(None, "a seeded sample of so many texts of every part (at least 100)", "data")
    text_edits: Literal["one-word-prompt", "end-marks"] | None = flag(
        None, "edits of the released one-word-prompt evaluations, before the template", "data"
    )
    instruction: str | None = flag(None, "what texts are embedded for, where the method's template takes one", "data")
    seed: int = flag(0, "of --limit; the classifier has SentEval's own", "data")
    classifier: Literal["senteval", "sklearn"] = flag(
        "senteval", "senteval: the papers' protocol; sklearn: a quick probe, comparable with no paper", "data"
    )

    output: Path | None = flag(None, "result folder; default: results/transfer/METHOD--MODEL", "output")
    fresh: bool = flag(False, "run all tasks again, whatever the folder holds", "output")
    dry_run: bool = field(
        default=False, metadata={"help": "print the resolved settings and stop", "group": "output", "recipe": False}
    )

    def __post_init__(self) -> None:
        ModelChoice.__post_init__(self)
        EncodeFlags.__post_init__(self)
        check_counts(self, "limit")


def load_tasks(config: TransferConfig) -> dict[str, TransferTask]:
    """The data, by task; before any model is loaded.

    Raises:
        InputError: an unknown task, or data that is missing or malformed.
    """
    from senteval import SentEvalError
    from senteval.transfer_load import load_transfer
    from senteval.transfer_tasks import TRANSFER_TASKS, transfer_name

    try:
        wanted = {transfer_name(name) for name in config.tasks or TRANSFER_TASKS}
        return {
            name: load_transfer(name, config.data_dir, limit=config.limit, seed=config.seed)
            for name in TRANSFER_TASKS
            if name in wanted
        }
    except SentEvalError as error:
        raise InputError(str(error)) from error


def evaluate(
    config: TransferConfig, *, encoder: Encoder | None = None, tasks: dict[str, TransferTask] | None = None
) -> dict[str, results.Result]:
    """Run what is not there yet; returns all results, by task.

    Args:
        config: the run.
        encoder: what to evaluate, where the caller has loaded it; else as `config.load` does.
        tasks: the data, where the caller has loaded it.

    Raises:
        InputError: wrong use, missing data, or an output folder with results of another run.
    """
    tasks = tasks or load_tasks(config)
    encoder = encoder or config.load()
    folder = config.output or default_output(PROTOCOLS[config.classifier][0], encoder.info)
    for name, task in tasks.items():
        if not config.fresh and _is_done(folder, task, encoder, config):
            logger.info("%s: done before", name)
        else:
            _run_one(config, task, encoder, folder)
    found = results.read_folder(folder)
    return {name: found[name] for name in tasks}


def _is_done(folder: Path, task: TransferTask, encoder: Encoder, config: TransferConfig) -> bool:
    """Whether the folder holds this very result; a result of other settings there is an error."""
    file = folder / f"{task.name}.json"
    if not file.is_file():
        return False
    found = results.read_folder(folder)[task.name]
    now = {"model": encoder.info.fingerprint, "data": task.fingerprint, "text_edits": config.text_edits}
    now |= {"instruction": config.instruction, "classifier": PROTOCOLS[config.classifier][1]}
    then = {"model": found.encoder.get("fingerprint"), "data": found.data_hash, "classifier": found.protocol}
    then |= {key: found.data.get(key) for key in ("text_edits", "instruction")}
    if now != then:
        other = ", ".join(key for key in now if now[key] != then[key])
        raise InputError(f"{file}: is a result of other settings ({other}); give another --output, or --fresh")
    return True


def _run_one(config: TransferConfig, task: TransferTask, encoder: Encoder, folder: Path) -> None:
    """Evaluate one task and write its result."""
    from senteval import SentEvalError
    from senteval.transfer import evaluate_transfer

    edit = suites.EDITS[config.text_edits] if config.text_edits else None
    suite, protocol = PROTOCOLS[config.classifier]
    used = encoder.usage.tokens

    def encode(texts: list[str]) -> np.ndarray:
        return encoder.encode(
            [edit(text) for text in texts] if edit else texts,
            instruction=config.instruction,
            **config.encode_options(),
        )

    try:
        scores, prediction = evaluate_transfer(encode, task, probe=config.classifier, device=str(encoder.device))
    except SentEvalError as error:
        raise InputError(str(error)) from error
    info, seconds = encoder.info.to_dict(), scores["encoding_seconds"]
    sampled = len(task) < task.total
    record = result_record(
        info,
        task=task.name,
        suite=suite,
        protocol=protocol,
        metric="accuracy",
        score=scores["accuracy"],
        scores=scores,
        n=len(task),
        limit=config.limit if sampled or not task.complete else None,
        index=task.index if sampled else None,
        compat=info["compat"],
        data={
            "source": task.source,
            "sha256": task.fingerprint,
            "text_edits": config.text_edits,
            "instruction": config.instruction,
            "complete": task.complete,
            "parts": {name: len(part) for name, part in task.parts.items()},
        },
        seed=config.seed,
        texts=scores["texts"],
        tokens=encoder.usage.tokens - used,
        seconds=seconds,  # of encoding; the classifier's are in scores
    )
    results.write_result(folder, record, {"prediction": prediction, "gold": task.scored.label})
    logger.info(
        "%s: %.2f (%d texts encoded in %.1f s, classifier %.1f s)",
        task.name, scores["accuracy"], scores["texts"], seconds, scores["classifier_seconds"],
    )  # fmt: skip


def published_rows(method: str) -> list[tuple[str, str, dict[str, float]]]:
    """(what, status, task or "Avg" -> figure) of published rows of comparable models."""
    from benchmarks import published

    def row_of(table: str, name: str) -> Any:
        return next(row for row in published.load(table).rows if row.id == name)

    found = []
    for entry in COMPARABLE.get(method, _LLM):
        if isinstance(entry, dict):
            rows = {task: row_of(*place) for task, place in entry.items()}
            first = next(iter(rows.values()))
            what = first.labels["item"].removesuffix(f" {next(iter(rows))}")
            scores = {task: row.values["value"] for task, row in rows.items()}
        else:
            first = row_of(*entry)
            what = f"{first.labels['method']}, {first.labels['backbone']}" if "backbone" in first.labels else None
            what = what or f"{first.labels['method']}, {entry[1].split('-' + first.labels['method'].lower())[0]}"
            scores = {**first.values, "Avg": first.average}
        found.append((what, first.kind, {task: score for task, score in scores.items() if score is not None}))
    return found


def summary(found: dict[str, results.Result]) -> str:
    """Our scores and times, and published figures of comparable models beside them."""
    from prettytable import PrettyTable

    from senteval.transfer_tasks import TRANSFER_TASKS

    first = next(iter(found.values()))
    table = PrettyTable(["", *found, "Avg"])
    table.align = "r"
    table.align[""] = "l"
    scores = [result.score for result in found.values()]
    whole = len(found) == len(TRANSFER_TASKS)
    average = f"{np.mean(scores):.2f}" if len(found) > 1 else ""
    table.add_row(["ours", *(f"{score:.2f}" for score in scores), average], divider=True)
    is_papers = first.protocol == "senteval" and all(result.data["complete"] for result in found.values())
    for what, status, figures in published_rows(first.method) if is_papers else ():
        cells = [f"{figures[name]:.2f}" if name in figures else "-" for name in found]
        known = f"{figures['Avg']:.2f}" if whole and "Avg" in figures else ""
        table.add_row([f"published: {what} ({status})", *cells, known])
    seconds = {
        key: [result.scores[f"{key}_seconds"] for result in found.values()] for key in ("encoding", "classifier")
    }
    for key, values in seconds.items():
        table.add_row([f"{key} seconds", *(f"{value:.1f}" for value in values), f"{sum(values):.1f} in all"])
    if "MRPC" in found:
        f1 = found["MRPC"].scores["f1"]
        table.add_row(["F1", *(f"{f1:.2f}" if name == "MRPC" else "" for name in found), ""])
    lines = [f"{first.system}: SentEval transfer, accuracy x 100, {_protocol_words(found)}", str(table)]
    if is_papers:
        lines.append("published rows are of other models, to read ours by; `python -m benchmarks table` judges rows")
    return "\n".join(lines)


def _protocol_words(found: dict[str, results.Result]) -> str:
    """What the scores were made with, and whether they compare with papers."""
    first = next(iter(found.values()))
    words = (
        "SentEval's protocol" if first.protocol == "senteval" else "quick scikit-learn probe, NOT SentEval's protocol"
    )
    short: Sequence[str] = [name for name, result in found.items() if not result.data["complete"]]
    if short:
        words += f"; NOT the whole data of {', '.join(short)}, comparable with no paper"
    return words


def run(config: TransferConfig) -> int:
    """Evaluate and print the scores."""
    if config.dry_run:
        print(cli.describe(config), end="")
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    found = evaluate(config)
    print(summary(found))
    print(f"results: {next(iter(found.values())).path.parent}")
    return 0


def main(argv: list[str] | None = None) -> None:
    """SentEval's transfer tasks with any method; a result file per task, resumable."""
    cli.run(run, TransferConfig, argv=argv, prog="python -m benchmarks transfer", description=TransferConfig.__doc__)
