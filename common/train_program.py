"""What the train.py of every paper does with the shared flags: rows, the options of the backbone, precision."""

from __future__ import annotations

from typing import Any

from common.data import RowList, RowStream, load_rows
from common.errors import InputError
from common.lora import training_attention
from common.recipe import TrainConfig


def training_rows(config: TrainConfig) -> tuple[RowList | RowStream, RowList | None]:
    """The rows to train on, and those to measure the validation loss on.

    Raises:
        InputError: missing or malformed data.
    """
    if not config.train_name_or_path:
        raise InputError("missing: --train_name_or_path (a file, shipped:triplets, or a hub data set)")
    rows = load_rows(
        config.train_name_or_path,
        split=config.train_split_name,
        subset=config.train_subset_name,
        streaming=config.streaming,
        limit=config.limit,
        data_dir=config.data_dir,
        rename=config.rename,
    )
    return rows, validation_rows(config)


def validation_rows(config: TrainConfig) -> RowList | None:
    """The rows to measure the validation loss on, if any.

    Raises:
        InputError: missing or malformed data.
    """
    if not config.valid_name_or_path:
        return None
    valid = load_rows(
        config.valid_name_or_path,
        split=config.valid_split_name,
        subset=config.valid_subset_name,
        data_dir=config.data_dir,
        rename=config.rename,
    )
    assert isinstance(valid, RowList)  # only training rows are streamed
    return valid


def backbone_options(config: TrainConfig) -> dict[str, Any]:
    """The arguments of a method's `load` that say on what, and in which precision, training runs."""
    return {
        "adapter": config.pretrained_lora_path,
        "trainable_adapter": True,
        "device": config.device,
        "dtype": base_dtype(config),
        "quantize": config.quantize,
        "attn_implementation": config.attn_implementation or training_attention(config.device),
        "compat": config.compat,
    }


def base_dtype(config: TrainConfig) -> str:
    """The precision of the base: all weights are trained in fp32; under LoRA the frozen base may be bf16."""
    if config.apply_lora is False or config.load_kbit == 32:
        return "float32"
    if config.load_kbit == 16 and config.fp16:
        return "float16"
    return "auto"
