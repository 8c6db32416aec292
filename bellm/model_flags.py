"""Which BeLLM model to load; of eval.py, infer.py and `BeLLM.from_pretrained`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bellm.prompts import DEGRADATION, PROMPT
from bellm.start_index import start_index
from common import model_flags
from common.errors import InputError
from common.model_flags import ModelFlags, model_flag

if TYPE_CHECKING:
    from common.encoder import Encoder

ALIASES = {
    **model_flags.ALIASES,
    "apply_bfloat16": "dtype",
    "start_bilayer_index": "bidirectional_from",
    "prompt_template": "prompt",
}
DROPPED = model_flags.DROPPED
REFUSED = {
    "n_layer": "python -m benchmarks layers --method bellm scores every layer in one run",
    "n_layers": "python -m benchmarks layers --method bellm scores every layer in one run",
}
VALUES = {"apply_bfloat16": {"0": "float16", "1": "bfloat16"}}


@dataclass(kw_only=True)
class BellmFlags(ModelFlags):
    """The shared flags, for BeLLM, and which layers are bidirectional."""

    METHOD: ClassVar[str] = "bellm"
    CHECKPOINTS: ClassVar[Path] = Path(__file__).with_name("checkpoints.yaml")
    PROMPTS: ClassVar[Mapping[str, str]] = {"bellm": PROMPT, "degradation": DEGRADATION}

    bidirectional_from: int | None = model_flag(
        None, "first bidirectional layer, 0-based; default: that of the model, BiLLM_START_INDEX, the last"
    )
    apply_billm: bool = model_flag(True, "0: fully causal, as a baseline")
    billm_model_class: str | None = model_flag(None, "checked against the model, such as LlamaForCausalLM")

    def options(self) -> dict[str, Any]:
        """The shared options, and the first bidirectional layer where one was asked for."""
        asked = start_index(self.bidirectional_from) if self.apply_billm else -1
        return super().options() | ({} if asked is None else {"bidirectional_from": asked})

    def load(self) -> Encoder:
        """The encoder; see `ModelFlags.load`."""
        encoder = super().load()
        check_family(encoder, self.billm_model_class)
        return encoder


def check_family(encoder: Encoder, class_name: str | None) -> None:
    """Hold the released flag `--billm_model_class` against the model; None: nothing was said.

    Raises:
        InputError: the class is of another family.
    """
    if class_name is None:
        return
    family = re.sub(r"(Model|For[A-Z]\w*)$", "", class_name).lower()
    found = str(encoder.backbone.config.model_type).replace("_", "").replace("-", "")
    if family != found:
        raise InputError(
            f"--billm_model_class {class_name}: {encoder.backbone.source.name} is of {found!r}; leave it out"
        )
