"""What `python -m benchmarks study` is asked for, and the cells that follow from it."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks import cells, suites
from benchmarks.cells import Cell
from benchmarks.word_overlap import METHOD as FLOOR
from common import cli_values, registry
from common.errors import InputError
from common.io import sha256_file
from common.recipe import TrainConfig

Unit = Literal["tokens", "steps", "minutes"]
UNITS: tuple[Unit, ...] = ("tokens", "steps", "minutes")
_BUDGET = re.compile(r"(\d+(?:\.\d+)?)([kM]?)[ -]+(tokens|steps|minutes)")
REFERENCE = "sentence-transformer"

# Settings of a training that a study sets itself -> the flag that does it.
SET_BY = {
    "output_dir": "--output",
    "model_name_or_path": "--model",
    "train_name_or_path": "--train",
    "data_dir": "--data_dir",
    "seed": "--first_seed and --seeds",
    **dict.fromkeys(("max_steps", "max_tokens", "epochs"), "--budget"),
    **{name: f"--{name}" for name in ("batch_size", "learning_rate", "max_length", "device")},
}
# Settings that a cell's training does not read: it takes the rows of --train as they are, and no others.
UNREAD = (
    *("train_subset_name", "train_split_name", "column_rename_mapping", "streaming", "limit", "dry_run"),
    *("valid_name_or_path", "valid_subset_name", "valid_split_name", "eval_strategy", "eval_steps"),
)


@dataclass(frozen=True)
class Budget:
    """What every training may use."""

    amount: float
    unit: Unit

    @classmethod
    def of(cls, words: list[str]) -> Budget:
        """Read "200k tokens", "500 steps" or "10 minutes".

        Raises:
            InputError: anything else.
        """
        text = " ".join(words).replace("_", "").strip()
        found = _BUDGET.fullmatch(text)
        if not found:
            raise InputError(f"--budget {text}: give a number and its unit: 200k tokens, 500 steps or 10 minutes")
        amount = float(found[1]) * {"": 1, "k": 1e3, "M": 1e6}[found[2]]
        unit: Unit = next(u for u in UNITS if u == found[3])
        if amount <= 0 or (unit != "minutes" and amount != int(amount)):
            raise InputError(
                f"--budget {text}: {unit} must be {'above 0' if unit == 'minutes' else 'whole, from 1 on'}"
            )
        return cls(amount, unit)

    def __str__(self) -> str:
        return f"{self.amount:,.0f} {self.unit}" if self.unit != "minutes" else f"{self.amount:g} minutes"


@dataclass(kw_only=True)
class StudyConfig:
    """Train every method alike, on the same backbone, data, budget and seeds, and evaluate all alike."""

    methods: list[str] = field(metadata={"help": "of `python -m benchmarks list`", "group": "what"})
    train: str = field(
        metadata={"help": "training rows: a file, one under --data_dir, or shipped:NAME", "group": "what"}
    )
    model: str = field(default="smollm2-135m", metadata={"help": "backbone of all methods", "group": "what"})
    budget: list[str] = field(
        default_factory=lambda: ["200k", "tokens"],
        metadata={"help": "of each training: 200k tokens, 500 steps or 10 minutes", "group": "what"},
    )
    seeds: int = field(default=3, metadata={"help": "trainings of each method", "group": "what"})
    first_seed: int = field(default=42, metadata={"help": "the others follow it", "group": "what"})
    reference: list[str] = field(
        default_factory=list,
        metadata={"help": "plain sentence-transformers to show beside, such as minilm", "group": "what"},
    )

    suite: str = field(default="sts", metadata={"help": "sts, sts-mteb or sts-shipped", "group": "evaluation"})
    tasks: list[str] = field(default_factory=list, metadata={"help": "some tasks of it", "group": "evaluation"})
    data_dir: Path | None = field(
        default=None,
        metadata={"help": "folder with the data; default: EMBED_DATA, else the hub", "group": "evaluation"},
    )
    limit: int | None = field(
        default=None, metadata={"help": "a seeded sample of so many pairs per task", "group": "evaluation"}
    )
    limit_seed: int = field(default=0, metadata={"help": "of that sample", "group": "evaluation"})
    baseline: str | None = field(
        default=None,
        metadata={
            "help": "the row that all others are held against: METHOD, METHOD--zero-shot or word-overlap; "
            "default: the first method, trained",
            "group": "evaluation",
        },
    )
    samples: int = field(default=1000, metadata={"help": "bootstrap resamples", "group": "evaluation"})

    batch_size: int = field(default=32, metadata={"help": "rows per step", "group": "training"})
    learning_rate: float = field(default=2e-4, metadata={"help": "peak learning rate", "group": "training"})
    max_length: int = field(
        default=128, metadata={"help": "tokens per sequence in training, and of the trained model", "group": "training"}
    )
    recipe: dict[str, Any] = field(
        default_factory=dict,
        metadata={"help": 'more settings of every training, as JSON: {"lora_r": 16}', "group": "training"},
    )
    device: str | None = field(default=None, metadata={"help": "default: what is there", "group": "training"})

    output: Path = field(
        default=Path("results/study"), metadata={"help": "cells, study.json, tables", "group": "output"}
    )
    fresh: bool = field(default=False, metadata={"help": "forget what the folder holds", "group": "output"})

    def __post_init__(self) -> None:
        self.methods = list(dict.fromkeys(self.methods))
        if not self.methods:
            raise InputError("--methods: name at least one")
        for name in self.methods:
            registry.get(name)
        for name in ("seeds", "samples"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} {getattr(self, name)}: must be at least 1")
        if self.limit is not None and self.limit < 2:
            raise InputError(f"--limit {self.limit}: a correlation needs at least 2 pairs")
        suites.get_suite(self.suite, self.tasks)
        _ = self.allowance
        self.recipe = checked_recipe(self.recipe)
        check_training(self)
        if self.baseline is not None and self.baseline_row not in (names := [row.name for row in rows_of(self)]):
            raise InputError(f"--baseline {self.baseline}: no such row; one of {', '.join(names)}")

    @property
    def allowance(self) -> Budget:
        """`budget`, read."""
        return Budget.of(self.budget)

    @property
    def baseline_row(self) -> str:
        """The name of the row that all others are held against."""
        names = [row.name for row in rows_of(self)]
        wanted = self.baseline or self.methods[0]
        return next((name for name in (wanted, f"{wanted}--trained", f"{wanted}--zero-shot") if name in names), wanted)


def checked_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe with values of the types that a training has.

    Raises:
        InputError: no setting of a training, one that the study sets itself or does not read, or a value of another
            type.
    """
    types = typing.get_type_hints(TrainConfig)
    found = {}
    for name, value in recipe.items():
        if name in SET_BY:
            raise InputError(f"--recipe {name}: has a flag of its own here; leave it out and give {SET_BY[name]}")
        if name in UNREAD:
            raise InputError(f"--recipe {name}: has no effect on the trainings of a study; leave it out")
        if name not in types:
            close = difflib.get_close_matches(name, [known for known in types if known not in (*SET_BY, *UNREAD)], n=1)
            hint = f"did you mean {close[0]!r}?" if close else "see common/recipe.py"
            raise InputError(f"--recipe {name}: is no setting of the methods' trainings; {hint}")
        try:
            fitting = cli_values.convert(types[name], value, text=False)
        except cli_values.Unfit as error:
            raise InputError(f"--recipe {name}: {error}") from None
        found[name] = value if value == fitting else fitting  # 3 stays 3 where 3.0 is meant: earlier plans hold it so
    registry.check_compat(found.get("compat"))
    return found


