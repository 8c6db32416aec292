"""The settings of a training with AnglE's losses, and their old names; AnglE's and BeLLM's recipes derive from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from common.recipe import TrainConfig


def loss_flag(default: Any, help: str) -> Any:
    """A field that shapes the loss."""
    return field(default=default, metadata={"help": help, "group": "loss"})


@dataclass(kw_only=True)
class AngleLossConfig(TrainConfig):
    """The shared settings, and weights and scales of AnglE's losses; defaults of angle_emb 0.6.1."""

    pooling_strategy: str | None = field(
        default=None, metadata={"help": "default: last token for LLMs, cls for encoders", "group": "model"}
    )
    is_llm: bool | None = field(
        default=None, metadata={"help": "checked against the model; default: what it is", "group": "model"}
    )
    cosine_w: float = loss_flag(0.0, "weight of the CoSENT term")
    ibn_w: float = loss_flag(1.0, "weight of the in-batch-negative term")
    angle_w: float = loss_flag(0.02, "weight of the angle term")
    cosine_tau: float = loss_flag(20.0, "scale of the CoSENT term")
    ibn_tau: float = loss_flag(20.0, "scale of the contrastive terms")
    angle_tau: float = loss_flag(20.0, "scale of the angle term")
    angle_pooling_strategy: str = loss_flag("sum", "sum or mean over the complex parts")
    ibn_positive_threshold: float | None = loss_flag(
        None, "pairs with a higher label are positives; default: label >= 1"
    )


# Names of the released training programs that stand for one of ours.
ALIASES = {
    "w1": "cosine_w",
    "w2": "ibn_w",
    "w3": "angle_w",
    "model_name": "model_name_or_path",
    "pretrained_model_path": "model_name_or_path",
    "save_dir": "output_dir",
    "maxlen": "max_length",
}
_VALIDATION = "validation rows are those of --valid_name_or_path"
DROPPED = {
    "dataset_seed": "rows are shuffled by --seed",
    "wandb_project": "set WANDB_PROJECT, with --report_to wandb",
    "wandb_log_model": "set WANDB_LOG_MODEL, with --report_to wandb",
    "valid_name_or_path_for_callback": _VALIDATION,
    "valid_subset_name_for_callback": _VALIDATION,
    "valid_split_name_for_callback": _VALIDATION,
}
REFUSED = {
    **dict.fromkeys(("apply_tdmse", "tdmse_kl_temperature"), "2DMSE gave way to ESE, which is left out for now"),
    **dict.fromkeys(
        ("teacher_name_or_path", "fixed_teacher_name_or_path", "teacher_pooling_strategy"),
        "training on a teacher is left out for now",
    ),
}
