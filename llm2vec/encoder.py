"""LLM2Vec's encoder: an LLM with bidirectional attention in every layer, the mean over the text's tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.attention import check_attention, set_attention
from common.backbone import Backbone, load_backbone
from common.checkpoints import known_model
from common.encoder import Encoder
from common.errors import InputError
from common.registry import check_compat
from llm2vec.chat_templates import PLACES, build_template

DEFAULT_MODEL = "smollm2-135m"
CHECKPOINTS = Path(__file__).with_name("checkpoints.yaml")
MAX_LENGTH = 512
DOC_MAX_LENGTH = 400
# The pooling that puts an EOS behind every text. "last" reads the last token, whatever it is.
WITH_EOS = ("eos", "eos_token")


def load(
    model: str | None = None,
    *,
    adapter: str | list[str] | None = None,
    template: str | None = None,
    chat_template: str | None = None,
    pooling: str | None = None,
    pool_chat_suffix: bool | None = None,
    skip_instruction: bool | None = None,
    max_length: int | None = None,
    doc_max_length: int | None = None,
    attention: str | None = None,
    normalize: bool = False,
    compat: object = None,
    **backbone_options: Any,
) -> Encoder:
    """Load a released LLM2Vec model, or any decoder the way LLM2Vec reads it.

    An instruction may be given per call or per text; it is read, and not pooled.

    Args:
        model: a released id, any model name; None: the embedded default.
        adapter: LoRA adapters; all but the last are merged.
        template: of instruction and text; default "{instruction} {text}", without instruction "{text}".
        chat_template: a name of `llm2vec.chat_templates`, put around the template; default: that of a released
            id, else none. It is saved with the model.
        pooling: a strategy of `common.pooling`; default: the mean. "eos_token" puts an EOS behind every text
            and reads it.
        pool_chat_suffix: pool what the chat template puts behind the text, too; default True, as released.
        skip_instruction: leave instruction and BOS out of the pooling; default True, as released.
        max_length: tokens; default 512.
        doc_max_length: tokens of the text alone; default 400, as released; 0: no limit but `max_length`.
        attention: "bidirectional" (default) or "causal".
        normalize: L2-normalise always.
        compat: names of `llm2vec.compat`.
        backbone_options: of `common.backbone.load_backbone`.

    Raises:
        InputError: an encoder such as BERT, or an unknown name.
    """
    known = known_model(CHECKPOINTS, model or (None if adapter else DEFAULT_MODEL), adapter)
    names = check_compat(compat)
    settings = known.options
    backbone = load_backbone(known.base, adapter=known.adapter, **backbone_options)
    make_bidirectional(backbone, attention or settings.get("attention") or "bidirectional")
    pooling = pooling or settings.get("pooling") or "mean"
    saved = None if template or chat_template else settings.get("template")
    # A saved template is whole: chat template, and EOS where that is read.
    with_eos = pooling.lower() in WITH_EOS and not (saved and settings["pooling"] == "last")
    eos = backbone.tokenizer.eos_token if with_eos else None
    chat = chat_template or (None if saved else settings.get("chat_template"))
    if doc_max_length is None:
        doc_max_length = settings.get("max_text_length", 0 if "pooled" in settings else DOC_MAX_LENGTH)
    return Encoder(
        backbone,
        method="llm2vec",
        template=build_template(template or saved or PLACES, chat, eos),
        pooling=pooling,
        pooled=pooled_part(pool_chat_suffix, skip_instruction, settings.get("pooled")),
        max_length=max_length or settings.get("max_length") or MAX_LENGTH,
        max_text_length=doc_max_length or None,
        normalize=normalize,
        compat=names,
    )


def make_bidirectional(backbone: Backbone, mode: str = "bidirectional") -> None:
    """Set the attention of a decoder in place and look at what it then does; sliding windows go, as released.

    Raises:
        InputError: an encoder, or a decoder whose attention can't be changed.
    """
    if not backbone.is_decoder:
        raise InputError(f"{backbone.source.name}: LLM2Vec is for decoders; this is an encoder, bidirectional as it is")
    set_attention(backbone.model, mode, sliding_window="drop")  # type: ignore[arg-type]
    check_attention(backbone.model)


def pooled_part(pool_chat_suffix: bool | None, skip_instruction: bool | None, saved: str | None = None) -> Any:
    """The part of the template that is pooled: `Encoder`'s `pooled`; what is not said comes from `saved`."""
    if skip_instruction is None:
        skip_instruction = saved != "all"
    if pool_chat_suffix is None:
        pool_chat_suffix = saved != "text"
    if not skip_instruction:
        return "all"
    return "text_and_suffix" if pool_chat_suffix else "text"
