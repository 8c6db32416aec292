"""AnglE's encoder: BERT, or an LLM with a one-word prompt and the state of the last token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from angle.prompts import Prompts, prompt_text
from common.backbone import load_backbone
from common.checkpoints import known_model
from common.encoder import Encoder
from common.prompts import Template
from common.registry import check_compat

DEFAULT_MODEL = "smollm2-135m"
CHECKPOINTS = Path(__file__).with_name("checkpoints.yaml")


def load(
    model: str | None = None,
    *,
    adapter: str | list[str] | None = None,
    template: str | None = None,
    query_template: str | None = None,
    pooling: str | None = None,
    max_length: int | None = None,
    normalize: bool = False,
    compat: object = None,
    **backbone_options: Any,
) -> Encoder:
    """Load a released AnglE model, or any trunk the way AnglE reads it.

    LLMs get `Prompts.A` and the last token, encoders the bare text and the first token ("cls"), unless a
    released id, an adapter that was saved here, or the arguments say otherwise. A prompt
    may be given by its letter.

    Args:
        model: a released id, any model name; None: the embedded default.
        adapter: LoRA adapters.
        template: of texts; query_template: of search queries, where they differ.
        pooling: a strategy of `common.pooling`.
        max_length: tokens; default 512.
        normalize: L2-normalise always.
        compat: names of `angle.compat`.
        backbone_options: of `common.backbone.load_backbone`.
    """
    known = known_model(CHECKPOINTS, model or (None if adapter else DEFAULT_MODEL), adapter)
    backbone = load_backbone(known.base, adapter=known.adapter, **backbone_options)
    llm = backbone.is_decoder
    text = prompt_text(template or known.options.get("template") or (Prompts.A if llm else "{text}"))
    query = query_template or known.options.get("query_template")
    return Encoder(
        backbone,
        method="angle",
        template=Template(text),
        query_template=Template(prompt_text(query)) if query else None,
        pooling=pooling or known.options.get("pooling") or ("last" if llm else "cls"),
        max_length=max_length or known.options.get("max_length") or 512,
        normalize=normalize,
        compat=check_compat(compat),
    )
