"""Which InBedder model to load, and how it is asked; of eval.py, infer.py and propose.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from common import model_flags
from common.model_flags import ModelFlags, model_flag
from inbedder.prompts import BY_NAME

ALIASES = {**model_flags.ALIASES, "hf_name": "model_name_or_path", "model_path": "model_name_or_path"}
DROPPED = model_flags.DROPPED


@dataclass(kw_only=True)
class InBedderFlags(ModelFlags):
    """The shared flags, for InBedder, and those of masked models."""

    METHOD: ClassVar[str] = "inbedder"
    CHECKPOINTS: ClassVar[Path] = Path(__file__).with_name("checkpoints.yaml")
    PROMPTS: ClassVar[Mapping[str, str]] = BY_NAME

    mask_length: int | None = model_flag(None, "mask tokens behind the prompt of a masked model; default: 3")
    convention: Literal["prompt", "pair"] | None = model_flag(
        None, "how a masked model is asked; default: the model's own"
    )

    def options(self) -> dict[str, Any]:
        """The shared options, and those of masked models where they were given."""
        own = {"mask_length": self.mask_length, "convention": self.convention}
        return super().options() | {name: value for name, value in own.items() if value is not None}
