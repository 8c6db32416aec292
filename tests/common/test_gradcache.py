from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training_fixtures import sentences

from angle.encoder import load
from common.angle_objective import AngleObjective
from common.batching import plan, span_mask
from common.data import Collator, split_columns
from common.encoder import Embedder, Encoder
from common.gradcache import RandomState, backward_in_chunks

OBJECTIVE = AngleObjective(cosine_w=1.0, angle_w=1.0)


def batch_of(encoder: Encoder) -> dict[str, Any]:
    """Twelve triplets, with sequences of 3 to 7 tokens."""
    rows = sentences()[:12]
    rows[3] = {**rows[3], "query": "the cat the dog sleeps"}
    rows[7] = {**rows[7], "negative": "le"}
    return Collator(encoder)(list(enumerate(rows)))


def loss_of(batch: dict[str, Any]) -> Any:
    return lambda vectors: OBJECTIVE(split_columns(vectors, batch["columns"]), None)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def plain(model: Embedder, batch: dict[str, Any], chunk_tokens: int, scale: float = 1.0) -> Tensor:
    """The loss through the same chunks in the same order, in one graph: dropout is drawn alike."""
    chunks = plan(batch["lengths"], chunk_tokens)
    parts = []
    for rows in chunks:
        width = max(batch["lengths"][i] for i in rows)
        parts.append(model(batch["input_ids"][rows, :width], batch["attention_mask"][rows, :width]))
    order = torch.tensor([i for rows in chunks for i in rows])
    vectors = torch.cat(parts)[order.argsort()]
    loss = loss_of(batch)(vectors)
    (loss * scale).backward()
    return loss.detach()


def cached(model: nn.Module, batch: dict[str, Any], chunk_tokens: int, scale: float = 1.0) -> Tensor:
    return backward_in_chunks(
        model,
        batch["input_ids"],
        batch["attention_mask"],
        batch["lengths"],
        loss_of=loss_of(batch),
        chunk_tokens=chunk_tokens,
        autocast=contextlib.nullcontext,
        backward=Tensor.backward,
        loss_scale=scale,
    )


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    assert a
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=1e-6, rtol=1e-4, msg=name)


@pytest.fixture
def encoder(tiny_bert: Path) -> Encoder:
    """BERT with dropout 0.1 on, as in training."""
    loaded = load(str(tiny_bert), dtype="float32", pooling="mean")
    loaded.embedder.train()
    return loaded


@pytest.mark.parametrize("chunk_tokens", [1, 16, 40, 10_000])
def test_gradients_and_loss_are_those_of_the_plain_loss_with_dropout(encoder: Encoder, chunk_tokens: int) -> None:
    batch = batch_of(encoder)
    torch.manual_seed(3)
    expected = plain(encoder.embedder, batch, chunk_tokens)
    reference = gradients(encoder.embedder)
    torch.manual_seed(3)
    loss = cached(encoder.embedder, batch, chunk_tokens)
    assert_same(gradients(encoder.embedder), reference)
    torch.testing.assert_close(loss, expected)
    assert not loss.requires_grad


def test_dropout_is_really_on_in_that_comparison(encoder: Encoder) -> None:
    batch = batch_of(encoder)
    losses = []
    for seed in (3, 4):
        torch.manual_seed(seed)
        losses.append(cached(encoder.embedder, batch, 16).item())
    assert losses[0] != losses[1]


def test_without_dropout_chunks_do_not_matter(encoder: Encoder) -> None:
    batch = batch_of(encoder)
    encoder.embedder.eval()
    whole = plain(encoder.embedder, batch, 10_000)
    reference = gradients(encoder.embedder)
    assert len(plan(batch["lengths"], 16)) > 5
    torch.testing.assert_close(cached(encoder.embedder, batch, 16), whole)
    assert_same(gradients(encoder.embedder), reference)


def test_the_scale_is_on_the_gradient_and_not_on_the_loss(encoder: Encoder) -> None:
    batch = batch_of(encoder)
    encoder.embedder.eval()
    whole = plain(encoder.embedder, batch, 16, scale=0.25)
    reference = gradients(encoder.embedder)
    torch.testing.assert_close(cached(encoder.embedder, batch, 16, scale=0.25), whole)
    assert_same(gradients(encoder.embedder), reference)


def test_two_calls_accumulate(encoder: Encoder) -> None:
    batch = batch_of(encoder)
    encoder.embedder.eval()
    cached(encoder.embedder, batch, 16, scale=0.5)
    cached(encoder.embedder, batch, 40, scale=0.5)
    twice = gradients(encoder.embedder)
    plain(encoder.embedder, batch, 10_000)
    assert_same(twice, gradients(encoder.embedder))


def test_every_chunk_goes_forward_twice(encoder: Encoder) -> None:
    batch = batch_of(encoder)
    calls: list[bool] = []
    encoder.embedder.register_forward_pre_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    cached(encoder.embedder, batch, 16)
    chunks = len(plan(batch["lengths"], 16))
    assert calls == [False] * chunks + [True] * chunks


def test_the_random_numbers_afterwards_are_those_after_one_pass(encoder: Encoder) -> None:
    """A resumed or compared run must not depend on whether the cache was used."""
    batch = batch_of(encoder)
    after = []
    for step in (plain, cached):
        torch.manual_seed(3)
        step(encoder.embedder, batch, 16)
        after.append(torch.rand(3))
    assert torch.equal(after[0], after[1])


def test_a_random_state_is_replayed_and_put_back() -> None:
    torch.manual_seed(1)
    state = RandomState()
    first = torch.rand(2)
    torch.rand(5)
    expected_next = torch.get_rng_state()
    with state.replay():
        assert torch.equal(torch.rand(2), first)
    assert torch.equal(torch.get_rng_state(), expected_next)


@pytest.mark.parametrize("chunk_tokens", [16, 40])
def test_a_part_of_the_tokens_is_pooled_in_chunks_too(encoder: Encoder, chunk_tokens: int) -> None:
    """Without [CLS] and the last token of each row; the plain loss through the whole batch, dropout off."""
    batch = batch_of(encoder)
    encoder.embedder.eval()
    spans = [(1, length - 1) for length in batch["lengths"]]
    pool_mask = span_mask(spans, batch["input_ids"].shape[1])
    inputs = batch["input_ids"], batch["attention_mask"]
    whole = loss_of(batch)(encoder.embedder(*inputs, pool_mask))
    whole.backward()
    reference = gradients(encoder.embedder)
    loss = backward_in_chunks(
        encoder.embedder, *inputs, batch["lengths"], pool_mask, loss_of=loss_of(batch), chunk_tokens=chunk_tokens,
        autocast=contextlib.nullcontext, backward=Tensor.backward,
    )  # fmt: skip
    assert len(plan(batch["lengths"], chunk_tokens)) > 2
    assert_same(gradients(encoder.embedder), reference)
    torch.testing.assert_close(loss, whole.detach())
    assert abs(loss - cached(encoder.embedder, batch, chunk_tokens)) > 1e-3
