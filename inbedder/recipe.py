"""The settings of an InBedder training: the shared ones, the prompt, and how answers are prepared."""

from __future__ import annotations

from dataclasses import dataclass

from common.errors import InputError
from common.flags import flag
from common.recipe import TrainConfig
from inbedder.defaults import MAX_LENGTH
from inbedder.prompts import check_asks


@dataclass(kw_only=True)
class InbedderConfig(TrainConfig):
    """The shared settings, and InBedder's; defaults as published: all weights, lr 2e-5, cosine, batch 64, one epoch."""

    template: str | None = flag(
        None, "pattern with {input} and {instruction}, or inbedder, alpaca, llama-2-chat; default: inbedder", "model"
    )
    mask_length: int | None = flag(
        None, "mask tokens that the saved masked model reads texts with; trained is on as many as an answer has; "
        "default: 3", "model"
    )  # fmt: skip
    max_length: int = flag(MAX_LENGTH, "tokens of prompt and answer together", "model")

    train_name_or_path: str | None = flag(
        None, "rows {instruction, input, output} (.json, .jsonl, .gz), a hub data set, or pairs or triplets", "data"
    )
    simplify_answers: bool = flag(True, "take English stop words out of the answers; 0: as they are", "data")
    question: str | None = flag(
        None, "what is asked about rows without a question (pairs, triplets); default: that of encoding", "data"
    )
    shuffle_answers: bool = flag(False, "control run: every row gets the answer of another, over all rows", "data")

    apply_lora: bool | None = flag(False, "train a LoRA adapter; 0: all weights, the head too, as published", "lora")

    batch_size: int = flag(64, "rows per process and forward", "training")
    learning_rate: float = flag(2e-5, "peak learning rate", "training")
    warmup_steps: float = flag(0.03, "steps of linear warm-up; below 1: a share of all steps", "training")
    lr_scheduler_type: str = flag("cosine", "as in transformers", "training")
    stop_after_n_steps: int | None = flag(None, "end there, on a schedule planned for all epochs", "training")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mask_length is not None and self.mask_length < 1:
            raise InputError(f"--mask_length {self.mask_length}: must be at least 1")
        if self.template is not None:
            check_asks(self.template, "--template")
        if self.stop_after_n_steps is not None and self.stop_after_n_steps < 1:
            raise InputError(f"--stop_after_n_steps {self.stop_after_n_steps}: must be at least 1")
        if self.streaming:
            raise InputError("--streaming: InBedder reads its rows into memory; leave it out")
        if self.grad_cache_tokens is not None:
            raise InputError("--grad_cache_tokens: this loss has no negatives; lower --batch_size, and accumulate")
        self.shuffle_positives = self.shuffle_answers = self.shuffle_answers or self.shuffle_positives
