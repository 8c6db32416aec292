"""The flags that say which model to load and how, of every paper's eval.py and infer.py; a paper adds its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from common.errors import InputError

if TYPE_CHECKING:
    from common.checkpoints import Checkpoint
    from common.encoder import Encoder

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


def model_flag(default: Any, help: str) -> Any:
    """A field that is one of these flags."""
    return field(default=default, metadata={"help": help, "group": "model"})


@dataclass(kw_only=True)
class ModelFlags:
    """A model, its adapters, and how texts are read.

    A paper's subclass sets METHOD (its name in the registry), CHECKPOINTS (its released models) and PROMPTS
    (prompts that have a name there).
    """

    METHOD: ClassVar[str]
    CHECKPOINTS: ClassVar[Path]
    PROMPTS: ClassVar[Mapping[str, str]] = {}

    model_name_or_path: str | None = model_flag(None, "folder, short name or hub id; default: the base of the adapter")
    pretrained_model_path: str | None = model_flag(None, "trained weights, in place of those of model_name_or_path")
    lora_name_or_path: list[str] = model_flag((), "LoRA adapters, stacked in order")
    merge_adapter: bool = model_flag(
        False,
        "merge the adapters into the weights: 1.8 times as fast on a CPU; the same in fp32, in bf16 up to its rounding",
    )
    prompt: str | None = model_flag(None, "a prompt with {text}, or its name in the paper; default: the model's own")
    pooling_strategy: str | None = model_flag(None, "default: the model's own")
    avg: bool = model_flag(False, "the mean over tokens; short for --pooling_strategy mean")
    is_llm: bool | None = model_flag(None, "checked against the model; default: what it is")
    max_length: int | None = model_flag(None, "tokens per text, prompt included; default: the model's own, 512")
    load_kbit: Literal[4, 8, 16, 32] | None = model_flag(
        None, "4 or 8: quantised (bitsandbytes); 16: bf16 where the hardware has it; 32: fp32"
    )
    dtype: str = model_flag("auto", "auto, float32, bfloat16, float16")
    device: str | None = model_flag(None, "cpu, cuda, ...; default: what is there")
    compat: list[str] = model_flag((), "released quirks to copy, by name")

    def __post_init__(self) -> None:
        if self.max_length is not None and self.max_length < 1:
            raise InputError(f"--max_length {self.max_length}: must be at least 1")
        if self.avg:
            if self.pooling_strategy not in (None, "mean", "avg"):
                raise InputError(f"--avg and --pooling_strategy {self.pooling_strategy}: give one of them")
            self.pooling_strategy = "mean"
        if self.load_kbit == 32:
            self.dtype = "float32"

    def known(self) -> Checkpoint:
        """What is known of the model by its name or from its folder.

        Raises:
            InputError: no model at all.
        """
        from common.checkpoints import known_model

        model = self.pretrained_model_path or self.model_name_or_path
        if not model and not self.lora_name_or_path:
            raise InputError("missing: --model_name_or_path (a folder, a short name such as smollm2-135m, or a hub id)")
        return known_model(self.CHECKPOINTS, model, list(self.lora_name_or_path))

    def resolve(self) -> None:
        """Fill in, in place, what a released id or the name of a prompt stands for; loads nothing.

        Raises:
            InputError: no model at all, or an unknown compat name.
        """
        from common.registry import check_compat

        self.compat = sorted(check_compat(self.compat))
        known = self.known()
        self.pretrained_model_path, self.model_name_or_path = None, known.base or None
        self.lora_name_or_path = list(known.adapter)
        self.prompt = self.prompt_text() or known.options.get("template")
        self.pooling_strategy = self.pooling_strategy or known.options.get("pooling")

    def prompt_text(self) -> str | None:
        """The prompt, its name replaced by what it stands for."""
        return self.PROMPTS.get(self.prompt, self.prompt) if self.prompt else None

    def options(self) -> dict[str, Any]:
        """What the method's `load` takes besides model, adapter and precision; a paper adds its own flags."""
        given: dict[str, Any] = {
            "template": self.prompt_text(),
            "pooling": self.pooling_strategy,
            "max_length": self.max_length,
            "compat": list(self.compat) or None,
            "merge_adapter": self.merge_adapter or None,
        }
        return {name: value for name, value in given.items() if value is not None}

    def load(self) -> Encoder:
        """The encoder.

        Raises:
            InputError: no such model, or one that the flags do not fit.
        """
        from common.backbone import adapter_base
        from common.registry import load

        model = self.pretrained_model_path or self.model_name_or_path
        if not model and self.lora_name_or_path:
            model = self.known().base or adapter_base(self.lora_name_or_path[0])
        encoder = load(
            self.METHOD,
            model,
            adapter=list(self.lora_name_or_path) or None,
            device=self.device,
            dtype=self.dtype,
            quantize={4: "4bit", 8: "8bit"}.get(self.load_kbit or 0),
            **self.options(),
        )
        check_is_llm(encoder, self.is_llm)
        return encoder


def check_is_llm(encoder: Encoder, is_llm: bool | None) -> None:
    """Hold the flag `--is_llm` against what the model is; None: nothing was said.

    Raises:
        InputError: they differ.
    """
    if is_llm is not None and is_llm != encoder.backbone.is_decoder:
        kind = "a decoder (LLM)" if encoder.backbone.is_decoder else "an encoder"
        raise InputError(f"--is_llm {int(is_llm)}: {encoder.backbone.source.name} is {kind}; leave the flag out")
