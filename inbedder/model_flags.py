"""Which InBedder model to load, and how it is asked; of eval.py, infer.py and propose.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from common import model_flags
from common.errors import InputError
from common.model_flags import ModelFlags, model_flag
from inbedder.decoding import Decoding, read_decoding
from inbedder.modes import split_name
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


@dataclass(kw_only=True)
class ModeFlags(InBedderFlags):
    """What is read off the model as the embedding, and how its answers are generated; of eval.py and propose.py."""

    mode: str | None = model_flag(
        None, "first, answer_mean, ..., or a released output value such as fst_gen_layer_32; default: first, of masked "
        "models answer_mean"
    )  # fmt: skip
    layer: int = model_flag(-1, "of --mode; -1 is the last")
    generation_configs: dict[str, Any] | None = model_flag(
        None, "of answers: max_new_tokens, do_sample, temperature, top_p, top_k; mask_length"
    )
    seed: int = model_flag(42, "of answers that are sampled")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.generation_configs = dict(self.generation_configs or {})
        if "mask_length" in self.generation_configs:
            self.mask_length = self.generation_configs.pop("mask_length")
        if self.mode is not None:
            split_name(self.mode)
        if self.layer < -1:
            raise InputError(f"--layer {self.layer}: -1 is the last, 0 the token embeddings")
        self.decoding()

    def decoding(self) -> Decoding:
        """How answers are generated.

        Raises:
            InputError: a setting that is not known, or can't be.
        """
        try:
            return read_decoding({"seed": self.seed, **(self.generation_configs or {})})
        except InputError as error:
            raise InputError(f"--generation_configs: {error}") from None
