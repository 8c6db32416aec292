"""The flags of `python -m benchmarks ...` that say which model to load and how it encodes.

Every method by its name in the registry; a paper's own programs have `common.model_flags`, with the released names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from common import registry
from common.errors import InputError
from common.flags import flag

if TYPE_CHECKING:
    from common.encoder import Encoder


def check_counts(config: Any, *names: str) -> None:
    """Hold fields that count something against the least there can be; None: nothing was said.

    Raises:
        InputError: one is below 1.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and value < 1:
            raise InputError(f"--{name} {value}: must be at least 1")


@dataclass(kw_only=True)
class ModelChoice:
    """A method, a model, its adapters, and how it is loaded."""

    method: str = flag("sentence-transformer", "a method of `python -m benchmarks list`", "model")
    model: str | None = flag(None, "folder, short name or hub id; default: the method's", "model")
    adapter: list[str] = flag((), "LoRA adapters, stacked in order", "model")
    merge_adapter: bool = flag(
        False,
        "merge the adapters into the weights: 1.8 times as fast on a CPU; the same in fp32, in bf16 up to its rounding",
        "model",
    )
    template: str | None = flag(None, "prompt with {text}; default: the method's", "model")
    pooling: str | None = flag(None, "default: the method's", "model")
    max_length: int | None = flag(None, "tokens per text; default: the method's", "model")
    compat: list[str] = flag((), "released quirks to copy, by name", "model")
    options: dict[str, Any] = flag(None, "more options of the method's loader, as JSON", "model")

    device: str | None = flag(None, "default: what is there", "speed")
    dtype: str = flag("auto", "auto, float32, bfloat16, float16", "speed")
    quantize: Literal["8bit", "4bit"] | None = flag(None, "bitsandbytes", "speed")

    def __post_init__(self) -> None:
        self.options = dict(self.options or {})
        check_counts(self, "max_length")

    def load(self) -> Encoder:
        """The encoder.

        Raises:
            InputError: no such method, model or compat name, or options that do not fit.
        """
        given: dict[str, Any] = {name: getattr(self, name) for name in ("template", "pooling", "max_length")}
        given["merge_adapter"] = self.merge_adapter or None
        return registry.load(
            self.method,
            self.model,
            adapter=list(self.adapter) or None,
            device=self.device,
            dtype=self.dtype,
            quantize=self.quantize,
            compat=sorted(registry.check_compat(self.compat)),
            **{name: value for name, value in given.items() if value is not None},
            **self.options,
        )


@dataclass(kw_only=True)
class EncodeFlags:
    """On what, and in what batches, texts are encoded."""

    batch_size: int | None = flag(None, "texts per batch, at most", "speed")
    max_batch_tokens: int | None = flag(None, "padded tokens per batch; default: by device", "speed")
    devices: list[str] = flag((), "several, such as cuda:0 cuda:1", "speed")

    def __post_init__(self) -> None:
        check_counts(self, "batch_size", "max_batch_tokens")

    def encode_options(self) -> dict[str, Any]:
        """Of `Encoder.encode`, where they were given."""
        given = {
            "batch_size": self.batch_size,
            "max_batch_tokens": self.max_batch_tokens,
            "devices": list(self.devices),
        }
        return {name: value for name, value in given.items() if value}
