"""The settings of a BeLLM training: those of AnglE's losses, the prompt, and which layers are bidirectional."""

from __future__ import annotations

from dataclasses import dataclass, field

from bellm.prompts import PROMPT
from common.angle_recipe import AngleLossConfig, loss_flag


@dataclass(kw_only=True)
class BellmConfig(AngleLossConfig):
    """The shared settings, and those of BeLLM; the loss defaults to the paper's contrastive term."""

    angle_w: float = loss_flag(0.0, "weight of the angle term")
    prompt: str = field(default=PROMPT, metadata={"help": "the prompt, with {text}", "group": "model"})
    bidirectional_from: int | None = field(
        default=None,
        metadata={
            "help": "first bidirectional layer, 0-based; default: BiLLM_START_INDEX, else the last",
            "group": "model",
        },
    )
    apply_billm: bool = field(default=True, metadata={"help": "0: fully causal, as a baseline", "group": "model"})
    billm_model_class: str | None = field(
        default=None, metadata={"help": "checked against the model, such as LlamaForCausalLM", "group": "model"}
    )
