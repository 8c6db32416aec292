"""`python -m benchmarks layers`: the score of every layer, and of bidirectional attention from every layer on.

BeLLM's degradation experiment (arXiv 2311.05296) for any model: where along the layers does the quality of the
pooled states turn? All layers come from one forward pass per batch (`common.layer_states`); the last layer's
score is that of `python -m benchmarks run`. With `--final_norm` layer n is scored as the model cut after its
first n layers (the paper's `n_layers`). With `--bidirectional_from` the model is also scored, without training,
with layers k, k + 1, ... bidirectional, for every k asked for; k = number of layers is the causal model.

The folder holds `layers.json` (everything, full precision), which is written after every task and resumed from,
and, made from it, `layers.csv`, `.md`, `.png`, `.svg`, and for the table over k `bidirectional_from.*`.
"""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import suites
from benchmarks.result_record import default_output, peak_memory_mb
from benchmarks.run import RunConfig, load_tasks
from common import cli
from common.errors import InputError
from common.io import command_line, environment, read_json, write_json
from senteval import PairTask, SentEvalError, pairwise_cosine, score_pairs

if TYPE_CHECKING:
    from common.encoder import Encoder
    from common.layer_states import LayerEncoder

logger = logging.getLogger(__name__)

SCHEMA = 1
FILE = "layers.json"


