"""Train AnglE: all formats, all loss weights, BERT and LLM, full weights, LoRA or QLoRA."""

from __future__ import annotations

import logging

from angle.encoder import load, prompt_text
from angle.fit import AngleConfig, fit
from common import cli
from common.data import load_rows
from common.errors import InputError
from common.lora import training_attention
from common.prompts import Template
from common.registry import check_compat

logger = logging.getLogger(__name__)


def main(config: AngleConfig) -> None:
    """Load, train, save."""
    config.compat = sorted(check_compat(config.compat))
    if config.dry_run:
        print(cli.describe(config), end="")
        return
    if not config.train_name_or_path:
        raise InputError("missing: --train_name_or_path (a file, shipped:triplets, or a hub data set)")
    if not config.model_name_or_path:
        raise InputError("missing: --model_name_or_path")
    data = {"data_dir": config.data_dir, "rename": config.rename}
    rows = load_rows(
        config.train_name_or_path,
        split=config.train_split_name,
        subset=config.train_subset_name,
        streaming=config.streaming,
        limit=config.limit,
        **data,
    )
    valid = None
    if config.valid_name_or_path:
        valid = load_rows(
            config.valid_name_or_path, split=config.valid_split_name, subset=config.valid_subset_name, **data
        )
    encoder = load(
        config.model_name_or_path,
        adapter=config.pretrained_lora_path,
        trainable_adapter=True,
        template=config.text_prompt,
        pooling=config.pooling_strategy,
        max_length=config.max_length,
        device=config.device,
        dtype=base_dtype(config),
        quantize=config.quantize,
        attn_implementation=config.attn_implementation or training_attention(config.device),
        compat=config.compat,
    )
    if config.is_llm is not None and config.is_llm != encoder.backbone.is_decoder:
        kind = "a decoder (LLM)" if encoder.backbone.is_decoder else "an encoder"
        raise InputError(f"--is_llm {int(config.is_llm)}: {config.model_name_or_path} is {kind}")
    for role, prompt in (("query", config.query_prompt), ("document", config.doc_prompt)):
        if prompt:
            encoder.templates[role] = Template(prompt_text(prompt))  # type: ignore[index]
    fit(encoder, rows, config, valid=valid)


def base_dtype(config: AngleConfig) -> str:
    """The precision of the base: all weights are trained in fp32; under LoRA the frozen base may be bf16."""
    if config.apply_lora is False or config.load_kbit == 32:
        return "float32"
    if config.load_kbit == 16 and config.fp16:
        return "float16"
    return "auto"


ALIASES = {
    "w1": "cosine_w",
    "w2": "ibn_w",
    "w3": "angle_w",
    "model_name": "model_name_or_path",
    "pretrained_model_path": "model_name_or_path",
    "prompt_template": "text_prompt",
    "save_dir": "output_dir",
    "maxlen": "max_length",
}

if __name__ == "__main__":
    cli.run(main, AngleConfig, description=__doc__, aliases=ALIASES)
