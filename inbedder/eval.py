"""Evaluate an InBedder model, or a baseline, on the paper's tasks and ours; --robustness asks wrong questions, too."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmarks import results
from benchmarks.result_record import default_output, result_record
from common import cli
from common.errors import InputError
from common.flags import flag
from common.io import sha256_of, write_text
from common.model_flags import ModelFlags
from inbedder import model_flags
from inbedder.evaluation.baselines import E5_BARE, baseline_template
from inbedder.evaluation.clustering import MINIBATCH, N_INIT
from inbedder.evaluation.groups import Item, KMeansSettings, groups_of, score_group
from inbedder.evaluation.report import Report, robustness_report, scores_report
from inbedder.evaluation.task_data import MissingData, read_task
from inbedder.evaluation.tasks import find_tasks
from inbedder.model_flags import ModeFlags

if TYPE_CHECKING:
    from common.encoder import Encoder
    from inbedder.evaluation.asking import Asker

logger = logging.getLogger(__name__)

SUITE = "inbedder"
BARE = "{text}"
TABLES = "tables"  # below the result folder, whose own JSON files are results
WHY = "missing: why"


_flag = partial(flag, group="evaluation")


@dataclass(kw_only=True)
class EvalConfig(ModeFlags):
    """A model, how its vectors are read, and what it is tested on."""

    method: str = _flag("inbedder", "inbedder, or a baseline: any method of `python -m benchmarks list`")
    instruction_form: Literal["own", "plain", "string", "prefix"] | None = _flag(
        None,
        "own: by the model's prompt; plain: no instruction, of InBedder the text alone (or --prompt); string: "
        "`{instruction}: {text}`, pooled as a whole; prefix: the same, only the text is pooled; default: own where the "
        "prompt takes one, else string",
    )
    disable_instruction: bool = _flag(False, "the text alone, without prompt; as --instruction_form plain")
    reencoder: str | None = _flag(None, "of mode re_encode: a sentence-transformers model")
    model_type: Literal["causal", "masked", "sentence-transformers", "instructor"] | None = _flag(
        None, "of released configurations; the last two are baselines"
    )

    tasks: list[str] = _flag(("released",), "tasks or groups of inbedder/evaluation/tasks.py; endings may be left off")
    robustness: bool = _flag(False, "ask the right, implicit and wrong instructions of clustering tasks, too")
    per_kind: int | None = _flag(None, "of --robustness, the first so many instructions of each kind; default: all")
    seeds: list[int] = _flag((0, 1, 2, 3, 4), "of k-means; scores are means over them")
    n_init: int = _flag(N_INIT, "starts of k-means per seed, of which the best counts")
    data_dir: Path | None = _flag(None, "folder with the data; default: EMBED_DATA, else the hub")
    limit: int | None = _flag(None, "a seeded sample of so many texts (triplets, pairs, queries) per set")
    seed: int = _flag(0, "of --limit, and of answers that are sampled")
    batch_size: int | None = _flag(None, "texts per batch, at most; default: by tokens")
    max_batch_tokens: int | None = _flag(None, "padded tokens per batch; default: by device")
    output: Path | None = _flag(None, "result folder; default: results/inbedder/METHOD--MODEL")
    fresh: bool = _flag(False, "run all tasks again, whatever the folder holds")
    dry_run: bool = _flag(False, "print the resolved recipe and stop", recipe=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model_type in ("sentence-transformers", "instructor"):
            self.method = "sentence-transformer"
        if self.disable_instruction:
            self.instruction_form, self.prompt = "plain", None
        if self.instruction_form == "plain" and self.method == self.METHOD and self.prompt is None:
            self.prompt = BARE
        for name in ("limit", "batch_size", "max_batch_tokens", "n_init", "per_kind"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name} {value}: must be at least 1")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"--seeds {' '.join(map(str, self.seeds))}: give one or more, each once")
        if self.method != self.METHOD and (self.mode or self.layer != -1):
            raise InputError(f"--mode and --layer are of InBedder; the method is {self.method}")
        if self.mode == "re_encode" and self.reencoder is None:
            raise InputError("--mode re_encode: give --reencoder, a sentence-transformers model")
        if self.data_dir is not None and not self.data_dir.is_dir():
            raise InputError(f"--data_dir {self.data_dir}: no such folder")
        find_tasks(self.tasks)

    @property
    def clusters(self) -> KMeansSettings:
        """How clusters are made."""
        return KMeansSettings(tuple(self.seeds), self.n_init, MINIBATCH in self.compat, self.robustness)

    def resolve(self) -> None:
        """As of the model; a baseline's is what its own loader makes of its name."""
        if self.method == self.METHOD:
            super().resolve()
        else:
            from common.registry import check_compat, get

            get(self.method)
            self.compat = sorted(check_compat(self.compat))

    def load(self) -> Encoder:
        """The encoder."""
        if self.method == self.METHOD:
            return super().load()
        from common.registry import load

        return load(
            self.method,
            self.model_name_or_path,
            adapter=list(self.lora_name_or_path) or None,
            device=self.device,
            dtype=self.dtype,
            quantize={4: "4bit", 8: "8bit"}.get(self.load_kbit or 0),
            **self.options(),
        )

    def options(self) -> dict[str, Any]:
        """InBedder's options, or a baseline's."""
        if self.method == self.METHOD:
            return super().options()
        given = ModelFlags.options(self)
        return given | baseline_template(self.model_name_or_path, self.prompt, E5_BARE in self.compat)

    def asker(self, encoder: Encoder) -> Asker:
        """The encoder, and how it is asked.

        Raises:
            InputError: a mode or layer that this model does not have.
        """
        from inbedder.evaluation.asking import make_asker
        from inbedder.mode_encoder import ModeEncoder

        options = {"batch_size": self.batch_size, "max_batch_tokens": self.max_batch_tokens}
        modes = None
        if self.mode or self.layer != -1:
            modes = ModeEncoder(encoder, decoding=self.decoding(), reencoder=self.reencoder)
            modes.find_mode(self.mode, self.layer)
        return make_asker(encoder, self.instruction_form, modes, self.mode, self.layer, options)


