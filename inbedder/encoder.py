"""InBedder's encoder: text, then a question about it, and the state that the answer would start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from common.attention import num_layers
from common.backbone import Backbone, load_backbone
from common.checkpoints import known_model
from common.encoder import Encoder
from common.errors import InputError
from common.registry import check_compat
from inbedder.defaults import MASK_LENGTH, MAX_LENGTH, MODEL
from inbedder.prompts import PATTERN, template_of

CHECKPOINTS = Path(__file__).with_name("checkpoints.yaml")
# Families of learned positions that are counted from the padding token's id on.
OFFSET_POSITIONS = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "xmod", "data2vec-text")
Convention = Literal["prompt", "pair"]


def load(
    model: str | None = None,
    *,
    adapter: str | list[str] | None = None,
    template: str | None = None,
    pooling: str | None = None,
    max_length: int | None = None,
    mask_length: int | None = None,
    convention: Convention | None = None,
    normalize: bool = False,
    compat: object = None,
    **backbone_options: Any,
) -> Encoder:
    """Load a released InBedder model, or any language model the way InBedder reads it.

    The embedding of a decoder is the state of the last prompt token in the last layer: the one that the first
    token of the answer is predicted from. It takes one forward pass of the trunk, nothing is generated. That of a
    masked model is the mean state of the mask tokens behind the prompt. Other modes: `inbedder.ModeEncoder`.

    `encode(texts, instruction="...")` asks a question about each text; without one
    `inbedder.prompts.DEFAULT_INSTRUCTION` is asked.

    Args:
        model: a released id, any model name; None: the embedded default.
        adapter: LoRA adapters.
        template: a name of `inbedder.prompts.BY_NAME`, or a pattern with {input} (or {text}) and {instruction};
            default: `inbedder.prompts.PATTERN`.
        pooling: a strategy of `common.pooling`; default: the last token, or the mean over the masks.
        max_length: tokens; default 512. A longer prompt loses the end of its text, never the question.
        mask_length: mask tokens behind the prompt of a masked model; default 3, as released.
        convention: how a masked model is asked: "prompt" (default), or "pair", that of `inbedder.pair`.
        normalize: L2-normalise always.
        compat: names of `inbedder.compat`.
        backbone_options: of `common.backbone.load_backbone`.

    Raises:
        InputError: an encoder without a mask token, a released id with other weights, or an unknown name.
    """
    known = known_model(CHECKPOINTS, model or (None if adapter else MODEL), adapter)
    settings = known.options
    names = check_compat(compat)
    backbone = load_backbone(known.base, adapter=known.adapter, **backbone_options)
    layers = num_layers(backbone.model)
    if settings.get("layer", layers) != layers:
        raise InputError(f"{known.base}: {layers} layers, the released model has {settings['layer']}; not its weights")
    pair = (convention or settings.get("convention")) == "pair"
    if backbone.is_decoder and (pair or mask_length is not None):
        raise InputError(f"{known.base}: a decoder; mask_length and convention are for masked models")
    arguments: dict[str, Any] = {
        "method": "inbedder",
        "pooling": pooling or settings.get("pooling") or ("last" if backbone.is_decoder else "mean"),
        "pooled": "all" if backbone.is_decoder else "mask",
        "max_length": most_tokens(backbone, max_length or settings.get("max_length") or MAX_LENGTH),
        "normalize": normalize,
        "compat": names,
    }
    masks = "" if backbone.is_decoder else mask_token(backbone) * _mask_length(mask_length, settings)
    if pair:
        if template or pooling:
            raise InputError("convention 'pair' has a template and a pooling of its own; leave them out")
        from inbedder.pair import PairEncoder, pair_template

        return PairEncoder(backbone, **{**arguments, "template": pair_template(backbone, masks), "pooling": "mean"})
    pattern = template or settings.get("template") or PATTERN
    if masks and pattern.endswith(mask_token(backbone)):
        masks = ""  # a template that was saved with them
    return Encoder(backbone, template=template_of(pattern, masks), **arguments)


def mask_token(backbone: Backbone) -> str:
    """The mask token of an encoder.

    Raises:
        InputError: it has none.
    """
    token = backbone.tokenizer.mask_token
    if token is None:
        raise InputError(f"{backbone.source.name}: neither a decoder nor a model with a mask token")
    return str(token)


def most_tokens(backbone: Backbone, max_length: int) -> int:
    """`max_length`, or the number of positions that the model really has, if that is less."""
    config = backbone.config
    if config.model_type not in OFFSET_POSITIONS:
        return max_length
    return min(max_length, config.max_position_embeddings - config.pad_token_id - 1)


def _mask_length(given: int | None, settings: dict[str, Any]) -> int:
    length = settings.get("mask_length", MASK_LENGTH) if given is None else given
    if length < 1:
        raise InputError(f"mask_length {length}: must be at least 1")
    return int(length)
