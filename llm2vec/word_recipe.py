"""The settings of a word-level evaluation; defaults of the released word-task configs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from common.errors import InputError
from common.flags import flag

OUTPUT = Path("ckpts/word-task")


@dataclass(kw_only=True)
class WordConfig:
    """A frozen model, words, and the probe that is trained on them."""

    model_name_or_path: str | None = flag(None, "folder, short name or hub id", "model")
    adapter: list[str] = flag((), "LoRA adapters, stacked in order", "model")
    model_class: Literal["custom", "auto"] = flag("custom", "auto: an encoder such as BERT, as it is", "model")
    bidirectional: bool = flag(True, "every token sees all others; no: causal", "model")
    model_revision: str | None = flag(None, "of a hub model", "model")
    dtype: str = flag("auto", "auto, float32, bfloat16, float16", "model")
    quantize: Literal["8bit", "4bit"] | None = flag(None, "bitsandbytes", "model")
    attn_implementation: str | None = flag(None, "eager, sdpa, flash_attention_2; default: the library's", "model")
    device: str | None = flag(None, "cpu, cuda, ...; default: what is there", "model")
    max_length: int = flag(1024, "tokens per sentence, special tokens included", "model")

    dataset_name: str = flag("conll2003", "conll2003, conll2000, a folder or a hub id", "data")
    dataset_config_name: str | None = flag(None, "configuration of a hub data set", "data")
    task: list[str] = flag(
        ("pos_tags",), "pos_tags, ner_tags, chunk_tags; several share one pass through the model", "data"
    )
    data_dir: Path | None = flag(None, "folder with the data; default: EMBED_DATA, else the hub", "data")
    train_file: Path | None = flag(None, "rows with tokens and tags, in place of dataset_name", "data")
    validation_file: Path | None = flag(None, "the same to validate on", "data")
    test_file: Path | None = flag(None, "the same to test on", "data")
    max_train_samples: int | None = flag(None, "train on the first sentences only", "data")
    max_eval_samples: int | None = flag(None, "validate and test on the first sentences only", "data")
    validation_split_percentage: float = flag(5.0, "percent of the training data, where there is no split", "data")
    shuffle_labels: bool = flag(False, "control run: the training tags change places", "data")

    retroactive_labels: Literal["next_token", "same_token"] = flag(
        "next_token", "which states stand for a word: those at its sub-tokens, or each one before", "word states"
    )
    merge_subwords: bool = flag(True, "the mean over a word's sub-tokens; no: its first sub-token alone", "word states")
    cache: Literal["auto", "memory", "disk", "none"] = flag(
        "auto", "where states are kept, so that all epochs cost one pass; none: computed for every batch", "word states"
    )
    cache_gb: float = flag(4.0, "auto: in memory up to so much, else on disk (in TMPDIR)", "word states")
    cache_dtype: Literal["float32", "float16"] = flag("float32", "float16 takes half the space", "word states")
    max_batch_tokens: int | None = flag(None, "padded tokens per batch; default: by device", "word states")

    classifier_dropout: float = flag(0.1, "in front of the classifier", "probe")
    epochs: float = flag(10.0, "passes over the data, for which the learning rate is planned", "probe")
    max_steps: int = flag(-1, "plan and train for so many steps instead", "probe")
    stop_after_n_steps: int | None = flag(4000, "end there, on a schedule planned for all epochs", "probe")
    test_step: int | None = flag(None, "test the probe as it was after so many steps; default: at the end", "probe")
    batch_size: int = flag(8, "sentences per step", "probe")
    gradient_accumulation_steps: int = flag(1, "batches per step", "probe")
    learning_rate: float = flag(5e-4, "peak learning rate", "probe")
    warmup_steps: float = flag(0.0, "steps of linear warm-up; below 1: a share of all steps", "probe")
    lr_scheduler_type: str = flag("linear", "as in transformers", "probe")
    optim: str = flag("adamw_torch", "as in transformers", "probe")
    weight_decay: float = flag(0.0, "of AdamW", "probe")
    max_grad_norm: float = flag(1.0, "gradient clipping", "probe")
    seed: int = flag(42, "of initialisation, shuffling and dropout", "probe")

    output_dir: Path = flag(OUTPUT, "where classifier and results go; default: with the model's name", "output")
    classifier_path: Path | None = flag(None, "a classifier's folder: it is tested, nothing is trained", "output")
    eval_only: bool = flag(False, "test the classifier in classifier_path, or else in output_dir", "output")
    logging_steps: int = flag(50, "steps between log lines", "output")
    report_to: list[str] = flag(("none",), "tensorboard, wandb, trackio, none", "output")
    eval_strategy: Literal["steps", "epoch", "no"] = flag("steps", "when to score the validation data", "output")
    eval_steps: int = flag(500, "steps between validations", "output")
    save_strategy: Literal["steps", "epoch", "no"] = flag("steps", "when to checkpoint", "output")
    save_steps: int = flag(250, "steps between checkpoints", "output")
    save_total_limit: int | None = flag(None, "checkpoints kept; default: all", "output")
    dry_run: bool = field(
        default=False, metadata={"help": "print the resolved recipe and stop", "group": "output", "recipe": False}
    )

    def __post_init__(self) -> None:
        self.task = list(self.task)
        if not self.task or len(set(self.task)) < len(self.task):
            raise InputError("--task: give pos_tags, ner_tags or chunk_tags, each at most once")
        for name in (
            *("max_length", "batch_size", "gradient_accumulation_steps", "logging_steps", "eval_steps", "save_steps"),
            *("max_train_samples", "max_eval_samples", "max_batch_tokens"),
            *("stop_after_n_steps", "test_step", "save_total_limit"),
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name} {value}: must be at least 1")
        if self.learning_rate <= 0:
            raise InputError(f"--learning_rate {self.learning_rate}: must be above 0")
        if not 0 <= self.classifier_dropout < 1:
            raise InputError(f"--classifier_dropout {self.classifier_dropout}: must be at least 0 and below 1")
        if self.epochs <= 0 and self.max_steps < 1:
            raise InputError(f"--epochs {self.epochs}: must be above 0 (or give --max_steps)")
        if not 0 < self.validation_split_percentage < 100:
            raise InputError(
                f"--validation_split_percentage {self.validation_split_percentage}: must be above 0 and below 100"
            )
        if self.test_step is not None and self._checkpoint_missing(self.test_step):
            raise InputError(
                f"--test_step {self.test_step}: no checkpoint is kept there; see --save_steps {self.save_steps}"
            )
        if self.test_file is None and (self.train_file or self.validation_file):
            raise InputError("--train_file: needs --test_file too")
        if self.model_class == "auto" and (self.adapter or self.retroactive_labels != "same_token"):
            raise InputError("--model_class auto: needs --retroactive_labels same_token, and takes no adapter")
        self.eval_only = self.eval_only or self.classifier_path is not None
        if self.output_dir == OUTPUT and self.model_name_or_path:
            self.output_dir = OUTPUT / self._title()

    def _checkpoint_missing(self, step: int) -> bool:
        return self.save_strategy != "steps" or step % self.save_steps != 0

    def _title(self) -> str:
        """A folder name that differs where the states differ."""
        names = [Path(name).name for name in (str(self.model_name_or_path), *self.adapter)]
        if self.model_class == "custom":
            names += ["bi" if self.bidirectional else "uni", self.retroactive_labels.partition("_")[0]]
        return "--".join([*names, Path(self.train_file or self.dataset_name).name.partition(".")[0]])


def span_kind(task: str) -> str:
    """What the chunks of a task are called."""
    return "entity" if task.startswith("ner") else "chunk"