def evaluate(config: EvalConfig) -> int:
    """Read the data, then the model; run what is not there yet; print and write the tables."""
    config.resolve()
    if config.dry_run:
        print(cli.describe(config), end="")
        return 0
    items, missing = read_all(config)
    if not items:
        raise InputError("none of the tasks has data: " + "; ".join(f"{n}: {why}" for n, why in missing.items()))

    asker = config.asker(config.load())
    system = describe_system(asker, config)
    folder = config.output or default_output(SUITE, asker.encoder.info)
    waiting = {n: item for n, item in items.items() if config.fresh or not is_done(folder, n, item, system, config)}
    for names in groups_of(waiting):
        run_group(folder, asker, system, {name: waiting[name] for name in names}, config)
    done = results.read_folder(folder)
    found = {name: done[name] for name in items}
    reports = [scores_report(found, missing)]
    if config.robustness:
        reports.append(robustness_report(found, missing))
    for report in reports:
        show(report, folder / TABLES)
    print(f"results: {folder}")
    return 0


def show(report: Report, folder: Path) -> None:
    """Print a table, and write it as Markdown, CSV and JSON."""
    from benchmarks.render import Table, render, render_records

    names = [name for name in report.shown[0] if name != "missing"]
    headers = list(names)
    if any(row["missing"] for row in report.shown):
        names, headers = [*names, "missing"], [*headers, WHY]
    rows = [[row[name] for name in names] for row in report.shown]
    left = ("task", "metric", "protocol", WHY)
    table = Table(report.title, headers, rows, report.notes, left, {"seconds": 1}, widths={WHY: 60})
    print(render(table, "text") + "\n")
    write_text(folder / f"{report.name}.md", render(table, "markdown") + "\n")
    for style in ("csv", "json"):
        facts = {"notes": list(report.notes)}
        text = render_records(report.title, facts, report.records, style)
        write_text(folder / f"{report.name}.{style}", text + "\n")


