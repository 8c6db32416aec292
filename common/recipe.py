"""The settings that every training has: model, data, LoRA, optimisation, saving. Papers add their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from common.errors import InputError
from common.flags import flag


@dataclass(kw_only=True)
class TrainConfig:
    """What `fit` needs to know besides encoder, rows and objective; the flags of every `train.py`."""

    output_dir: Path = field(metadata={"help": "where checkpoints and the final model go", "group": "saving"})

    model_name_or_path: str | None = flag(None, "local folder, short name or hub id of the base model", "model")
    pretrained_lora_path: str | None = flag(None, "a LoRA adapter to go on training", "model")
    load_kbit: Literal[4, 8, 16, 32] | None = flag(
        None, "4 or 8: quantised base (QLoRA); 16: bf16 or fp16; 32: fp32; default: by hardware", "model"
    )
    attn_implementation: str | None = flag(None, "eager, sdpa, flash_attention_2; default: the library's", "model")
    max_length: int = flag(512, "tokens per sequence, prompt included", "model")
    compat: list[str] = flag((), "released quirks to copy, by name", "model")
    device: str | None = flag(None, "cpu or cuda; default: what is there", "model")

    train_name_or_path: str | None = flag(None, "local file, shipped:NAME, or hub data set", "data")
    data_dir: Path | None = flag(None, "folder in which local files are looked up", "data")
    train_subset_name: str | None = flag(None, "configuration of a hub data set", "data")
    train_split_name: str = flag("train", "split of a hub data set", "data")
    valid_name_or_path: str | None = flag(None, "rows to measure the loss on while training", "data")
    valid_subset_name: str | None = flag(None, "configuration of that hub data set", "data")
    valid_split_name: str = flag("train", "split of that hub data set", "data")
    column_rename_mapping: str | None = flag(None, "old:new;old:new", "data")
    streaming: bool = flag(False, "read the hub data set while training (needs --max_steps)", "data")
    limit: int | None = flag(None, "use the first rows only", "data")
    filter_duplicate: bool = flag(True, "equal texts of a batch are neither positive nor negative", "data")
    shuffle_positives: bool = flag(False, "control run: give every row the positive of another", "data")

    apply_lora: bool | None = flag(None, "train a LoRA adapter; default: yes for LLMs", "lora")
    lora_r: int = flag(32, "rank", "lora")
    lora_alpha: int = flag(32, "scaling, times 1/r", "lora")
    lora_dropout: float = flag(0.1, "dropout in front of the adapter", "lora")
    lora_target_modules: list[str] | None = flag(None, "module names; default: all linear layers", "lora")

    epochs: float = flag(1.0, "passes over the data", "training")
    max_steps: int = flag(-1, "optimiser steps; -1: by epochs", "training")
    max_tokens: int | None = flag(None, "training budget in tokens read; overrides epochs", "training")
    batch_size: int = flag(32, "rows per process and forward", "training")
    gradient_accumulation_steps: int = flag(1, "batches per step (does not enlarge the pool of negatives)", "training")
    grad_cache_tokens: int | None = flag(
        None, "GradCache: memory of a batch of so many tokens, gradients of the whole batch", "training"
    )
    gradient_checkpointing: bool = flag(False, "recompute activations to save memory", "training")
    learning_rate: float = flag(1e-5, "peak learning rate", "training")
    warmup_steps: float = flag(100.0, "steps of linear warm-up; below 1: a share of all steps", "training")
    lr_scheduler_type: str = flag("linear", "as in transformers", "training")
    optim: str = flag("adamw_torch", "as in transformers", "training")
    weight_decay: float = flag(0.0, "of AdamW", "training")
    max_grad_norm: float = flag(1.0, "gradient clipping", "training")
    seed: int = flag(42, "of shuffling, initialisation and dropout", "training")
    bf16: bool | None = flag(None, "bf16 autocast; default: for LLMs where it is native", "training")
    fp16: bool = flag(False, "fp16 autocast (CUDA)", "training")
    workers: int = flag(0, "processes that prepare batches", "training")
    torch_compile: bool = flag(False, "compile the model", "training")
    deepspeed: str | None = flag(None, "DeepSpeed configuration file", "training")
    fsdp: str | None = flag(None, "FSDP options, as in transformers", "training")
    ddp_backend: str | None = flag(None, "nccl or gloo; default: by device", "training")

    logging_steps: int = flag(10, "steps between log lines", "saving")
    report_to: list[str] = flag(("none",), "tensorboard, wandb, trackio, none", "saving")
    save_strategy: Literal["steps", "epoch", "no"] = flag("steps", "when to checkpoint", "saving")
    save_steps: int = flag(500, "steps between checkpoints", "saving")
    save_minutes: float | None = flag(15.0, "minutes between checkpoints, besides save_steps", "saving")
    save_total_limit: int = flag(1, "checkpoints kept", "saving")
    eval_strategy: Literal["steps", "epoch", "no"] = flag("steps", "when to measure the validation loss", "saving")
    eval_steps: int = flag(1000, "steps between validations", "saving")
    resume: bool = flag(True, "go on from the last checkpoint in output_dir, if there is one", "saving")
    merge: bool = flag(False, "save whole weights with the adapter merged in", "saving")
    push_to_hub: bool = flag(False, "upload as in transformers", "saving")
    hub_model_id: str | None = flag(None, "repository to upload to", "saving")
    hub_private_repo: bool = flag(True, "make it private", "saving")
    dry_run: bool = field(
        default=False, metadata={"help": "print the resolved recipe and stop", "group": "saving", "recipe": False}
    )

    def __post_init__(self) -> None:
        for name in (
            "batch_size",
            "gradient_accumulation_steps",
            "max_length",
            "lora_r",
            "logging_steps",
            "save_steps",
        ):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} {getattr(self, name)}: must be at least 1")
        for name in ("max_tokens", "grad_cache_tokens", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name} {value}: must be at least 1")
        if self.epochs <= 0 and self.max_steps < 1 and not self.max_tokens:
            raise InputError(f"--epochs {self.epochs}: must be above 0 (or give --max_steps or --max_tokens)")
        if self.bf16 and self.fp16:
            raise InputError("--bf16 and --fp16: give one of them")
        if self.learning_rate <= 0:
            raise InputError(f"--learning_rate {self.learning_rate}: must be above 0")
        if self.streaming and self.max_steps < 1:
            raise InputError("--streaming needs --max_steps: the length of a stream is not known")

    @property
    def rename(self) -> dict[str, str]:
        """`column_rename_mapping` as a dict."""
        pairs = [p for p in (self.column_rename_mapping or "").split(";") if p.strip()]
        for pair in pairs:
            if pair.count(":") != 1:
                raise InputError(f"--column_rename_mapping {pair!r}: write old:new, several with ; between")
        return {old.strip(): new.strip() for old, new in (p.split(":") for p in pairs)}

    @property
    def quantize(self) -> str | None:
        """`load_kbit` as the backbone's `quantize`."""
        return {4: "4bit", 8: "8bit"}.get(self.load_kbit or 0)
