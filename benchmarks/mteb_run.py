"""Runs planned mteb tasks through `mteb.evaluate`: mteb's own results and cache, and a result file of ours per task."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import results
from benchmarks.mteb_adapter import MtebEncoder
from benchmarks.mteb_tasks import Planned
from benchmarks.result_record import result_record
from common.errors import InputError
from common.reading import read_json

if TYPE_CHECKING:
    from mteb import AbsTask

logger = logging.getLogger(__name__)

SUITE = PROTOCOL = "mteb"
MTEB_FOLDER = "mteb"  # mteb's own results, beneath ours
LOADER_ROWS = 1024  # per batch of mteb's loader; what is run together is planned by our Encoder


def run_tasks(
    planned: Sequence[Planned], adapter: MtebEncoder, folder: Path, *, fresh: bool = False
) -> dict[str, results.Result]:
    """Run what is not there yet; returns the results by task, in their order.

    Args:
        planned: the tasks and where their data is.
        adapter: the encoder with its prompts.
        folder: for TASK.json; mteb's own results lie in `mteb/` beneath it.
        fresh: run all again.

    Raises:
        InputError: the folder has a result of another model, data or prompt; or data is malformed.
    """
    for one in planned:
        if not fresh and is_done(folder, one, adapter):
            logger.info("%s: done before", one.name)
        else:
            _run_one(one, adapter, folder, fresh=fresh)
    found = results.read_folder(folder)
    return {one.name: found[one.name] for one in planned}


def is_done(folder: Path, planned: Planned, adapter: MtebEncoder) -> bool:
    """Whether the folder holds this very result.

    Raises:
        InputError: it holds one of the task with other settings.
    """
    file = folder / f"{planned.name}.json"
    if not file.is_file():
        return False
    found = results.read_folder(folder)[planned.name]
    now = {"fingerprint": adapter.encoder.info.fingerprint, "sha256": planned.data["sha256"]}
    then = {"fingerprint": found.encoder.get("fingerprint"), "sha256": found.data_hash}
    now |= _prompt_facts(planned.task, adapter)
    then |= {key: found.data.get(key) for key in now if key not in then}
    if now != then:
        other = ", ".join(key for key in now if now[key] != then[key])
        raise InputError(f"{file}: is a result of other settings ({other}); give another --output, or --fresh")
    return True


def _prompt_facts(task: AbsTask, adapter: MtebEncoder) -> dict[str, Any]:
    """What of the prompt decides the score."""
    from hashlib import sha256

    prompt = adapter.prompts.of(task.metadata)
    return {
        "instruction": prompt.instruction,
        "document_instruction": prompt.document,
        "both_sides": prompt.both_sides,
        "normalized": prompt.normalized and adapter.encoder.normalize,
        "examples_sha256": sha256(prompt.examples.encode()).hexdigest() if prompt.examples else None,
    }


def _run_one(planned: Planned, adapter: MtebEncoder, folder: Path, *, fresh: bool) -> None:
    import mteb

    usage = adapter.encoder.usage
    tokens, texts = usage.tokens, usage.texts
    adapter.reset()
    # The parts of an aggregate that mteb has already done are not run again. A single task whose file of ours is
    # missing is: its result then always has the first query, tokens and seconds.
    again = fresh or len(planned.parts) == 1
    is_sts = planned.task.metadata.type == "STS"
    with planned.loaded() as task, tempfile.TemporaryDirectory() as predictions:
        done = mteb.evaluate(
            adapter,
            task,
            co2_tracker=False,
            encode_kwargs={"batch_size": LOADER_ROWS},
            cache=mteb.ResultCache(folder / MTEB_FOLDER),
            overwrite_strategy="always" if again else "only-missing",
            prediction_folder=predictions if is_sts else None,
            show_progress_bar=False,
        ).task_results[0]
        arrays = _pairs(task, Path(predictions)) if is_sts else None
        count = len(arrays["gold"]) if arrays else _size(task) or usage.texts - texts
        data = planned.data
        if planned.place == "local" and data["complete"] and (told := other_size(task)):
            logger.warning("%s: local data: %s; no published score compares with this", planned.name, told)
            data |= {"complete": False, "differs": "; ".join(filter(None, (data["differs"], told)))}
    score = 100 * float(done.get_score())
    tokens, seconds = usage.tokens - tokens, adapter.seconds or float(done.evaluation_time or 0.0)
    info = adapter.encoder.info.to_dict()
    prompt = adapter.prompts.of(planned.task.metadata)
    record = result_record(
        info,
        task=planned.name,
        suite=SUITE,
        protocol=PROTOCOL,
        metric=str(planned.task.metadata.main_score),
        score=score,
        scores={"main": score, "per_split": _main_scores(done)},
        n=count,
        compat=info["compat"],
        data={
            **data,
            "task_type": str(planned.task.metadata.type),
            **_prompt_facts(planned.task, adapter),
            "instruction_source": prompt.source,
            "first": next(iter(adapter.first.values()), {}),  # the parts of a task are read alike
            "mteb_version": done.mteb_version,
            "mteb_seconds": done.evaluation_time,
        },
        seed=int(planned.task.seed),
        texts=usage.texts - texts,
        tokens=tokens,
        seconds=seconds,
    )
    results.write_result(folder, record, arrays)
    logger.info("%s: %.2f (%d, %.1f s)", planned.name, score, count, seconds)


def _main_scores(done: Any) -> dict[str, dict[str, float]]:
    """split -> subset -> main score x 100; the whole is in mteb's own file."""
    return {
        str(split): {str(entry["hf_subset"]): 100 * float(entry["main_score"]) for entry in entries}
        for split, entries in done.scores.items()
    }


