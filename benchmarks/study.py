"""`python -m benchmarks study`: methods on the same backbone, data, budget and seeds, evaluated alike.

Every method is scored zero-shot and, once per seed, after a training that differs between methods only in what the
method itself is. Below all of them stands the overlap of words. The folder holds a cell per method and seed
(`benchmarks.cells`), `study.json` (everything, for `python -m benchmarks report`), and the tables made of it. A second
run finishes what is missing; more methods or seeds may be added to a folder, but nothing else may change.
"""

from __future__ import annotations

import datetime
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import cells, study_tables
from benchmarks.cells import Cell
from benchmarks.run import RunConfig, load_tasks
from benchmarks.study_plan import FLOOR, Row, StudyConfig, cells_of, recipe_of, rows_of, seeds_of, train_hash
from benchmarks.study_summary import Line, summarise
from benchmarks.word_overlap import evaluate_word_overlap
from common import cli
from common.errors import InputError
from common.io import command_line, environment, read_json, write_json
from senteval import PairTask

logger = logging.getLogger(__name__)

FILE = "study.json"
TIMING = "timing"
TIMED_STEPS = 20
DRAWN_ANEW = ("methods", "seeds", "baseline", "samples", "reference", "output", "fresh")  # may change between runs


def study(config: StudyConfig) -> tuple[dict[str, Any], list[str]]:
    """Run what is missing; the content of `study.json`, and the cells that failed.

    Raises:
        InputError: missing data, a folder of another study, or nothing that could be shown.
    """
    from common.data import load_rows

    tasks = load_tasks(_evaluation(config))  # missing data, and bad rows, are found before anything is trained
    load_rows(config.train, data_dir=config.data_dir)
    version = train_hash(config)
    _claim(config, version)
    floor = config.output / "cells" / FLOOR
    evaluate_word_overlap(tasks, config.suite, floor, limit=config.limit, seed=config.limit_seed)
    budgets = _budgets_in_tokens(config)
    plan = {row: cells_of(config, row, budgets.get(row.method)) for row in rows_of(config)}
    failed = _complete(plan)
    lines = [_line(row, of_row, floor) for row, of_row in plan.items()]
    lines = [line for line in lines if line.folders]
    names = [line.name for line in lines]
    baseline = config.baseline_row if config.baseline_row in names and len(names) > 1 else None
    document = summarise(lines, baseline=baseline, samples=config.samples)
    document |= {
        "schema": 1,
        "kind": "study",
        "title": title_of(config, lines, document["limited"]),
        "settings": _settings(config) | {"train_sha256": version, "seeds": seeds_of(config)},
        "planned": {"rows": [row.name for row in plan], "baseline": config.baseline_row if len(plan) > 1 else None},
        "budget": str(config.allowance),
        "leakage": leakage_of(config, tasks),
        "failed": failed,
        "command": command_line(),
        "environment": environment(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    document["notes"] = study_tables.notes_of(document)
    write_json(config.output / FILE, document)
    return document, failed


def title_of(config: StudyConfig, lines: list[Line], limited: bool) -> str:
    """Says on what it ran, and whether all of it or a part."""
    devices = set()
    for line in lines:
        for cell in line.cells:
            cuda = cell["environment"]["cuda"]
            devices.add("GPU " + " + ".join(sorted(set(cuda["devices"]))) if cuda else "CPU")
    pairs = f"{config.limit} seeded pairs per task" if limited else "all pairs of every task"
    where = f"{' and '.join(sorted(devices)) or 'CPU'}, {'limited' if limited else 'full'}"
    return f"Study ({where}): {config.allowance} per training, {_seeds(config, lines)}, {pairs}, {config.model}"


def _seeds(config: StudyConfig, lines: list[Line]) -> str:
    """How many trainings of each method are finished: "3 seeds", "2 of 3 seeds" or "0 to 3 of 3 seeds"."""
    finished = {line.name: len(line.folders) for line in lines}
    counts = {finished.get(row.name, 0) for row in rows_of(config) if row.trained} or {config.seeds}
    least, most = min(counts), max(counts)
    there = "" if least == config.seeds else f"{most} of " if least == most else f"{least} to {most} of "
    return f"{there}{config.seeds} seed{'s' if config.seeds > 1 else ''}"


def leakage_of(config: StudyConfig, tasks: Mapping[str, PairTask]) -> dict[str, Any]:
    """How many of the scored sentences stand in the training data; {"error": ...} where that can't be counted."""
    from benchmarks.leakage import leakage, training_rows

    texts = {name: list(zip(task.text1, task.text2)) for name, task in tasks.items()}
    try:
        found = leakage(training_rows([config.train], config.data_dir), texts)
    except InputError as error:
        return {"error": str(error)}
    counts = {
        t.task: {"texts": t.texts, "exact": t.exact, "near": t.near, "one_row": len(t.together)} for t in found.tasks
    }
    return {"summary": found.summary(), "tasks": counts}


def _evaluation(config: StudyConfig) -> RunConfig:
    return RunConfig(
        suite=config.suite, tasks=config.tasks, data_dir=config.data_dir, limit=config.limit, seed=config.limit_seed
    )


def _settings(config: StudyConfig) -> dict[str, Any]:
    """What may not change within a folder."""
    names = [name for name in vars(config) if name not in DRAWN_ANEW]
    return {name: str(v) if isinstance(v := getattr(config, name), Path) else v for name in names}


def _claim(config: StudyConfig, version: str) -> None:
    """Make the folder this study's, or see that it is.

    Raises:
        InputError: it is of another study; says what differs.
    """
    if config.fresh:
        for name in ("cells", TIMING):
            shutil.rmtree(config.output / name, ignore_errors=True)
        (config.output / "settings.json").unlink(missing_ok=True)
    file = config.output / "settings.json"
    mine = _settings(config) | {"train_sha256": version}
    mine |= {"budget": str(config.allowance), "data_dir": None, "train": Path(config.train).name}
    if not file.is_file():
        write_json(file, mine)
        return
    found = read_json(file)
    changed = [f"{key} {found.get(key)!r} -> {value!r}" for key, value in mine.items() if found.get(key) != value]
    if changed:
        raise InputError(
            f"{config.output}: holds another study ({'; '.join(changed[:3])}); give another --output, or --fresh"
        )


def _budgets_in_tokens(config: StudyConfig) -> dict[str, int]:
    """A budget of minutes as tokens, per method: timed once on a short training, so that all seeds get the same."""
    if config.allowance.unit != "minutes":
        return {}
    found = {}
    for row in (row for row in rows_of(config) if row.trained):
        recipe = recipe_of(config, config.first_seed, None) | {"save_minutes": None, "resume": False}
        cell = Cell(config.output / TIMING / row.method, row.method, row.model, {}, recipe)
        file = cell.folder / cells.TIMED
        if not (cells.is_same(cell) and file.is_file()):
            say(f"timing {TIMED_STEPS} steps of {row.method}")
            shutil.rmtree(cell.folder, ignore_errors=True)  # a plan must never stand beside another one's time
            write_json(cell.folder / cells.PLAN, cell.plan)
            cells.in_own_process("time", cell.folder)
        found[row.method] = max(1, int(read_json(file)["tokens_per_second"] * 60 * config.allowance.amount))
    return found


def _complete(plan: Mapping[Row, list[Cell]]) -> list[str]:
    """Finish all cells, a seed of all methods before the next; those that failed, with the reason."""
    depth = max(len(of_row) for of_row in plan.values())
    todo = [of_row[i] for i in range(depth) for of_row in plan.values() if i < len(of_row)]
    failed = []
    for number, cell in enumerate(todo, 1):
        name = cell.folder.name
        if cells.is_same(cell) is False:
            raise InputError(f"{cell.folder}: is of other settings or data; give another --output, or --fresh")
        if cells.finished(cell):
            say(f"[{number}/{len(todo)}] {name}: done before")
            continue
        say(f"[{number}/{len(todo)}] {name}: {datetime.datetime.now():%H:%M:%S} {', '.join(cell.steps)}")
        try:
            record = cells.complete(cell)
        except InputError as error:
            failed.append(str(error))
            say(f"      {error}")
            continue
        scores, training = record["scores"], record["training"]
        trained = f", {training['tokens']:,} tokens in {training['seconds']:.0f} s" if training else ""
        say(f"      {sum(scores.values()) / len(scores):.2f}{trained}, encoded in {record['seconds']:.0f} s")
    return failed


def _line(row: Row, of_row: list[Cell], floor: Path) -> Line:
    """The finished cells of a row."""
    if row.method == FLOOR:
        return Line(FLOOR, (floor,), about="words that both texts share, no model")
    done = [(cell, record) for cell in of_row if (record := cells.finished(cell))]
    return Line(
        row.name,
        tuple(cell.folder / cells.RESULTS for cell, _ in done),
        tuple(cell.recipe["seed"] if cell.recipe else None for cell, _ in done),
        tuple(record for _, record in done),
        row.trained,
        f"{row.model}, {'trained' if row.trained else 'as it is'}",
    )


def say(line: str) -> None:
    """A line of progress."""
    print(line, flush=True)


def run(config: StudyConfig) -> int:
    """Run, print and write the tables; 1 where a cell failed."""
    document, failed = study(config)
    print(study_tables.text(document))
    for file in study_tables.write(document, config.output):
        print(f"written: {file}")
    for reason in failed:
        print(f"failed: {reason}")
    return 1 if failed else 0


def main(argv: list[str] | None = None) -> None:
    """Train methods alike and compare them: mean and spread over seeds, intervals, cost."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    cli.run(run, StudyConfig, argv=argv, prog="python -m benchmarks study", description=StudyConfig.__doc__)
