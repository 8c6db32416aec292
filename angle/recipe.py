"""The settings of an AnglE training: the shared ones, prompts, loss weights and temperatures."""

from __future__ import annotations

from dataclasses import dataclass, field

from common.angle_recipe import AngleLossConfig, loss_flag


@dataclass(kw_only=True)
class AngleConfig(AngleLossConfig):
    """The shared settings, and those of AnglE; defaults of angle_emb 0.6.1."""

    text_prompt: str | None = field(
        default=None, metadata={"help": "A, B, C or a prompt with {text}; of text1/text2", "group": "prompts"}
    )
    query_prompt: str | None = field(
        default=None, metadata={"help": "of the query column; default: text_prompt", "group": "prompts"}
    )
    doc_prompt: str | None = field(
        default=None, metadata={"help": "of positive and negative; default: text_prompt", "group": "prompts"}
    )
    cln_w: float = loss_flag(1.0, "weight of the term with hard negatives")
