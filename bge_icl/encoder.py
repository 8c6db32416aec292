"""BGE-ICL's encoder: a causal LLM, examples and instruction before the query, the state of the EOS behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bge_icl.prompts import PASSAGE, TEMPLATE
from common.attention import get_attention
from common.backbone import load_backbone
from common.checkpoints import known_model
from common.encoder import Encoder
from common.errors import InputError
from common.prompts import Template
from common.registry import check_compat

DEFAULT_MODEL = "smollm2-135m"
CHECKPOINTS = Path(__file__).with_name("checkpoints.yaml")
MAX_LENGTH = 512


def load(
    model: str | None = None,
    *,
    adapter: str | list[str] | None = None,
    template: str | None = None,
    pooling: str | None = None,
    max_length: int | None = None,
    normalize: bool = True,
    compat: object = None,
    **backbone_options: Any,
) -> Encoder:
    """Load a released BGE-ICL model, or any causal decoder the way BGE-ICL reads it.

    With an instruction a text is a query of the task (`examples`, instruction, text, suffix); without one it is a
    passage and goes in as it is. For symmetric tasks both sides get the instruction. A BOS stands before every
    sequence and an EOS behind it, whatever the tokenizer's files say.

    Args:
        model: a released id, any model name; None: the embedded default.
        adapter: LoRA adapters.
        template: of queries; default the paper's.
        pooling: a strategy of `common.pooling`; default: the last token, the EOS.
        max_length: tokens without those of the examples; default 512.
        normalize: L2-normalise always (the default).
        compat: names of `bge_icl.compat`.
        backbone_options: of `common.backbone.load_backbone`.

    Raises:
        InputError: an encoder such as BERT, a model that was trained bidirectionally, or a tokenizer without EOS.
    """
    known = known_model(CHECKPOINTS, model or (None if adapter else DEFAULT_MODEL), adapter)
    backbone = load_backbone(known.base, adapter=known.adapter, **backbone_options)
    attention = known.options.get("attention") or get_attention(backbone.model)
    if not backbone.is_decoder or attention != "causal":
        raise InputError(f"{backbone.source.name}: BGE-ICL is for causal decoders; this model is bidirectional")
    add_bos_and_eos(backbone.tokenizer)
    pattern = template or known.options.get("template") or TEMPLATE
    return Encoder(
        backbone,
        method="bge_icl",
        template=Template(pattern, plain=PASSAGE if "{instruction}" in pattern else None),
        pooling=pooling or known.options.get("pooling") or "last",
        max_length=max_length or known.options.get("max_length") or MAX_LENGTH,
        normalize=normalize,
        compat=check_compat(compat),
    )


def add_bos_and_eos(tokenizer: Any) -> None:
    """Have the tokenizer put its BOS (where it has one) before and its EOS behind every text, once each.

    Files of the same model differ in this: a tokenizer that is built from Mistral's tokenizer.model alone adds no
    EOS, and the last token, which is pooled, would be one of the text. `save_pretrained` keeps what is set here.

    Raises:
        InputError: there is no EOS, or it does not come out as it should.
    """
    if tokenizer.eos_token_id is None:
        raise InputError(f"{type(tokenizer).__name__}: has no EOS token, whose state is the embedding")
    if not _has_both(tokenizer):
        tokenizer.add_bos_token = tokenizer.bos_token_id is not None
        tokenizer.add_eos_token = True
        if not _has_both(tokenizer):
            raise InputError(f"{type(tokenizer).__name__}: can't be made to add {tokenizer.bos_token} and "
                             f"{tokenizer.eos_token}; use a fast tokenizer")  # fmt: skip


def _has_both(tokenizer: Any) -> bool:
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    bare = tokenizer("x", add_special_tokens=False)["input_ids"]
    return tokenizer("x")["input_ids"] == [*bos, *bare, tokenizer.eos_token_id]
