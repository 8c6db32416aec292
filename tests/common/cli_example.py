"""A configuration with every kind of field, and what the tests of the command line share."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Optional, Union

import pytest
from hypothesis import HealthCheck, settings

from common import cli
from common.errors import InputError

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Schedule(enum.Enum):
    LINEAR = "linear"
    COSINE = "cosine"


@dataclass
class Train:
    """A training program's configuration with every kind of field."""

    output_dir: Path = field(metadata={"help": "where 100% of it goes", "group": "saving"})
    model_name_or_path: str = "smollm2-135m"
    prompt: str | None = field(default=None, metadata={"help": "template with {text}"})
    learning_rate: float = 1e-5
    max_length: int = 512
    epochs: int = 1
    batch_size: int = 32
    ibn_w: float = 1.0
    fp16: bool = False
    gradient_checkpointing: bool = True
    bf16: Optional[bool] = None  # noqa: UP045 (the old spelling must work too)
    seed: Union[int, None] = None  # noqa: UP007
    load_kbit: Literal[4, 8, 16] | None = None
    eval_strategy: Literal["no", "steps", "epoch"] = "no"
    warmup_steps: float = 0.0
    save_steps: float | None = None
    bidirectional_from: int | Literal["all"] = "all"
    tasks: list[str] = field(default_factory=lambda: ["STS12", "STS13"])
    lora_target_modules: list[str] | None = None
    layers: tuple[int, ...] = ()
    split: int | str = "train"
    betas: tuple[float, float] = (0.9, 0.999)
    files: list[Path] = field(default_factory=list)
    schedule: Schedule = Schedule.LINEAR
    model_kwargs: dict[str, Any] = field(default_factory=dict)
    dry_run: bool = field(default=False, metadata={"recipe": False})


@dataclass
class Table:
    """A program with arguments given by place."""

    name: str = field(metadata={"positional": True, "help": "which table"})
    results: list[str] = field(default_factory=list, metadata={"positional": True})
    fresh: bool = False
    limit: int | None = None


def train(*words: str, **options: Any) -> Train:
    return cli.parse(Train, ["--output_dir", "out", *words], **options)


def error_of(*words: str, config: type = Train, **options: Any) -> str:
    required = ["--output_dir", "out"] if config is Train else []
    with pytest.raises(InputError) as caught:
        cli.parse(config, [*required, *words], **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def notices(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def config_file(folder: Path, content: str | bytes, name: str = "cfg.yaml") -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)