def check_training(config: StudyConfig) -> None:
    """InputError where the settings of the trainings are such that none could start; loads no model.

    One check for all methods: a cell gives the plain `TrainConfig` to every `fit`.
    """
    recipe, output = recipe_of(config, config.first_seed, None), config.output
    cells.training_config({name: value for name, value in recipe.items() if name not in config.recipe}, output)
    try:
        cells.training_config(recipe, output)
    except InputError as error:  # names a flag of train.py, which is none here
        raise InputError(f"--recipe: {error}") from None


@dataclass(frozen=True)
class Row:
    """A line of the study's table: the floor, a method zero-shot, or a method with all its trainings."""

    method: str
    model: str
    trained: bool

    @property
    def name(self) -> str:
        """The floor's name, METHOD--zero-shot, METHOD--trained, or the name of a reference model."""
        if self.method == FLOOR:
            return FLOOR
        return f"{self.method}--{'trained' if self.trained else 'zero-shot'}"


@dataclass(frozen=True)
class ReferenceRow(Row):
    """A finished embedder on a model of its own."""

    @property
    def name(self) -> str:
        """Method and model."""
        return f"{self.method}--{Path(self.model).name}"


def rows_of(config: StudyConfig) -> list[Row]:
    """The floor, the references, and every method zero-shot and, where it has a training, trained."""
    rows = [Row(FLOOR, "none", False)]
    rows += [ReferenceRow(REFERENCE, model, False) for model in config.reference]
    rows += [Row(method, config.model, False) for method in config.methods]
    rows += [Row(method, config.model, True) for method in config.methods if registry.get(method).fit]
    return rows


