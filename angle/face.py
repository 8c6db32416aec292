"""`AnglE` as the users of the released package know it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from angle.model_flags import AngleFlags
from angle.prompts import Prompts
from common.face import PromptedModel
from common.model_flags import ModelFlags

_BELLM = "use bellm.BeLLM"


class AnglE(PromptedModel):
    """AnglE with the released package's interface; as there, texts go in as they are until a prompt is set."""

    FLAGS: ClassVar[type[ModelFlags]] = AngleFlags
    PROMPT: ClassVar[str] = Prompts.A
    REFUSED: ClassVar[Mapping[str, str]] = {
        "apply_billm": _BELLM,
        "billm_model_class": _BELLM,
        "load_mlm_model": "no released training uses it",
        "kbit_kwargs": "4-bit is nf4 with double quantisation, as in the released training",
        "model_kwargs": "give dtype, device, load_kbit",
        "tokenizer_name_or_path": "the model's own tokenizer is used",
    }
    TRAINING: ClassVar[str] = "angle.train"
