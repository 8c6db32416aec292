"""One cell of a table: a method, trained or not, and evaluated; every step in a process of its own.

A process of its own, since peak memory is a high-water mark, and since one that dies takes no other cell with it.
The folder of a cell holds `plan.json` (what is to be done), `model/` and `train.json` (if it is trained), `results/`
(a result file per task) and, written last, `cell.json`. A step that is there is not run again; an interrupted
training goes on from its last checkpoint, an interrupted evaluation with its next task.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.util
import logging
import math
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.result_record import peak_memory_mb
from benchmarks.run import RunConfig, evaluate
from common import cli, registry
from common.errors import InputError
from common.io import command_line, environment, read_json, sha256_file, sha256_of, write_json
from common.reading import SHIPPED
from common.recipe import TrainConfig

if TYPE_CHECKING:
    from common.encoder import Encoder

ROOT = Path(__file__).resolve().parents[1]
PLAN, TRAINED, TIMED, DONE = "plan.json", "train.json", "time.json", "cell.json"
MODEL, RESULTS = "model", "results"


@dataclass(frozen=True)
class Cell:
    """What is done in one folder.

    Attributes:
        folder: of this cell alone.
        method: of the registry.
        model: the backbone.
        evaluation: fields of `RunConfig`, but for method, model and output.
        recipe: fields of `TrainConfig`, but for output_dir; None: zero-shot.
        version: whatever else the cell depends on (data, sources); cells of another version are not this one.
    """

    folder: Path
    method: str
    model: str
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] | None = None
    version: str = ""

    @property
    def plan(self) -> dict[str, Any]:
        """The cell but for its folder, as JSON."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "folder"}
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}

    @property
    def steps(self) -> list[str]:
        """The steps that are still to be run."""
        steps = [] if self.recipe is None or (self.folder / TRAINED).is_file() else ["train"]
        return steps + ([] if (self.folder / DONE).is_file() else ["evaluate"])


def finished(cell: Cell) -> dict[str, Any] | None:
    """The content of `cell.json`; None unless this very cell is finished."""
    if not is_same(cell) or cell.steps:
        return None
    return _readable(cell.folder / DONE)


def is_same(cell: Cell) -> bool | None:
    """Whether the folder is of this very cell; None where it holds none."""
    found = _readable(cell.folder / PLAN)
    return None if found is None else sha256_of(found) == sha256_of(cell.plan)


def complete(cell: Cell) -> dict[str, Any]:
    """Run what is missing, each step in a process of its own, and return the content of `cell.json`.

    What the folder holds of another cell is removed.

    Raises:
        InputError: a step failed; names the command that repeats it.
    """
    if not is_same(cell):
        shutil.rmtree(cell.folder, ignore_errors=True)
        write_json(cell.folder / PLAN, cell.plan)
    for name in (TRAINED, DONE):
        if _readable(cell.folder / name) is None:
            (cell.folder / name).unlink(missing_ok=True)
    for step in cell.steps:
        in_own_process(step, cell.folder)
    return read_json(cell.folder / DONE)


def in_own_process(step: str, folder: Path) -> None:
    """Run one step on a folder with a plan."""
    words = ["-m", "benchmarks.cells", step, str(folder)]
    code = subprocess.run([sys.executable, *words], check=False).returncode
    if code:
        raise InputError(f"{folder}: the step {step!r} failed with exit code {code}; repeat: python {' '.join(words)}")


def sources_hash(method: str) -> str:
    """A hash over the sources and pins that a method's numbers depend on, its own package's wherever that is."""
    entry = registry.get(method)
    own = {part.partition(":")[0].partition(".")[0] for part in (entry.load, entry.fit) if part}
    files = [ROOT / "requirements.txt", *SHIPPED.glob("*.jsonl")]
    for package in sorted({"common", "senteval", "benchmarks", *own}):
        for place in [ROOT / package] if (ROOT / package).is_dir() else _places(package):
            found = place.rglob("*") if place.is_dir() else [place]
            files += [p for p in found if p.suffix in (".py", ".yaml")]
    return sha256_of({_place_of(p): sha256_file(p) for p in sorted(files) if p.is_file()})


def _place_of(file: Path) -> str:
    """A file's path in the project, the same wherever the project lies."""
    return str(file.relative_to(ROOT)) if file.is_relative_to(ROOT) else str(file)


