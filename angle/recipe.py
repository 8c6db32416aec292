"""The settings of an AnglE training: the shared ones, prompts, loss weights and temperatures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from common.recipe import TrainConfig


def _loss(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help, "group": "loss"})


@dataclass(kw_only=True)
class AngleConfig(TrainConfig):
    """The shared settings, and those of AnglE; defaults of angle_emb 0.6.1."""

    pooling_strategy: str | None = field(
        default=None, metadata={"help": "default: last token for LLMs, cls for encoders", "group": "model"}
    )
    is_llm: bool | None = field(
        default=None, metadata={"help": "checked against the model; default: what it is", "group": "model"}
    )
    text_prompt: str | None = field(
        default=None, metadata={"help": "A, B, C or a prompt with {text}; of text1/text2", "group": "prompts"}
    )
    query_prompt: str | None = field(
        default=None, metadata={"help": "of the query column; default: text_prompt", "group": "prompts"}
    )
    doc_prompt: str | None = field(
        default=None, metadata={"help": "of positive and negative; default: text_prompt", "group": "prompts"}
    )
    cosine_w: float = _loss(0.0, "weight of the CoSENT term")
    ibn_w: float = _loss(1.0, "weight of the in-batch-negative term")
    cln_w: float = _loss(1.0, "weight of the term with hard negatives")
    angle_w: float = _loss(0.02, "weight of the angle term")
    cosine_tau: float = _loss(20.0, "scale of the CoSENT term")
    ibn_tau: float = _loss(20.0, "scale of the contrastive terms")
    angle_tau: float = _loss(20.0, "scale of the angle term")
    angle_pooling_strategy: str = _loss("sum", "sum or mean over the complex parts")
    ibn_positive_threshold: float | None = _loss(None, "pairs with a higher label are positives; default: label >= 1")