@dataclass(kw_only=True)
class LayersConfig(RunConfig):
    """Score every layer of an encoder, and its attention made bidirectional from layer k on."""

    bidirectional_from: list[str] = field(
        default_factory=list,
        metadata={"help": "layers k to score too, bidirectional from k on; or: all", "group": "layers"},
    )
    final_norm: bool = field(
        default=False,
        metadata={"help": "the final norm on every layer: layer n is the model cut after n layers", "group": "layers"},
    )
    output: Path | None = field(
        default=None,
        metadata={"help": "result folder; default: results/layers/SUITE/METHOD--MODEL", "group": "output"},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        words = [str(word).strip() for word in self.bidirectional_from]
        for word in words:
            if not word.isdecimal() and words != ["all"]:
                raise InputError(f"--bidirectional_from {word}: give all, or layers as numbers from 0 on")
        self.bidirectional_from = words

    def first_layers(self, count: int) -> list[int]:
        """The k to score, ascending, for a model of `count` layers.

        Raises:
            InputError: a k above `count`.
        """
        if self.bidirectional_from == ["all"]:
            return list(range(count + 1))
        wanted = sorted({int(word) for word in self.bidirectional_from})
        if wanted and wanted[-1] > count:
            raise InputError(f"--bidirectional_from {wanted[-1]}: the model takes 0 to {count} ({count}: causal)")
        return wanted


def evaluate(
    config: LayersConfig, *, encoder: Encoder | None = None, tasks: dict[str, PairTask] | None = None
) -> tuple[dict[str, Any], Path]:
    """Score what is not there yet; returns the content of `layers.json`, and its folder.

    The first of its `runs` is the model's own attention; every k of `--bidirectional_from` is a further one.

    Args:
        config: the run.
        encoder: what to score, where the caller has loaded it. Its attention is as before afterwards.
        tasks: the data, where the caller has loaded it.

    Raises:
        InputError: wrong use, missing data, an encoder such as BERT with `--bidirectional_from`, or a folder
            with results of something else.
    """
    from common.layer_states import LayerEncoder

    tasks = tasks or load_tasks(config)
    encoder = encoder or config.load()
    layer_encoder = LayerEncoder(encoder, final_norm=config.final_norm)
    folder = config.output or _default_folder(config, encoder)
    document = _opened(folder, _facts(config, encoder, layer_encoder), config.fresh)
    _check_data(folder / FILE, document, tasks)
    firsts = config.first_layers(layer_encoder.layers)
    session: int | None = None
    with _Attention(encoder) as attention:
        for k in firsts:
            attention.set(k)  # whatever can't be done is found out before anything is scored
        for first in (attention.own, *(k for k in firsts if k != attention.own)):
            attention.set(first)
            run = _run_of(document, encoder, first)
            missing = [name for name in tasks if name not in run["tasks"]]
            if missing and session is None:
                document.pop("summary", None)
                document["sessions"].append(_session())
                session = len(document["sessions"]) - 1
            if missing:
                attention.check()
            for name in missing:
                record = score_layers(layer_encoder, tasks[name], config)
                run["tasks"][name] = record | {"session": session}
                document["tasks"].setdefault(name, _task_facts(tasks[name]))
                write_json(folder / FILE, document)
                _log(run, name, record, len(tasks[name]))
    return document, folder


def score_layers(layer_encoder: LayerEncoder, task: PairTask, config: LayersConfig) -> dict[str, Any]:
    """Scores of one task by layer, as lists of L + 1 numbers from the token embeddings to the last layer.

    Keys: `spearman` and `pearson` (x 100), `constant` (the layers that give all pairs one similarity, which
    score 0), tokens, seconds, memory, time.
    """
    encoder = layer_encoder.encoder
    edit = suites.EDITS[config.text_edits] if config.text_edits else str
    gold = np.random.default_rng(config.seed).permutation(task.gold) if config.shuffle_gold else task.gold
    used, started, n = encoder.usage.tokens, time.perf_counter(), len(task)
    by_layer = []
    with layer_encoder.encode([edit(text) for text in task.text1 + task.text2], **config.encode_options()) as vectors:
        for layer in range(layer_encoder.layers + 1):
            states = vectors.layer(layer)
            try:
                by_layer.append(score_pairs(pairwise_cosine(states[:n], states[n:]), gold, task.subset))
            except SentEvalError as error:
                raise InputError(f"{task.name}, layer {layer}: {error}; try --dtype float32") from error
    seconds, tokens = time.perf_counter() - started, encoder.usage.tokens - used
    return {
        "spearman": [scores["spearman"] for scores in by_layer],
        "pearson": [scores["pearson"] for scores in by_layer],
        "constant": [layer for layer, scores in enumerate(by_layer) if "all" in scores["constant"]],
        "tokens": tokens,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "peak_memory_mb": peak_memory_mb(),
        "created": _now(),
    }


class _Attention:
    """Sets the attention of an encoder's model by its first bidirectional layer; as it was after the block.

    Attributes:
        own: the model's own first bidirectional layer, 0 (all) to L (causal); None where it can't be changed.
    """

    def __init__(self, encoder: Encoder) -> None:
        from common.attention import get_attention
        from common.attention_parts import drops_window, find_parts, first_layer

        self._encoder, self._parts = encoder, find_parts(encoder.backbone.model)
        changeable = not self._parts.encoder and not self._parts.problem
        self.own = first_layer(get_attention(encoder.backbone.model), self._parts) if changeable else None
        self._now = self.own
        self._options: dict[str, Any] = {"sliding_window": "drop" if drops_window(self._parts.config) else "keep"}
        if "bellm:unmask-padding" in encoder.compat:
            self._options["attend_padding"] = True

    def set(self, first: int | None) -> None:
        """Bidirectional from this layer on. Nothing happens where that is so already."""
        from common.attention import set_attention

        if first is None or first == self._now:
            return
        if self._parts.encoder:
            name = self._encoder.backbone.source.name
            raise InputError(f"--bidirectional_from: {name} is an encoder: all of its layers are bidirectional")
        set_attention(self._encoder.backbone.model, {"bidirectional_from": first}, **self._options)
        self._now = first

    def check(self) -> None:
        """Raise unless the model attends as it is set, where that is not how it was loaded."""
        from common.attention import check_attention

        if self._now != self.own and "attend_padding" not in self._options:
            check_attention(self._encoder.backbone.model)

    def __enter__(self) -> _Attention:
        return self

    def __exit__(self, *_: object) -> None:
        self.set(self.own)


# ------------------------------------------------------------------------------------------- layers.json


def _facts(config: LayersConfig, encoder: Encoder, layer_encoder: LayerEncoder) -> dict[str, Any]:
    """What decides the numbers; a folder holds one such set of facts."""
    info = {key: list(v) if isinstance(v, tuple) else v for key, v in encoder.info.to_dict().items()}  # as JSON
    suite = suites.get_suite(config.suite)
    return {
        "schema": SCHEMA,
        "kind": "layers",
        "suite": suite.name,
        "protocol": suite.protocol,
        "metric": "spearman",
        "method": config.method,
        "model": info["model"],
        "layers": layer_encoder.layers,
        "dim": layer_encoder.encoder.dim,
        "final_norm": config.final_norm,
        "text_edits": config.text_edits,
        "shuffled_gold": config.shuffle_gold,
        "seed": config.seed,
        "encoder": info,
    }


def _opened(folder: Path, facts: Mapping[str, Any], fresh: bool) -> dict[str, Any]:
    """The document to go on with: that of the folder, or a new one.

    Raises:
        InputError: the folder holds results of another kind, model or setting.
    """
    others = [file.name for file in folder.glob("*.json") if file.name != FILE and not file.name.startswith(".")]
    if others:
        raise InputError(f"{folder}: holds other results ({others[0]}); give --output a folder of its own")
    path = folder / FILE
    empty: dict[str, Any] = {**facts, "tasks": {}, "runs": [], "sessions": []}
    if fresh or not path.is_file():
        return empty
    found = read_json(path)
    same = isinstance(found, dict) and empty.keys() <= found.keys()
    # The seed draws the pairs, which the hashes of the data hold, and the order of shuffled grades.
    same = same and all(found[k] == v for k, v in facts.items() if k != "seed" or facts["shuffled_gold"])
    if not same:
        raise InputError(f"{path}: is a result of another model or setting; give another --output, or --fresh")
    return found


def _check_data(path: Path, document: Mapping[str, Any], tasks: Mapping[str, PairTask]) -> None:
    for name, task in tasks.items():
        if name in document["tasks"] and document["tasks"][name]["sha256"] != task.fingerprint:
            raise InputError(f"{path}: holds {name} with other data; give another --output, or --fresh")


def _run_of(document: dict[str, Any], encoder: Encoder, first: int | None) -> dict[str, Any]:
    """The entry of `runs` with the model's present attention; made if missing."""
    info = encoder.info
    for run in document["runs"]:
        if run["attention"] == info.attention:
            return run
    run = {
        "attention": info.attention,
        "bidirectional_from": first,
        "fingerprint": info.fingerprint,
        "tasks": {},
    }
    document["runs"].append(run)
    return run


def _task_facts(task: PairTask) -> dict[str, Any]:
    limited = len(task) < task.total
    return {
        "n": len(task),
        "limit": len(task) if limited else None,
        "index": [int(i) for i in task.index] if limited else None,
        "texts": 2 * len(task),
        "source": task.source,
        "sha256": task.fingerprint,
        "complete": task.complete,
    }


def _session() -> dict[str, Any]:
    return {"environment": environment(), "command": command_line(), "created": _now()}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _default_folder(config: LayersConfig, encoder: Encoder) -> Path:
    run_folder = default_output(config.suite, encoder.info)
    name = run_folder.name + ("--final-norm" if config.final_norm else "")
    return run_folder.parent.parent / "layers" / config.suite / name


def _log(run: Mapping[str, Any], task: str, record: Mapping[str, Any], pairs: int) -> None:
    scores: Sequence[float] = record["spearman"]
    best = int(np.argmax(scores))
    logger.info(
        "%s, %s: %.2f at the last layer, best %.2f at layer %d (%d pairs, %.1f s)",
        *(run["attention"], task, scores[-1], scores[best], best, pairs, record["seconds"]),
    )


# ------------------------------------------------------------------------------------------ command line


def run(config: LayersConfig) -> int:
    """Score, write, print."""
    from benchmarks import layer_report
    from benchmarks.layer_curves import Report

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    document, folder = evaluate(config)
    tasks = suites.get_suite(config.suite, config.tasks).tasks
    count = document["layers"] if config.bidirectional_from else 0
    report = Report.of(document, tasks, config.first_layers(count) if count else [])
    print(layer_report.text(report))
    layer_report.write(report, folder)
    print(f"results: {folder}")
    return 0


def main(argv: list[str] | None = None) -> None:
    """The score of every layer from one pass; with --bidirectional_from, of attention from layer k on."""
    cli.run(run, LayersConfig, argv=argv, prog="python -m benchmarks layers", description=LayersConfig.__doc__)