def _places(package: str) -> list[Path]:
    """The folders of an installed package, or the file of a module; found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        return []  # its loader says that it is missing
    return [Path(place) for place in spec.submodule_search_locations or [spec.origin or ""]]


# ------------------------------------------------------------------------------------------ the steps


def training_config(recipe: Mapping[str, Any], output_dir: Path) -> TrainConfig:
    """What the `fit` of every method is given for a cell's recipe; loads nothing.

    Raises:
        InputError: a setting that no training takes.
    """
    settings = dict(recipe)
    data_dir = settings.pop("data_dir", None)
    return TrainConfig(output_dir=output_dir, data_dir=Path(data_dir) if data_dir else None, **settings)


def train(folder: Path, plan: Mapping[str, Any], *, most_steps: int | None = None) -> dict[str, Any]:
    """Train as the plan says, from the last checkpoint if there is one; what is told of it.

    Args:
        folder: of the cell.
        plan: of the cell.
        most_steps: instead of the plan's budget, to see how long a step takes.
    """
    from common.data import load_rows
    from common.train_program import backbone_options

    budget = {"max_steps": most_steps, "max_tokens": None} if most_steps else {}
    recipe = training_config({**plan["recipe"], **budget}, folder / MODEL)
    rows = load_rows(str(recipe.train_name_or_path), data_dir=recipe.data_dir)
    length = plan["recipe"].get("max_length")  # None: the method's own
    encoder = registry.load(plan["method"], plan["model"], max_length=length, **backbone_options(recipe))
    fit = registry.resolve_attribute(str(registry.get(plan["method"]).fit))
    fit(encoder, rows, recipe)
    summary = read_json(folder / MODEL / "training.json")
    trainable, total = _parameters(encoder, folder / MODEL)
    return {
        **{name: summary[name] for name in ("data", "tokens", "steps", "seconds", "loss")},
        "rows": summary["steps"] * recipe.batch_size * recipe.gradient_accumulation_steps,
        "tokens_per_second": summary["tokens"] / max(summary["seconds"], 1e-9),
        "peak_memory_mb": peak_memory_mb(),
        "trainable_parameters": trainable,
        "parameters": total,
        "recipe": summary["recipe"],
        "sources": sources_hash(plan["method"]),  # the evaluation's may be others, after a change of code in between
        "command": command_line(),
        "environment": environment(),
        "created": _now(),
    }


def _parameters(encoder: Encoder, model: Path) -> tuple[int, int]:
    """(trained, all) parameters; of a training that was finished before, the trained ones are those of its adapter."""
    from common.lora import parameter_counts

    trainable, total = parameter_counts(encoder.embedder)
    adapter = model / "adapter_model.safetensors"
    if not trainable and adapter.is_file():
        from safetensors import safe_open

        with safe_open(adapter, "np") as tensors:
            shapes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]  # noqa: SIM118
        trainable = sum(math.prod(shape) for shape in shapes)
    return trainable, total


def evaluate_cell(folder: Path, plan: Mapping[str, Any]) -> dict[str, Any]:
    """Evaluate the trained model, or the backbone; the cell's record, with what was told of its training."""
    settings = dict(plan["evaluation"])
    data_dir = settings.pop("data_dir", None)
    trained = plan["recipe"] is not None
    results = evaluate(
        RunConfig(
            method=plan["method"],
            model=str(folder / MODEL) if trained else plan["model"],
            data_dir=Path(data_dir) if data_dir else None,
            output=folder / RESULTS,
            **settings,
        )
    )
    seconds, tokens = sum(r.seconds for r in results.values()), sum(r.tokens for r in results.values())
    first = next(iter(results.values()))
    return {
        "method": plan["method"],
        "model": plan["model"],
        "title": first.encoder["title"],
        "trained": trained,
        "scores": {name: result.score for name, result in results.items()},
        "texts": sum(r.texts for r in results.values()),
        "seconds": seconds,
        "tokens": tokens,
        "tokens_per_second": tokens / seconds,
        "peak_memory_mb": peak_memory_mb(),
        "dtype": first.encoder["dtype"],
        "template": first.encoder["template"],
        "pooling": first.encoder["pooling"],
        "training": read_json(folder / TRAINED) if trained else None,
        "sources": sources_hash(plan["method"]),
        "environment": environment(),
        "created": _now(),
    }


@dataclass
class StepConfig:
    """Run one step of a cell in this process."""

    step: Literal["train", "time", "evaluate"] = field(metadata={"positional": True, "help": "what is run"})
    folder: Path = field(metadata={"positional": True, "help": "with a plan.json"})
    steps: int = field(default=20, metadata={"help": "optimiser steps of `time`"})


def run_step(config: StepConfig) -> int:
    """Run a step and write what it gave: train.json, time.json or cell.json."""
    folder, plan = config.folder, read_json(config.folder / PLAN)
    if config.step == "train":
        write_json(folder / TRAINED, train(folder, plan))
    elif config.step == "time":
        write_json(folder / TIMED, train(folder, plan, most_steps=config.steps))
    else:
        write_json(folder / DONE, evaluate_cell(folder, plan))
    return 0


def main(argv: list[str] | None = None) -> None:
    """`python -m benchmarks.cells train|time|evaluate FOLDER`; used by quickstart and study."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    cli.run(run_step, StepConfig, argv=argv, prog="python -m benchmarks.cells", description=StepConfig.__doc__)


def _readable(file: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None where there is none, or half of one."""
    try:
        found = read_json(file)
    except (InputError, OSError):
        return None
    return found if isinstance(found, dict) else None


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


if __name__ == "__main__":
    main()
