"""The settings of an MNTP training: the shared ones, masking, packing and the text."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.errors import InputError
from common.flags import flag
from common.recipe import TrainConfig

OUTPUT = Path("ckpts/mntp")
WIKITEXT, WIKITEXT_SUBSET = "Salesforce/wikitext", "wikitext-103-raw-v1"
LORA_MODULES = ("q_proj", "v_proj", "k_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
# Shared settings of trainings on rows of texts, that mean nothing here.
UNUSED = ("streaming", "grad_cache_tokens", "shuffle_positives", "filter_duplicate", "valid_subset_name")


@dataclass(kw_only=True)
class MntpConfig(TrainConfig):
    """The shared settings, and those of MNTP; defaults of the released `run_mntp.py`."""

    output_dir: Path = flag(OUTPUT, "where checkpoints and the adapter go; default: with the model's name", "saving")
    model_revision: str | None = flag(None, "of a hub model", "model")
    load_kbit: Literal[4, 8, 16, 32] | None = flag(
        None, "4 or 8: quantised base (QLoRA); 16: bf16 or fp16; 32: fp32; default: by hardware", "model"
    )
    max_length: int = flag(512, "tokens per block", "data")
    train_name_or_path: str | None = flag(
        None, "text file, rows with a column text, shipped:NAME, or hub data set; default: wikitext-103", "data"
    )
    valid_name_or_path: str | None = flag(
        None, "text to validate on; default: the hub data set's split, else the first percent of the text", "data"
    )
    shipped: bool = flag(False, "train on the sentences that ship, for a trial", "data")
    validation_split_percentage: float = flag(5.0, "percent of the text, where there is no other validation", "data")
    limit: int | None = flag(None, "use the first blocks only", "data")
    max_eval_samples: int | None = flag(None, "validate on the first blocks only", "data")
    line_by_line: bool = flag(False, "every text is a block, cut to max_length", "data")
    cross_document_attention: bool = flag(
        False, "tokens see other documents of their block, as in the released code", "data"
    )

    data_collator_type: Literal["default", "bert", "roberta", "all_mask"] = flag(
        "default", "default or bert: 80% mask, 10% random, 10% as it is; roberta or all_mask: 100% mask", "masking"
    )
    mlm_probability: float = flag(0.15, "of a token to be selected", "masking")
    mask_token_type: Literal["blank", "eos", "mask"] = flag(
        "blank", "for tokenizers without a mask token: the token _, the end token, or one of its own", "masking"
    )
    shuffle_labels: bool = flag(False, "control run: the targets of a batch change places", "masking")

    lora_r: int = flag(8, "rank", "lora")
    lora_alpha: int = flag(0, "scaling, times 1/r; 0: twice the rank", "lora")
    lora_dropout: float = flag(0.05, "dropout in front of the adapter", "lora")
    lora_target_modules: list[str] | None = flag(LORA_MODULES, "module names; none: all linear layers", "lora")

    epochs: float = flag(3.0, "passes over the data", "training")
    stop_after_n_steps: int | None = flag(10_000, "end there, on a schedule planned for all epochs", "training")
    batch_size: int = flag(8, "blocks per process and forward", "training")
    eval_batch_size: int | None = flag(None, "blocks per forward in validation; default: batch_size", "training")
    learning_rate: float = flag(5e-5, "peak learning rate", "training")
    warmup_steps: float = flag(0.0, "steps of linear warm-up; below 1: a share of all steps", "training")

    report_to: list[str] = flag(("tensorboard",), "tensorboard, wandb, trackio, none", "saving")
    eval_steps: int = flag(100, "steps between validations", "saving")

    def __post_init__(self) -> None:
        super().__post_init__()
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        for name in UNUSED:
            if getattr(self, name) != defaults[name]:
                raise InputError(f"--{name}: MNTP trains on plain text and has no use for it; leave it out")
        if not 0 < self.mlm_probability <= 1:
            raise InputError(f"--mlm_probability {self.mlm_probability}: must be above 0 and at most 1")
        if not 0 < self.validation_split_percentage < 100:
            raise InputError(
                f"--validation_split_percentage {self.validation_split_percentage}: must be above 0 and below 100"
            )
        if self.line_by_line and self.cross_document_attention:
            raise InputError("--line_by_line and --cross_document_attention: a block is one text; give one of them")
        for name in ("max_eval_samples", "stop_after_n_steps", "eval_batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name} {value}: must be at least 1")
        if self.shipped and self.train_name_or_path:
            raise InputError(f"--shipped and --train_name_or_path {self.train_name_or_path}: give one of them")
        if not self.shipped and not self.train_name_or_path:
            self.train_name_or_path, self.train_subset_name = WIKITEXT, self.train_subset_name or WIKITEXT_SUBSET
        self.lora_alpha = self.lora_alpha or 2 * self.lora_r
        if self.output_dir == OUTPUT and self.model_name_or_path:
            self.output_dir = OUTPUT / Path(self.model_name_or_path).name