def seeds_of(config: StudyConfig) -> list[int]:
    """The seeds of the trainings."""
    return list(range(config.first_seed, config.first_seed + config.seeds))


def train_hash(config: StudyConfig) -> str:
    """SHA-256 of the training file; the name of a hub data set."""
    from common.data import data_path  # with torch: wrong flags are answered without

    path = data_path(config.train, config.data_dir)
    return sha256_file(path) if path else config.train


def cells_of(config: StudyConfig, row: Row, max_tokens: int | None = None) -> list[Cell]:
    """The cells of a row (none for the floor).

    Args:
        config: the study.
        row: one of `rows_of`.
        max_tokens: what the budget is in tokens for this method; needed where it is given in minutes.
    """
    if row.method == FLOOR:
        return []
    evaluation = {
        "suite": config.suite,
        "tasks": list(config.tasks),
        "data_dir": str(config.data_dir.resolve()) if config.data_dir else None,
        "limit": config.limit,
        "seed": config.limit_seed,
        "device": config.device,
    }
    if not row.trained:
        return [Cell(config.output / "cells" / row.name, row.method, row.model, evaluation)]
    version = train_hash(config)
    return [
        Cell(
            config.output / "cells" / f"{row.method}--seed-{seed}",
            row.method,
            row.model,
            evaluation,
            recipe_of(config, seed, max_tokens),
            version,
        )
        for seed in seeds_of(config)
    ]


def recipe_of(config: StudyConfig, seed: int, max_tokens: int | None) -> dict[str, Any]:
    """The fields of `TrainConfig` for one training; only the seed differs between those of a study."""
    budget = config.allowance
    if budget.unit == "tokens":
        max_tokens = int(budget.amount)
    limits = {"max_steps": int(budget.amount)} if budget.unit == "steps" else {"max_tokens": max_tokens}
    return {
        "train_name_or_path": config.train,
        "data_dir": str(config.data_dir.resolve()) if config.data_dir else None,
        "batch_size": config.batch_size,
        "learning_rate": config.learning_rate,
        "max_length": config.max_length,
        "warmup_steps": 0.1,
        "lora_dropout": 0.0,  # drawing the masks is slow on CPUs, and a short training does not overfit
        "device": config.device,
        "save_strategy": "no",
        "save_minutes": 3.0,  # what an interruption costs at most
        **limits,
        **config.recipe,
        "seed": seed,
    }
