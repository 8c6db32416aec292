"""The two views of a text: what dropout does to a decoder and to an encoder, and that it is gone afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from common.encoder import Encoder
from common.errors import InputError
from common.self_pairs import attention_dropout, self_pairs, views_differ

TEXT = "The cat sat on the mat and watched the rain."


def test_each_text_twice() -> None:
    rows = self_pairs([" the cat ", "", "the dog", "  ", "the cat"], "texts")
    assert rows.rows == [{"query": t, "positive": t} for t in ("the cat", "the dog", "the cat")]
    assert rows.source == "texts"
    with pytest.raises(InputError, match="texts: holds no text"):
        self_pairs(["", "  "], "texts")


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_decoder_has_dropout_for_a_while(make_encoder: Callable[..., Encoder], attention: str) -> None:
    encoder = make_encoder("llama", pooling="mean", backbone={"attn_implementation": attention})
    before = encoder.encode(TEXT)
    assert not views_differ(encoder, TEXT)
    with attention_dropout(encoder.backbone.model, 0.3):
        assert views_differ(encoder, TEXT)
        assert not encoder.embedder.training
        assert (encoder.encode(TEXT) == before).all()  # in training alone
    assert not views_differ(encoder, TEXT)


def test_it_is_gone_after_an_error(make_encoder: Callable[..., Encoder]) -> None:
    encoder = make_encoder("llama", pooling="mean")
    with pytest.raises(ValueError, match="stop"), attention_dropout(encoder.backbone.model, 0.3):
        raise ValueError("stop")
    assert not views_differ(encoder, TEXT)


def test_the_share_counts(make_encoder: Callable[..., Encoder]) -> None:
    encoder = make_encoder("llama", pooling="mean")
    ids = torch.tensor(encoder.tokenize([TEXT] * 16))

    def distance(share: float) -> float:
        with attention_dropout(encoder.backbone.model, share), torch.no_grad():
            encoder.embedder.train()
            views = encoder.embedder(ids, torch.ones_like(ids))
            encoder.embedder.eval()
        return float((1 - torch.cosine_similarity(views[::2], views[1::2])).mean())

    assert distance(0.02) < distance(0.2) < distance(0.7)


def test_an_encoder_keeps_its_own(make_encoder: Callable[..., Encoder]) -> None:
    encoder = make_encoder("bert", pooling="cls")
    shares: list[Any] = [m.p for m in encoder.backbone.model.modules() if isinstance(m, torch.nn.Dropout)]
    assert set(shares) == {0.1}
    with attention_dropout(encoder.backbone.model, 0.9):
        inside = [m.p for m in encoder.backbone.model.modules() if isinstance(m, torch.nn.Dropout)]
        assert inside == shares
        assert views_differ(encoder, TEXT)


def test_one_token_shows_nothing(make_encoder: Callable[..., Encoder]) -> None:
    assert views_differ(make_encoder("llama", pooling="mean"), "a")
