"""Quality and cost over the number of few-shot examples, on local retrieval sets.

    python -m bge_icl.study --model smollm2-135m --sets wikiqa --shots 0 1 --output results/fewshot

For every set, number of examples and seed: nDCG@10, MRR@10, MAP, recall, and the seconds per 1,000 queries, with the
common prefix run once (`common.prefix_cache`) and, with --plain_too, for every query again. Examples are drawn from a
set's training split (--examples auto; those of fewer shots are among those of more), or read from a folder of files.
The corpus is encoded once per model and set. Every model has a folder of its own under --output with `study.json`,
written after each cell and resumed from. The table (`table.txt`, `.md`, `.csv`, `.json`) and the plot (`study.png`,
`.svg`) are made of all models in --output: a second run with another --model adds to them, one without draws them anew.
"""

from __future__ import annotations

import datetime
import logging
import random
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.retrieval_sets import data_folder, load_set, training_texts
from bge_icl.example_files import read_examples
from bge_icl.local_tasks import TASK_NAMES, local_instruction
from bge_icl.make_examples import draw_examples, retrieval_source, token_cutter
from bge_icl.study_config import StudyConfig
from common import cli
from common.errors import InputError
from common.io import command_line, environment, read_json, sha256_of, write_json
from common.overlap import key

if TYPE_CHECKING:
    from benchmarks.retrieval_sets import RetrievalSet
    from bge_icl.examples import Example
    from bge_icl.study_cells import StudyModel

logger = logging.getLogger(__name__)

SCHEMA = 1
FILE = "study.json"


def study(config: StudyConfig) -> list[Path]:
    """Compute the cells that are not there yet; returns the files of the models of this run.

    Raises:
        InputError: wrong use, missing data, a model that can't be BGE-ICL's, or a folder with results of another
            setting.
    """
    sets = {name: _limited(config, name) for name in config.sets}
    if config.examples != "auto" and max(config.shots):
        for tested in sets.values():  # wrong files are found before any model is loaded
            _examples(config, tested, 0, tokenizer=None)
    overlaps = _overlaps(config, sets)
    return [_study_model(config, i, sets, overlaps) for i in range(len(config.model))]


def _limited(config: StudyConfig, name: str) -> RetrievalSet:
    whole = load_set(name, data_folder(config.data_dir))
    return whole.limited(config.limit_queries, config.limit_passages, seed=config.limit_seed)


def _overlaps(config: StudyConfig, sets: dict[str, RetrievalSet]) -> dict[str, dict[str, int]]:
    """What training data and test sets share, said and given as numbers; {} without --train."""
    if config.train is None:
        return {}
    found = training_texts(config.train)
    overlaps = {name: found.overlap(tested) for name, tested in sets.items()}
    for name, overlap in overlaps.items():
        logger.info("%s shares with the %d rows of %s: %s", name, found.rows, config.train, overlap)
    return {name: vars(overlap) for name, overlap in overlaps.items()}


def _study_model(
    config: StudyConfig, number: int, sets: dict[str, RetrievalSet], overlaps: dict[str, dict[str, int]]
) -> Path:
    from bge_icl.study_cells import StudyModel

    model = StudyModel.load(config, config.model[number])
    label = config.label[number] if config.label else model.name
    path = config.output / f"{_file_name(label)}--{model.weights[:6]}" / FILE
    document = _opened(path, _facts(config, model), config.fresh)
    document["label"] = label
    document["sessions"].append({"environment": environment(), "command": command_line(), "created": _now()})
    for name, tested in sets.items():
        facts = _set_facts(tested)
        known = document["sets"].setdefault(name, facts)
        if known["sha256"] != facts["sha256"]:
            raise InputError(f"{path}: holds {name} with other data or limits; give another --output, or --fresh")
        if name in overlaps:
            known["overlap"] = overlaps[name]
        there = {(c["shots"], c["seed"] if c["shots"] else None) for c in document["cells"] if c["set"] == name}
        for shots, seed in config.cells():
            if (shots, seed if shots else None) in there:
                continue
            examples = _examples(config, tested, seed, model.tokenizer)[:shots] if shots else []
            corpus = model.corpus(tested, path.parent / "vectors", known)
            cell = model.cell(tested, corpus, examples)
            document["cells"].append({"set": name, "shots": shots, "seed": seed, **cell, "created": _now()})
            write_json(path, document)
            _log(label, document["cells"][-1])
    write_json(path, document)
    return path


