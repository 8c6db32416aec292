"""The three tokens of BGE-ICL's prompt: added where the tokenizer lacks them, and their rows frozen or trained."""

from __future__ import annotations

import logging
from typing import Any, Literal

import torch
from torch import nn

from bge_icl.prompts import SPECIAL_TOKENS
from common.encoder import Encoder
from common.lora import add_lora

logger = logging.getLogger(__name__)

Rows = Literal["frozen", "trained", "text"]


def missing_tokens(tokenizer: Any) -> list[str]:
    """Those of the three that the tokenizer would read in pieces."""
    known = tokenizer.get_vocab()
    return [token for token in SPECIAL_TOKENS if token not in known]


def add_special_tokens(encoder: Encoder, seed: int) -> list[int]:
    """Give tokenizer and embedding table the three tokens, in place; the ids of those that were added.

    Their rows are drawn as the model draws its weights, as in the released training. (What transformers does now,
    all rows at the mean of the others, would leave three frozen tokens that can't be told apart.)
    """
    tokenizer: Any = encoder.backbone.tokenizer
    trunk = encoder.backbone.model
    missing = missing_tokens(tokenizer)
    if not missing:
        return []
    tokenizer.add_tokens(missing, special_tokens=True)
    table: Any = trunk.get_input_embeddings()  # type: ignore[operator]
    ids = [int(tokenizer.convert_tokens_to_ids(token)) for token in missing]
    if len(tokenizer) > len(table.weight):
        trunk.resize_token_embeddings(len(tokenizer), mean_resizing=False)  # type: ignore[operator]
        table = trunk.get_input_embeddings()  # type: ignore[operator]
    draw = torch.Generator().manual_seed(seed)
    std = getattr(encoder.backbone.config, "initializer_range", 0.02)
    with torch.no_grad():
        rows = torch.randn((len(ids), table.weight.shape[1]), generator=draw) * std
        table.weight[ids] = rows.to(table.weight)
    logger.info("added to the tokenizer: %s", ", ".join(missing))
    return ids


def prepare(encoder: Encoder, rows: Rows, *, lora: bool, seed: int, **lora_options: Any) -> None:
    """Add the tokens and, under LoRA, an adapter that holds their rows; in place.

    The adapter holds rows that were added (frozen or trained), and the three rows where they are trained, so
    that loading it gives them back. Rows that a base has already and that stay frozen are the base's. Without
    LoRA all weights are trained, these rows among them. An adapter that goes on training stays as it is.

    Args:
        encoder: with a template of these tokens.
        rows: what is done with their rows.
        lora: an adapter is trained.
        seed: of the rows' first values.
        lora_options: r, alpha, dropout, target_modules.
    """
    trunk: nn.Module = encoder.backbone.model
    has_adapter = any("lora_" in name for name, _ in trunk.named_parameters())
    if rows != "text" and not has_adapter:
        added = add_special_tokens(encoder, seed)
        known = encoder.backbone.tokenizer.get_vocab()
        ids = [known[token] for token in SPECIAL_TOKENS] if rows == "trained" else added
        if lora and ids:
            torch.manual_seed(seed)
            add_lora(encoder.backbone, **lora_options, token_rows=ids)
    for name, parameter in encoder.backbone.model.named_parameters():
        if "trainable_tokens_delta" in name:
            parameter.requires_grad_(rows == "trained")
    encoder.embedder.trunk = encoder.backbone.model
