"""SimCSE's two views of a text: the text twice, under dropout that the trunk may not have of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import nn

from common.data import RowList
from common.encoder import Encoder
from common.errors import InputError


def self_pairs(texts: Iterable[str], source: str) -> RowList:
    """Each text twice, as query and as positive; blank texts are left out.

    Raises:
        InputError: no text.
    """
    kept = [text.strip() for text in texts if text.strip()]
    if not kept:
        raise InputError(f"{source}: holds no text")
    return RowList(({"query": text, "positive": text} for text in kept), source)


def views_differ(encoder: Encoder, text: str) -> bool:
    """Whether two passes of one text differ in training.

    True for a text of one token: it attends to itself alone, and dropout leaves little to see there.
    """
    ids = torch.tensor(encoder.tokenize([text, text]), device=encoder.device)
    encoder.embedder.train()
    try:
        with torch.no_grad():
            first, second = encoder.embedder(ids, torch.ones_like(ids))
    finally:
        encoder.embedder.eval()
    return ids.shape[1] < 2 or not torch.equal(first, second)


@contextlib.contextmanager
def attention_dropout(model: nn.Module, share: float) -> Iterator[None]:
    """Dropout of such a share of the attention probabilities, where a model has none; afterwards none again.

    LLMs come without dropout; their attention modules read its share off an attribute at every pass. Encoders such as
    BERT have dropout of their own, in other modules, and are left as they are.
    """
    without = [module for module in model.modules() if getattr(module, "attention_dropout", None) == 0]
    for module in without:
        module.attention_dropout = share  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in without:
            module.attention_dropout = 0.0  # type: ignore[assignment]