def _examples(config: StudyConfig, tested: RetrievalSet, seed: int, tokenizer: Any) -> list[Example]:
    """As many examples of a set as the most shots need; those of fewer shots are the first of them.

    Raises:
        InputError: too few, or one of a folder is a query of the test set.
    """
    most, task = max(config.shots), TASK_NAMES[tested.name]
    if config.examples == "auto":
        limits = (config.example_query_max_len, config.example_passage_max_len)
        source = retrieval_source(tested.name, data_folder(config.data_dir))
        return draw_examples(source, most, seed, token_cutter(tokenizer), limits)
    found = read_examples(config.examples, task)
    queries = {key(text) for text in tested.queries.values()}
    for number, example in enumerate(found, 1):
        if key(example.query) in queries:
            raise InputError(f"--examples {config.examples}: {task}, example {number} is a query of the test set")
    if len(found) < most:
        raise InputError(f"--examples {config.examples}: {task} has {len(found)} examples; --shots asks for {most}")
    return random.Random(seed).sample(found, len(found))[:most]


# ------------------------------------------------------------------------------------------ study.json


def _facts(config: StudyConfig, model: StudyModel) -> dict[str, Any]:
    """What decides the numbers of a file, but for the data."""
    from benchmarks.retrieval_metrics import METRICS

    return {
        "schema": SCHEMA,
        "kind": "fewshot",
        "metrics": list(METRICS),
        "weights": model.weights,
        "encoder": {k: list(v) if isinstance(v, tuple) else v for k, v in model.info.items()},
        "settings": {
            "examples": _examples_asked(config),
            "max_query_tokens": config.max_query_tokens,
            "max_passage_tokens": config.max_passage_tokens,
            "example_query_max_len": config.example_query_max_len,
            "example_passage_max_len": config.example_passage_max_len,
            "limit_queries": config.limit_queries,
            "limit_passages": config.limit_passages,
            "limit_seed": config.limit_seed,
        },
    }


def _examples_asked(config: StudyConfig) -> str:
    """auto, or a hash over the files."""
    if config.examples == "auto" or not max(config.shots):
        return "auto"
    found = {name: read_examples(config.examples, TASK_NAMES[name]) for name in sorted(config.sets)}
    return f"files {sha256_of({name: [vars(e) for e in found[name]] for name in found})[:12]}"


def _opened(path: Path, facts: dict[str, Any], fresh: bool) -> dict[str, Any]:
    """The document to go on with: that of the file, or a new one.

    Raises:
        InputError: the file holds results of other weights or settings.
    """
    empty: dict[str, Any] = {**facts, "sets": {}, "cells": [], "sessions": []}
    if fresh or not path.is_file():
        return empty
    found = read_json(path)
    for name, value in facts.items():
        if not isinstance(found, dict) or found.get(name) != value:
            raise InputError(f"{path}: is of another {name}; give another --output, or --fresh")
    return found


def _set_facts(tested: RetrievalSet) -> dict[str, Any]:
    return {
        "task": TASK_NAMES[tested.name],
        "instruction": local_instruction(tested.name),
        "queries": len(tested.queries),
        "passages": len(tested.corpus),
        "whole": list(tested.whole),
        "reranking": tested.is_reranking,
        "notes": list(tested.notes),
        "sha256": sha256_of([tested.fingerprint, local_instruction(tested.name)]),
    }


def _file_name(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", label).strip("-") or "model"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat()  # to the microsecond: models are listed in this order


def _log(label: str, cell: dict[str, Any]) -> None:
    logger.info(
        "%s, %s, %d examples (seed %d, %d tokens of prefix): nDCG@10 %.2f, MRR@10 %.2f; %.2f s per 1,000 queries",
        *(label, cell["set"], cell["shots"], cell["seed"], cell["prefix_tokens"]),
        *(cell["scores"]["ndcg@10"], cell["scores"]["mrr@10"], cell["seconds_per_1000"]),
    )


# ------------------------------------------------------------------------------------------ command line


def main(config: StudyConfig) -> int:
    """Compute, then write and print table and plot of all that is in --output."""
    for package in ("bge_icl", "benchmarks"):
        logging.getLogger(package).setLevel(logging.INFO)
    started = time.perf_counter()
    if config.model:
        study(config)
    from bge_icl import study_plot, study_report

    report = study_report.Report.of([config.output])
    print(study_report.text(report))
    study_report.write(report, config.output)
    study_plot.save(study_plot.plot(report), config.output / "study")
    print(f"results: {config.output} ({time.perf_counter() - started:.0f} s)")
    return 0


if __name__ == "__main__":
    cli.run(main, StudyConfig, description=__doc__)
