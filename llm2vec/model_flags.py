"""Which LLM2Vec model to load; of eval.py and infer.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from common import model_flags
from common.model_flags import ModelFlags, model_flag

ALIASES = {
    **model_flags.ALIASES,
    "base_model_name_or_path": "model_name_or_path",
    "model_name": "model_name_or_path",
    "peft_model_name_or_path": "lora_name_or_path",
    "peft_addr": "lora_name_or_path",
    "pooling_mode": "pooling_strategy",
    "output_dir": "output",
}
DROPPED = model_flags.DROPPED
REFUSED = {"task_to_instructions_fp": "give the instruction of the tasks with --instruction"}
# `--enable_bidirectional 0` and `--bidirectional 0` of the released programs.
VALUES = {name: {"0": "causal", "1": "bidirectional"} for name in ("enable_bidirectional", "bidirectional")}
ALIASES |= dict.fromkeys(VALUES, "attention")


@dataclass(kw_only=True)
class Llm2VecFlags(ModelFlags):
    """The shared flags, for LLM2Vec."""

    METHOD: ClassVar[str] = "llm2vec"
    CHECKPOINTS: ClassVar[Path] = Path(__file__).with_name("checkpoints.yaml")

    attention: Literal["bidirectional", "causal"] | None = model_flag(None, "default: the model's own, bidirectional")
    chat_template: str | None = model_flag(
        None, "a chat template by name; default: that of a released model, else none"
    )
    skip_instruction: bool | None = model_flag(None, "leave instruction and BOS out of the pooling; default: yes")
    doc_max_length: int | None = model_flag(None, "tokens of the text alone; default: the model's own, 400")

    def options(self) -> dict[str, Any]:
        """The shared options, and LLM2Vec's own."""
        own = ("attention", "chat_template", "skip_instruction", "doc_max_length")
        return super().options() | {n: getattr(self, n) for n in own if getattr(self, n) is not None}
