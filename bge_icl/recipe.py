"""The settings of BGE-ICL's training: the shared ones, and the paper's own (defaults: the paper, section 4.1)."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from common.errors import InputError
from common.flags import flag
from common.recipe import TrainConfig

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(kw_only=True)
class IclConfig(TrainConfig):
    """What `bge_icl.fit` needs to know; the flags of bge_icl/train.py."""

    output_dir: Path = field(metadata={"help": "where checkpoints and the final model go", "group": "saving"})
    max_length: int = flag(512, "tokens of a text at inference, examples not counted; saved with the model", "model")
    use_special_tokens: bool = flag(
        True, "the prompt with <instruct>, <query>, <response>; no: Instruct:, Query:, Response:", "model"
    )
    special_tokens: Literal["frozen", "trained", "text"] = flag(
        "frozen",
        "rows of those three in the embedding table: left as they were drawn (as released), trained, or none: "
        "a tokenizer that lacks them reads them as ordinary text",
        "model",
    )
    normalize: bool = flag(True, "L2-normalise the vectors; no: dot products, and temperature 1", "loss")
    temperature: float = flag(0.02, "divides similarities", "loss")
    distill: bool = flag(True, "learn from the teacher's scores, where the rows have them", "loss")
    negatives_cross_device: bool = flag(True, "negatives from all processes", "loss")

    train_data: list[str] = flag((), "files, folders of files, or hub data sets; a data set per file or split", "data")
    prompt: str | None = flag(None, "the instruction of rows without one", "data")
    query_max_len: int = flag(2048, "tokens of a query, examples included", "data")
    passage_max_len: int = flag(512, "tokens of a passage", "data")
    max_examples: int = flag(5, "a query gets 0 to so many other rows of its batch as examples", "data")
    example_query_max_len: int = flag(256, "tokens of an example's query, instruction included", "data")
    example_passage_max_len: int = flag(256, "tokens of an example's answer", "data")
    retrieval_use_examples: bool = flag(True, "examples for retrieval rows too, not for symmetric ones alone", "data")
    train_group_size: int = flag(8, "passages per query, its positive counted, at most", "data")
    symmetric_train_group_size: int = flag(8, "the same, of semantic similarity and clustering", "data")
    max_class_neg: int = flag(7, "negatives per row of classification, at most", "data")
    symmetric_batch_size: int | None = flag(
        None, "rows of all processes in a batch of symmetric data sets; default: as of others", "training"
    )
    sub_batch_size: int | None = flag(
        None, "GradCache in chunks of so many passages; the same as --grad_cache_tokens N x passage_max_len", "training"
    )

    lora_r: int = flag(64, "rank", "lora")
    lora_alpha: int = flag(32, "scaling, times 1/r", "lora")
    lora_target_modules: list[str] | None = flag(TARGETS, "module names; none: all linear layers", "lora")
    learning_rate: float = flag(1e-4, "peak learning rate", "training")

    def __post_init__(self) -> None:
        super().__post_init__()
        least = {
            **dict.fromkeys(("query_max_len", "passage_max_len", "example_query_max_len"), 1),
            **dict.fromkeys(("example_passage_max_len", "max_class_neg", "symmetric_batch_size", "sub_batch_size"), 1),
            **dict.fromkeys(("train_group_size", "symmetric_train_group_size"), 1),
            "max_examples": 0,
        }
        for name, lowest in least.items():
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise InputError(f"--{name} {value}: must be at least {lowest}")
        if not self.temperature > 0:
            raise InputError(f"--temperature {self.temperature}: must be above 0")
        if self.streaming:
            raise InputError("--streaming: batches of one data set need the rows in memory; leave it out")
        if self.train_name_or_path:
            self.train_data = [*self.train_data, self.train_name_or_path]
            self.train_name_or_path = None
        self.train_data = list(self.train_data)
        if self.sub_batch_size is not None and self.grad_cache_tokens is None:
            self.grad_cache_tokens = self.sub_batch_size * self.passage_max_len

    def batch_of(self, row: dict[str, Any]) -> int:
        """Rows per process in a batch of the data set that a row is of."""
        if "batch_size" in row:
            return int(row["batch_size"])
        if self.symmetric_batch_size is not None and row["type"].startswith("symmetric"):
            return max(1, self.symmetric_batch_size // int(os.environ.get("WORLD_SIZE", "1")))
        return self.batch_size
