from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from core_texts import distance
from torch import Tensor, nn

from common import embedder as embedder_module
from common.batching import pad, span_mask
from common.encoder import Embedder, Encoder
from common.forward import run_batches

KINDS = ("llama", "bert")


def sequences(count: int = 24, longest: int = 20) -> list[list[int]]:
    draw = torch.Generator().manual_seed(3)
    lengths = torch.randint(1, longest + 1, (count,), generator=draw).tolist()
    return [torch.randint(5, 200, (n,), generator=draw).tolist() for n in lengths]


def alone(embedder: nn.Module, rows: list[list[int]]) -> Tensor:
    with torch.inference_mode():
        return torch.cat([embedder(*pad([row], 0)) for row in rows])


class Limited(nn.Module):
    """A real embedder on a device that holds only so many tokens; it notes the batches it was given."""

    def __init__(self, inner: nn.Module, limit: int, error: Exception | None = None) -> None:
        super().__init__()
        self.inner = inner
        self.limit = limit
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.failed: list[tuple[int, ...]] = []
        self.done: list[tuple[int, ...]] = []

    def forward(self, ids: Tensor, *masks: Tensor) -> Tensor:
        if ids.numel() > self.limit:
            self.failed.append(tuple(ids.shape))
            raise self.error
        self.done.append(tuple(ids.shape))
        return self.inner(ids, *masks)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_equal_single_texts_in_the_order_given(make_encoder: Callable[..., Encoder], kind: str) -> None:
    embedder, rows = make_encoder(kind).embedder, sequences()
    vectors, padded = run_batches(embedder, rows, pad_id=0, max_tokens=100)
    assert vectors.dtype == torch.float32
    assert distance(vectors, alone(embedder, rows)) < 1e-5
    assert sum(map(len, rows)) <= padded < len(rows) * 20


@pytest.mark.parametrize("pooling", ["last", "mean", "cls", "weighted_mean", "max"])
def test_the_side_of_the_padding_does_not_matter(make_encoder: Callable[..., Encoder], pooling: str) -> None:
    embedder, rows = make_encoder("llama", pooling=pooling).embedder, sequences(8)
    with torch.inference_mode():
        right, left = (embedder(*pad(rows, 0, side=side)) for side in ("right", "left"))
    assert distance(right, left) < 1e-5
    assert distance(right, alone(embedder, rows)) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_without_padding_needs_no_mask(make_encoder: Callable[..., Encoder], kind: str) -> None:
    embedder = make_encoder(kind).embedder
    given: list[Any] = []
    embedder.trunk.register_forward_pre_hook(
        lambda _, __, kwargs: given.append(kwargs["attention_mask"]), with_kwargs=True
    )
    full, ragged = pad([[7, 8, 9], [10, 11, 12]], 0), pad([[7, 8, 9], [10, 11]], 0)
    with torch.inference_mode():
        vectors = embedder(*full)
        embedder(*ragged)
        explicit = embedder.trunk(input_ids=full[0], attention_mask=full[1]).last_hidden_state.mean(1)
    assert given[0] is None
    assert given[1] is not None
    assert distance(vectors, explicit) < 1e-5


def test_only_the_spans_are_pooled(make_encoder: Callable[..., Encoder]) -> None:
    embedder, rows = make_encoder("llama", pooling="mean").embedder, [r for r in sequences() if len(r) > 3]
    spans = [(1 + i % 2, len(row) - i % 3) for i, row in enumerate(rows)]
    spans[2] = (2, 2)  # nothing: all its tokens
    vectors, _ = run_batches(embedder, rows, pooled=spans, pad_id=0, max_tokens=60)
    for row, (start, end), vector in zip(rows, spans, vectors):
        with torch.inference_mode():
            states = embedder.trunk(torch.tensor([row])).last_hidden_state[0]
        expected = states.mean(0) if start == end else states[start:end].mean(0)
        assert distance(vector, expected) < 1e-5
    halved, _ = run_batches(Limited(embedder, 40), rows, pooled=spans, pad_id=0, max_tokens=60)
    assert distance(halved, vectors) < 1e-5


def test_a_quirk_of_training_is_none_of_encoding(make_encoder: Callable[..., Encoder]) -> None:
    plain = make_encoder("llama").embedder
    quirk = Embedder(plain.trunk, "mean", frozenset({"llm2vec:simcse-pool-all"}))
    batch = pad(sequences(4), 0, side="left")
    pool_mask = span_mask([(0, 0)] * 4, batch[0].shape[1])
    with torch.no_grad():
        expected = plain.trunk(batch[0], attention_mask=batch[1]).last_hidden_state.mean(1)
        assert distance(quirk.eval()(*batch, pool_mask), plain(*batch)) == 0
        assert distance(quirk.train()(*batch, pool_mask), expected) < 1e-6
        assert distance(plain(*batch), expected) > 1e-2


# ------------------------------ out of memory


def test_out_of_memory_halves_the_budget_and_goes_on(
    make_encoder: Callable[..., Encoder], caplog: pytest.LogCaptureFixture
) -> None:
    inner, rows = make_encoder("bert").embedder, [s[:8] for s in sequences(40, 8)]
    rows[0] = [9] * 8
    limited = Limited(inner, 50)
    with caplog.at_level(logging.WARNING):
        vectors, padded = run_batches(limited, rows, pad_id=0, max_tokens=160)
    assert distance(vectors, alone(inner, rows)) < 1e-5
    # 160 and 80 tokens fail, 40 does not, and later batches are not tried at the first size again.
    assert [a * b for a, b in limited.failed] == [160, 80]
    assert max(a * b for a, b in limited.done) <= 40
    assert padded == sum(a * b for a, b in limited.done)
    assert "out of memory with 20 x 8 tokens; going on with 80" in caplog.text


