"""Which AnglE model to load; of eval.py, infer.py and `AnglE.from_pretrained`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from angle.prompts import Prompts
from common.model_flags import ALIASES, DROPPED, ModelFlags

__all__ = ["ALIASES", "DROPPED", "REFUSED", "AngleFlags"]

_ESE = "Espresso (ESE) is left out for now"
REFUSED = {
    "layer_index": f"{_ESE}; the last layer is used",
    "end_with_eos": "the template says how a text ends; write the token into --prompt",
    "billm_model_class": "use bellm/eval.py",
    "apply_billm": "use bellm/eval.py",
}


@dataclass(kw_only=True)
class AngleFlags(ModelFlags):
    """The shared flags, for AnglE."""

    METHOD: ClassVar[str] = "angle"
    CHECKPOINTS: ClassVar[Path] = Path(__file__).with_name("checkpoints.yaml")
    PROMPTS: ClassVar[Mapping[str, str]] = Prompts.list_prompts()