def read_all(config: EvalConfig) -> tuple[dict[str, Item], dict[str, str]]:
    """The data of all tasks, and of those without data why."""
    items: dict[str, Item] = {}
    missing: dict[str, str] = {}
    for task in (t.first_of_each_kind(config.per_kind) for t in find_tasks(config.tasks)):
        try:
            items[task.name] = task, read_task(task, config.data_dir, limit=config.limit, seed=config.seed)
        except MissingData as error:
            missing[task.name] = str(error)
    return items, missing


def describe_system(asker: Asker, config: EvalConfig) -> dict[str, Any]:
    """What decides the vectors: the encoder, its weights, and how it is read; with a fingerprint over all."""
    from inbedder.cache import weights_hash

    info = asker.encoder.info.to_dict()
    reading: dict[str, Any] = {"mode": asker.mode, "layer": None, "form": asker.form}
    if asker.modes is not None:
        reading |= {"layer": asker.layer, "decoding": vars(asker.modes.decoding), "reencoder": config.reencoder}
    system = {**info, "reading": reading, "weights": weights_hash(asker.encoder.embedder)[:16]}
    return {**system, "fingerprint": sha256_of({k: v for k, v in system.items() if k != "model"})[:16]}


def is_done(folder: Path, name: str, item: Item, system: dict[str, Any], config: EvalConfig) -> bool:
    """Whether the folder holds this very result.

    Raises:
        InputError: it holds one of another model, data or setting.
    """
    if not (folder / f"{name}.json").is_file():
        return False
    found = results.read_folder(folder)[name]
    if found.encoder.get("fingerprint") != system["fingerprint"] or found.data.get("sha256") != item[1].fingerprint:
        raise InputError(
            f"{folder / name}.json: is a result of another model or of other data; give another --output, or --fresh"
        )
    asked = set(item[0].instructions(config.robustness))
    known = set(found.scores.get("per_instruction", asked))
    enough = asked == known if config.robustness else asked <= known
    return enough and found.data.get("clusters") == config.clusters.to_dict()


def run_group(folder: Path, asker: Asker, system: dict[str, Any], items: dict[str, Item], config: EvalConfig) -> None:
    """Score tasks that share their texts and write a result for each; time and tokens are parted evenly."""
    usage = asker.encoder.usage
    tokens, texts, started = usage.tokens, usage.texts, time.perf_counter()
    found = score_group(asker, items, config.clusters)
    seconds = (time.perf_counter() - started) / len(items)
    tokens, texts = (usage.tokens - tokens) // len(items), (usage.texts - texts) // len(items)
    for name, scores in found.items():
        task, data = items[name]
        record = result_record(
            system,
            task=name,
            suite=SUITE,
            protocol=data.protocol,
            metric=task.metric,
            score=scores["score"],
            scores=scores,
            n=data.size,
            limit=config.limit if data.size < data.total else None,
            compat=config.compat,
            data={
                "source": data.source,
                "sha256": data.fingerprint,
                "clusters": config.clusters.to_dict(),
                "instructions": len(task.instructions(config.robustness)),
                "texts_shared_with": [other for other in items if other != name],
            },
            seed=config.seed,
            texts=texts,
            tokens=tokens,
            seconds=seconds,
        )
        results.write_result(folder, record)
        logger.info("%s: %.2f (%d, %.1f s)", name, scores["score"], data.size, seconds)


# What the command line understands besides the fields.
ALIASES = {
    **model_flags.ALIASES,
    "output_value": "mode",
    "pattern": "prompt",
    "max_input_length": "max_length",
    "overwrite_results": "fresh",
}
DROPPED = {
    **model_flags.DROPPED,
    "model_id": "results are named by the model",
    "tokenizer_path": "the model's own tokenizer is used",
    "use_flash_attention_2": "the fastest attention of the device is used",
    "truncate_to_length": "texts are shortened by tokens (max_length), not by words",
    "last_layer_only": "no other layer is kept",
    "cache_outputs": "no vectors are kept; results are resumed by task",
    "reencode_times": "one answer is re-encoded",
}
REFUSED = {"filter_words": "no words are filtered here; the library's ModeEncoder.encode has filter_words="}
OPTIONS: dict[str, Any] = {"aliases": ALIASES, "dropped": DROPPED, "refused": REFUSED}

if __name__ == "__main__":
    cli.run(evaluate, EvalConfig, description=__doc__, **OPTIONS)