def test_the_allocator_of_the_cpu_is_understood(make_encoder: Callable[..., Encoder]) -> None:
    inner, rows = make_encoder("bert").embedder, sequences(6, 8)
    error = RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried")
    vectors, _ = run_batches(Limited(inner, 16, error), rows, pad_id=0, max_tokens=64)
    assert distance(vectors, alone(inner, rows)) < 1e-5


def test_one_sequence_that_does_not_fit_is_an_error(make_encoder: Callable[..., Encoder]) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        run_batches(Limited(make_encoder("bert").embedder, 4), [[9] * 8, [9]], pad_id=0)


def test_other_errors_are_not_swallowed(make_encoder: Callable[..., Encoder]) -> None:
    limited = Limited(make_encoder("bert").embedder, 4, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run_batches(limited, [[9] * 8, [9]], pad_id=0)
    assert len(limited.failed) == 1


# ------------------------------ several devices


@pytest.mark.parametrize("kind", KINDS)
def test_two_devices_equal_one(make_encoder: Callable[..., Encoder], kind: str) -> None:
    embedder, rows = make_encoder(kind).embedder, sequences()
    one, _ = run_batches(embedder, rows, pad_id=0, max_tokens=40)
    two, padded = run_batches(embedder, rows, pad_id=0, max_tokens=40, devices=["cpu", "cpu"])
    assert distance(two, one) < 1e-5
    assert padded >= sum(map(len, rows))


class Rendezvous(nn.Module):
    """The mean id of every row; both workers leave their first forward at the same moment."""

    gate = threading.Barrier(2, timeout=20)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.calls = 0

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == 1:
            self.gate.wait()
        return (ids * mask).sum(1, keepdim=True).float() / mask.sum(1, keepdim=True)


def test_workers_that_finish_together_lose_nothing() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(30):
            rows = [[i + 1] * 4 for i in range(8)]
            vectors, _ = run_batches(Rendezvous(), rows, pad_id=0, max_tokens=4, devices=["cpu", "cpu"])
            assert vectors.flatten().tolist() == [float(i + 1) for i in range(8)]
    finally:
        sys.setswitchinterval(interval)


# ------------------------------ what a run leaves behind


@pytest.mark.parametrize("fails", [False, True])
def test_every_module_gets_its_mode_back(make_encoder: Callable[..., Encoder], fails: bool) -> None:
    limited = Limited(make_encoder("bert").embedder, 4 if fails else 1000, RuntimeError("broken"))
    limited.train()
    limited.inner.trunk.encoder.eval()  # a frozen part
    modes = {name: module.training for name, module in limited.named_modules()}
    assert set(modes.values()) == {True, False}
    seen: list[bool] = []
    limited.register_forward_pre_hook(lambda module, _: seen.append(any(m.training for m in module.modules())))
    if fails:
        with pytest.raises(RuntimeError, match="broken"):
            run_batches(limited, sequences(4), pad_id=0)
    else:
        run_batches(limited, sequences(4), pad_id=0)
    assert seen
    assert not any(seen)  # dropout is off while it runs
    assert {name: module.training for name, module in limited.named_modules()} == modes


def test_no_gradient_is_recorded(make_encoder: Callable[..., Encoder]) -> None:
    embedder = make_encoder("bert").embedder
    vectors, _ = run_batches(embedder, sequences(4), pad_id=0)
    assert not vectors.requires_grad
    assert any(p.requires_grad for p in embedder.parameters())
    # The vectors may enter a computation that has a gradient, which inference tensors may not.
    layer = nn.Linear(vectors.shape[1], 1)
    layer(vectors).sum().backward()
    assert layer.weight.grad is not None


# ------------------------------ training batches split by length


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masked", [False, True])
def test_groups_by_length_equal_one_batch_in_value_and_gradient(
    make_encoder: Callable[..., Encoder], monkeypatch: pytest.MonkeyPatch, kind: str, masked: bool
) -> None:
    monkeypatch.setitem(embedder_module.SPLIT_TOKENS, "cpu", 48)
    embedder, rows = make_encoder(kind).embedder, sequences(12)
    ids, mask = pad(rows, 0)
    pool_mask = mask * (torch.arange(mask.shape[1]) >= 2) if masked else None
    target = torch.randn(len(rows), 32, generator=torch.Generator().manual_seed(0))
    calls: list[int] = []
    embedder.trunk.register_forward_pre_hook(lambda *_: calls.append(1))

    def run(**options: Any) -> tuple[Tensor, dict[str, Tensor]]:
        embedder.zero_grad()
        vectors = embedder(ids, mask, pool_mask, **options)
        (nn.functional.normalize(vectors) * target).sum().backward()
        return vectors.detach(), {n: p.grad.clone() for n, p in embedder.named_parameters() if p.grad is not None}

    plain, plain_gradients = run()
    assert len(calls) == 1
    grouped, gradients = run(lengths=[len(row) for row in rows])
    assert len(calls) > 2
    assert distance(grouped, plain) < 1e-5
    assert gradients.keys() == plain_gradients.keys()
    assert len(gradients) > 10
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, plain_gradients[name], atol=2e-5, rtol=1e-4, msg=name)


def test_a_short_batch_is_not_split(make_encoder: Callable[..., Encoder]) -> None:
    embedder: Embedder = make_encoder("bert").embedder
    rows = sequences(4)
    ids, mask = pad(rows, 0)
    calls: list[int] = []
    embedder.trunk.register_forward_pre_hook(lambda *_: calls.append(1))
    embedder(ids, mask, lengths=[len(row) for row in rows])
    assert len(calls) == 1
