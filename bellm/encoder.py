"""BeLLM's encoder: an LLM, bidirectional from a layer on, a one-word prompt, the state of the last token."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from bellm.prompts import PROMPT
from bellm.start_index import attention_mode, start_index
from common.attention import check_attention, num_layers, set_attention
from common.backbone import load_backbone
from common.checkpoints import known_model
from common.encoder import Encoder
from common.errors import InputError
from common.pooling import canonical_strategy
from common.prompts import Template
from common.registry import check_compat

logger = logging.getLogger(__name__)

DEFAULT_MODEL = "smollm2-135m"
CHECKPOINTS = Path(__file__).with_name("checkpoints.yaml")


def load(
    model: str | None = None,
    *,
    adapter: str | list[str] | None = None,
    bidirectional_from: int | None = None,
    template: str | None = None,
    pooling: str | None = None,
    max_length: int | None = None,
    normalize: bool = False,
    compat: object = None,
    **backbone_options: Any,
) -> Encoder:
    """Load a released BeLLM model, or any decoder the way BeLLM reads it.

    Args:
        model: a released id, any model name; None: the embedded default.
        adapter: LoRA adapters. One that was saved here brings its layer along, and is never loaded with another.
        bidirectional_from: the first bidirectional layer (0-based); default: that of the adapter, then
            `BiLLM_START_INDEX`, then the last layer; -1 or the number of layers: causal.
        template: default: the representative-word prompt.
        pooling: a strategy of `common.pooling`; default: the last token.
        max_length: tokens; default 512.
        normalize: L2-normalise always.
        compat: names of `bellm.compat`.
        backbone_options: of `common.backbone.load_backbone`.

    Raises:
        InputError: an encoder such as BERT, or a layer that the model lacks or was not trained with.
    """
    known = known_model(CHECKPOINTS, model or (None if adapter else DEFAULT_MODEL), adapter)
    names = check_compat(compat)
    backbone = load_backbone(known.base, adapter=known.adapter, **backbone_options)
    if not backbone.is_decoder:
        raise InputError(f"{backbone.source.name}: BeLLM is for decoders; this is an encoder, bidirectional as it is")
    asked = start_index(bidirectional_from)
    mode = attention_mode(asked, known.options.get("attention"), num_layers(backbone.model))
    set_attention(backbone.model, mode, sliding_window="drop")  # type: ignore[arg-type]
    check_attention(backbone.model)
    if "bellm:unmask-padding" in names:
        set_attention(backbone.model, mode, sliding_window="drop", attend_padding=True)  # type: ignore[arg-type]
    pooling = pooling or known.options.get("pooling") or "last"
    if mode == {"bidirectional_from": num_layers(backbone.model) - 1} and canonical_strategy(pooling) == "last":
        logger.info(
            "only the last layer is bidirectional, and the last token sees all others in a causal one, too: the "
            "vectors are those of the causal model; --pooling_strategy mean makes a difference"
        )
    return Encoder(
        backbone,
        method="bellm",
        template=Template(template or known.options.get("template") or PROMPT),
        pooling=pooling,
        max_length=max_length or known.options.get("max_length") or 512,
        normalize=normalize,
        compat=names,
    )
