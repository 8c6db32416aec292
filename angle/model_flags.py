"""The flags that say which model to load and how; of eval.py, infer.py and `AnglE.from_pretrained`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from angle.encoder import check_is_llm, lookup_model, prompt_text
from common.backbone import adapter_base
from common.encoder import Encoder
from common.errors import InputError
from common.registry import check_compat, load

# Names of the released programs that stand for one of ours.
ALIASES = {
    "pretrained_lora_path": "lora_name_or_path",
    "lora_weight": "lora_name_or_path",
    "torch_dtype": "dtype",
    "model": "model_name_or_path",
    "adapter": "lora_name_or_path",
}
DROPPED = {
    "tokenizer_name": "the model's own tokenizer is used",
    "checkpoint_path": "only the released --mode dev wrote there",
}
_ESE = "Espresso (ESE) is left out for now"
REFUSED = {
    "layer_index": f"{_ESE}; the last layer is used",
    "end_with_eos": "the template says how a text ends; write the token into --prompt",
    "billm_model_class": "use bellm/eval.py",
    "apply_billm": "use bellm/eval.py",
}


def _flag(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help, "group": "model"})


@dataclass(kw_only=True)
class ModelFlags:
    """A model, its adapters, and how texts are read."""

    model_name_or_path: str | None = _flag(None, "folder, short name or hub id; default: the base of the adapter")
    pretrained_model_path: str | None = _flag(None, "trained weights, in place of those of model_name_or_path")
    lora_name_or_path: list[str] = _flag((), "LoRA adapters, stacked in order")
    prompt: str | None = _flag(None, "A, B, C or a text with {text}; default: the model's own; LLMs: A")
    pooling_strategy: str | None = _flag(None, "default: the model's own; LLMs: last token, encoders: cls")
    avg: bool = _flag(False, "the mean over tokens; short for --pooling_strategy mean")
    is_llm: bool | None = _flag(None, "checked against the model; default: what it is")
    max_length: int | None = _flag(None, "tokens per text, prompt included; default: the model's own, 512")
    load_kbit: Literal[4, 8, 16, 32] | None = _flag(
        None, "4 or 8: quantised (bitsandbytes); 16: bf16 where the hardware has it; 32: fp32"
    )
    dtype: str = _flag("auto", "auto, float32, bfloat16, float16")
    device: str | None = _flag(None, "cpu, cuda, ...; default: what is there")
    compat: list[str] = _flag((), "released quirks to copy, by name")

    def __post_init__(self) -> None:
        if self.max_length is not None and self.max_length < 1:
            raise InputError(f"--max_length {self.max_length}: must be at least 1")
        if self.avg:
            if self.pooling_strategy not in (None, "mean", "avg"):
                raise InputError(f"--avg and --pooling_strategy {self.pooling_strategy}: give one of them")
            self.pooling_strategy = "mean"
        if self.load_kbit == 32:
            self.dtype = "float32"

    def resolve(self) -> None:
        """Fill in, in place, what a released id or a letter stands for; loads nothing.

        Raises:
            InputError: no model at all, or an unknown compat name.
        """
        self.compat = sorted(check_compat(self.compat))
        self.prompt = prompt_text(self.prompt) if self.prompt else None
        model = self.pretrained_model_path or self.model_name_or_path
        if not model and not self.lora_name_or_path:
            raise InputError("missing: --model_name_or_path (a folder, a short name such as smollm2-135m, or a hub id)")
        known = lookup_model(model, list(self.lora_name_or_path))
        self.pretrained_model_path, self.model_name_or_path = None, known.base or None
        self.lora_name_or_path = list(known.adapter)
        self.prompt = self.prompt or known.options.get("template")
        self.pooling_strategy = self.pooling_strategy or known.options.get("pooling")

    def load(self) -> Encoder:
        """The encoder.

        Raises:
            InputError: no such model, or one that the flags do not fit.
        """
        model = self.pretrained_model_path or self.model_name_or_path
        if not model and self.lora_name_or_path:
            model = lookup_model(None, self.lora_name_or_path).base or adapter_base(self.lora_name_or_path[0])
        given = {"template": self.prompt, "pooling": self.pooling_strategy, "max_length": self.max_length}
        given["template"] = prompt_text(self.prompt) if self.prompt else None
        encoder = load(
            "angle",
            model,
            adapter=list(self.lora_name_or_path) or None,
            device=self.device,
            dtype=self.dtype,
            quantize={4: "4bit", 8: "8bit"}.get(self.load_kbit or 0),
            **{name: value for name, value in given.items() if value is not None},
            **({"compat": check_compat(self.compat)} if self.compat else {}),
        )
        check_is_llm(encoder, self.is_llm)
        return encoder
