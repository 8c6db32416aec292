"""`BeLLM`: what the released README's `model.AnglE` is to its users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from bellm.model_flags import BellmFlags
from bellm.prompts import PROMPT
from common.face import PromptedModel
from common.model_flags import ModelFlags


class BeLLM(PromptedModel):
    """BeLLM with the released interface; texts go into the model's own prompt until another is set.

    (The released class puts AnglE's prompt around them until then, whatever the model was trained with.)
    `BiLLM_START_INDEX` counts at the call of `from_pretrained`, not at import.
    """

    FLAGS: ClassVar[type[ModelFlags]] = BellmFlags
    PROMPT: ClassVar[str] = PROMPT
    START: ClassVar[str | None] = None
    REFUSED: ClassVar[Mapping[str, str]] = {
        "load_mlm_model": "no released training uses it",
        "kbit_kwargs": "4-bit is nf4 with double quantisation, as in the released training",
        "model_kwargs": "give dtype, device, load_kbit",
        "tokenizer_name_or_path": "the model's own tokenizer is used",
    }
    TRAINING: ClassVar[str] = "bellm.train"
