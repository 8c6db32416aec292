"""How PromptEOL reads a text: its prompt, maybe with a demonstration before it, and the state of the last token."""

from common.backbone import load_backbone
from common.encoder import Encoder
from common.errors import InputError
from common.prompts import Template
from common.registry import check_compat

PROMPT = 'This sentence : "{text}" means in one word:"'


def load(
    model=None, *, demonstration=None, template=None, pooling=None, max_length=None, compat=None, **backbone_options
):
    """Any decoder as PromptEOL reads it.

    Args:
        model: a model name; None: the embedded default.
        demonstration: [sentence, word], shown before every text (the paper's in-context learning), such as
            ["A jockey riding a horse.", "Equestrian"].
        template, pooling, max_length: in place of PromptEOL's own.
        compat: names of released quirks; there are none of its own.
        backbone_options: adapter, device, dtype and what else `load_backbone` takes.
    """
    backbone = load_backbone(model or "smollm2-135m", **backbone_options)
    if not backbone.is_decoder:
        raise InputError(f"{backbone.source.name}: PromptEOL is for decoders")
    pattern = template or PROMPT
    if demonstration:
        sentence, word = demonstration
        pattern = f'{PROMPT.replace("{text}", sentence)}{word}".{pattern}'
    return Encoder(
        backbone,
        method="prompteol",
        template=Template(pattern),
        pooling=pooling or "last",
        max_length=max_length or 512,
        compat=check_compat(compat),
    )