def _splits(task: AbsTask) -> list[Any]:
    """The data of every evaluated subset and split."""
    data: Any = task.dataset or {}
    whole = [data] if not any(sub in data for sub in task.hf_subsets) else [data[sub] for sub in task.hf_subsets]
    return [of[split] for of in whole for split in task.eval_splits if split in of]


def _pairs(task: AbsTask, folder: Path) -> dict[str, np.ndarray] | None:
    """Cosines and gold scores of an STS task, each (n,); None where it has more than one split or subset."""
    splits = _splits(task)
    if len(splits) != 1:
        return None
    stored = read_json(folder / task.prediction_file_name)
    of = next(value for key, value in stored.items() if key != "mteb_model_meta")
    (scores,) = of.values()
    return {"prediction": np.array(scores["cosine_scores"]), "gold": np.array(splits[0]["score"], dtype=float)}


def other_size(task: AbsTask) -> str | None:
    """How many items local data have where mteb counts others in its own; None where they are as many."""
    stats: Any = task.metadata.descriptive_stats or {}
    whole: Any = task.dataset or {}
    for subset in task.hf_subsets:
        for split in task.eval_splits:
            counts = stats.get(split, {})
            counts = counts.get("hf_subset_descriptive_stats", {}).get(subset, counts)
            ours = whole.get(subset, whole)[split]
            if isinstance(ours, dict):
                pairs = [(len(ours[part]), counts.get(f"num_{name}"), name) for part, name in
                         (("corpus", "documents"), ("queries", "queries"))]  # fmt: skip
            else:
                pairs = [(_count(ours), counts.get("num_samples"), "items")]
            for found, official, what in pairs:
                if official is not None and found != official:
                    return f"{found:,} of mteb's {official:,} {what}"
    return None


def _size(task: AbsTask) -> int:
    """What is scored: queries, pairs, or texts; 0 where it is not known (tasks of several parts)."""
    return sum(_count(split) for split in _splits(task))


def _count(split: Any) -> int:
    if isinstance(split, dict):
        return len(split["queries"])
    if len(split) and "sentences" in split.column_names and isinstance(split["sentences"][0], list):
        return sum(map(len, split["sentences"]))
    if len(split) == 1 and "labels" in split.column_names and isinstance(split["labels"][0], list):
        return len(split["labels"][0])  # pairs in one row, mteb 1's form
    return len(split)
