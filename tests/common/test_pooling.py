"""Pooling against recorded outputs, and by eye: the hidden state is the token's own number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import InputError
from common.pooling import ALIASES, COMPAT, STRATEGIES, canonical_strategy, pool

GOLDEN = dict(np.load(Path(__file__).resolve().parents[1] / "golden" / "angle" / "pooling.npz"))


def states(rows: list[list[float]], dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Hidden states (B, T, 2): the given number, and its negative, at every token."""
    x = torch.tensor(rows, dtype=dtype)
    return torch.stack([x, -x], dim=-1)


# Three texts with the tokens 1 2 3 4 | 5 6 | 7; 100 stands at padding.
RIGHT = states([[1, 2, 3, 4], [5, 6, 100, 100], [7, 100, 100, 100]])
LEFT = states([[1, 2, 3, 4], [100, 100, 5, 6], [100, 100, 100, 7]])
RIGHT_MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
LEFT_MASK = RIGHT_MASK.flip(1)

BY_EYE = {
    "cls": [1, 5, 7],
    "last": [4, 6, 7],
    "mean": [2.5, 5.5, 7],
    "weighted_mean": [(1 + 4 + 9 + 16) / 10, (5 + 12) / 3, 7],
    "max": [4, 6, 7],
    "cls_avg": [1.75, 5.25, 7],
    "cls_max": [2.5, 5.5, 7],
}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("hidden", "mask"), [(RIGHT, RIGHT_MASK), (LEFT, LEFT_MASK)], ids=["right", "left"])
def test_by_eye(strategy, hidden, mask):
    out = pool(hidden, mask, strategy)
    assert out.shape == (3, 2)
    assert out[:, 0].tolist() == pytest.approx(BY_EYE[strategy])
    # The negated states: largest is the first token, so that a maximum with padding as 0 shows.
    negated = {"max": [-1, -5, -7], "cls_max": [-1, -5, -7]}
    assert out[:, 1].tolist() == pytest.approx(negated.get(strategy, [-x for x in BY_EYE[strategy]]))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_without_padding(strategy):
    out = pool(RIGHT[:1], RIGHT_MASK[:1], strategy)
    assert out[0, 0].item() == pytest.approx(BY_EYE[strategy][0])


@pytest.mark.parametrize("mask_dtype", [torch.bool, torch.int32, torch.float32])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_any_type_of_mask(strategy, mask_dtype):
    out = pool(LEFT, LEFT_MASK.to(mask_dtype), strategy, pool_mask=LEFT_MASK.to(mask_dtype))
    assert out[:, 0].tolist() == pytest.approx(BY_EYE[strategy])


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("strategy", ["cls", "cls_avg", "cls_max", "last", "mean", "avg", "max"])
def test_angle_golden(side, strategy):
    hidden, mask = torch.tensor(GOLDEN[f"{side}/hidden"]), torch.tensor(GOLDEN[f"{side}/mask"])
    expected = torch.tensor(GOLDEN[f"{side}/{strategy}_correct"])
    torch.testing.assert_close(pool(hidden, mask, strategy), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("side", "strategy", "compat"),
    [
        *[(side, strategy, "") for side in ("left", "right") for strategy in ("avg", "mean", "last")],
        ("right", "cls", ""),
        ("right", "cls_avg", ""),
        ("right", "max", "angle:max-pooling"),
        ("left", "max", "angle:max-pooling"),
        ("right", "cls_max", "angle:max-pooling"),
    ],
)
def test_angle_golden_of_the_original(side, strategy, compat):
    hidden, mask = torch.tensor(GOLDEN[f"{side}/hidden"]), torch.tensor(GOLDEN[f"{side}/mask"])
    out = pool(hidden, mask, strategy, compat=frozenset({compat}))
    torch.testing.assert_close(out, torch.tensor(GOLDEN[f"{side}/{strategy}_original"]), rtol=0, atol=1e-12)


@pytest.mark.shared
@pytest.mark.parametrize("side", ["left", "right"])
def test_bge_golden(shared, side):
    arrays = np.load(shared / "golden" / "bge_icl" / "pooling.npz")
    out = pool(torch.tensor(arrays["pool_hidden"]), torch.tensor(arrays[f"pool_{side}_mask"]), "last_token")
    assert torch.equal(out, torch.tensor(arrays[f"pool_{side}_out"]))


@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    extra=st.integers(0, 4),
    seed=st.integers(0, 99),
    strategy=st.sampled_from(STRATEGIES),
    garbage=st.sampled_from([0.0, 1e30, float("nan"), float("inf")]),
    skipped=st.integers(0, 3),
)
@settings(max_examples=150, deadline=None)
def test_padding_does_not_matter(lengths, extra, seed, strategy, garbage, skipped):
    generator = torch.Generator().manual_seed(seed)
    texts = [torch.randn(n, 3, dtype=torch.float64, generator=generator) for n in lengths]
    width = max(lengths) + extra
    alone = [
        pool(
            text[None],
            torch.ones(1, len(text)),
            strategy,
            pool_mask=(torch.arange(len(text)) >= skipped)[None],
        )
        for text in texts
    ]
    for side in ("left", "right"):
        hidden = torch.full((len(texts), width, 3), garbage, dtype=torch.float64)
        mask, pooled = torch.zeros(len(texts), width), torch.zeros(len(texts), width)
        for i, text in enumerate(texts):
            start = width - len(text) if side == "left" else 0
            hidden[i, start : start + len(text)] = text
            mask[i, start : start + len(text)] = 1
            pooled[i, start + skipped : start + len(text)] = 1
        out = pool(hidden, mask, strategy, pool_mask=pooled)
        torch.testing.assert_close(out, torch.cat(alone), rtol=1e-12, atol=1e-12)


def test_pool_mask_picks_the_tokens():
    pooled = torch.tensor([[0, 1, 1, 0], [0, 1, 1, 1], [0, 1, 0, 0]])  # partly on padding; nothing real in row 2
    expected = {
        "cls": [1, 5, 7],  # the first real token, whatever is pooled
        "last": [3, 6, 7],
        "mean": [2.5, 6, 7],
        "weighted_mean": [(2 + 2 * 3) / 3, 6, 7],
        "max": [3, 6, 7],
        "cls_avg": [1.75, 5.5, 7],
        "cls_max": [2, 5.5, 7],
    }
    for strategy in STRATEGIES:
        out = pool(RIGHT, RIGHT_MASK, strategy, pool_mask=pooled)
        assert out[:, 0].tolist() == pytest.approx(expected[strategy]), strategy


def test_an_empty_pool_mask_pools_all_real_tokens():
    for strategy in STRATEGIES:
        out = pool(LEFT, LEFT_MASK, strategy, pool_mask=torch.zeros_like(LEFT_MASK))
        assert torch.equal(out, pool(LEFT, LEFT_MASK, strategy)), strategy


def test_a_row_of_padding_is_refused_by_its_number():
    mask = LEFT_MASK.clone()
    mask[1] = 0
    for strategy in STRATEGIES:
        with pytest.raises(InputError, match="no real token in row 1 of the batch"):
            pool(LEFT, mask, strategy)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_pooling_does_not_wait_for_the_device(strategy):
    # A meta tensor has no values: reading one, as a wait for an accelerator would, raises.
    hidden, mask = torch.empty(3, 4, 2, device="meta"), torch.empty(3, 4, dtype=torch.long, device="meta")
    assert pool(hidden, mask, strategy, pool_mask=mask).shape == (3, 2)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_texts_give_no_vectors(strategy):
    assert pool(torch.empty(0, 4, 2), torch.empty(0, 4), strategy).shape == (0, 2)


class TestPrecision:
    @pytest.mark.parametrize("strategy", STRATEGIES)
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_states_are_pooled_in_fp32(self, strategy, dtype):
        hidden = torch.randn(3, 300, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
        mask = torch.ones(3, 300)
        out = pool(hidden, mask, strategy)
        assert out.dtype == torch.float32
        torch.testing.assert_close(out, pool(hidden.float(), mask, strategy), rtol=1e-6, atol=1e-6)

    def test_a_long_text_does_not_overflow_in_fp16(self):
        hidden = torch.full((1, 2000, 2), 100.0, dtype=torch.float16)
        for strategy in ("mean", "weighted_mean", "cls_avg"):
            assert pool(hidden, torch.ones(1, 2000), strategy).tolist() == [[pytest.approx(100.0)] * 2]

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_fp32_and_fp64_stay(self, strategy):
        assert pool(LEFT, LEFT_MASK, strategy).dtype == torch.float64
        assert pool(LEFT.float(), LEFT_MASK, strategy).dtype == torch.float32

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_autocast_changes_nothing(self, strategy):
        hidden = torch.randn(2, 9, 8, generator=torch.Generator().manual_seed(0))
        mask = torch.tensor([[0] * 4 + [1] * 5, [1] * 9])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = pool(hidden, mask, strategy)
        assert inside.dtype == torch.float32
        assert torch.equal(inside, pool(hidden, mask, strategy))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_gradients_reach_the_real_tokens_only(strategy):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(3, 4, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(lambda h: pool(h, LEFT_MASK, strategy), hidden)
    (gradient,) = torch.autograd.grad(pool(hidden, LEFT_MASK, strategy).sum(), hidden)
    assert (gradient[LEFT_MASK == 0] == 0).all()
    assert gradient[LEFT_MASK == 1].abs().sum() > 0


def test_the_states_are_left_as_they_were():
    hidden = LEFT.clone()
    for strategy in STRATEGIES:
        pool(hidden, LEFT_MASK, strategy)
    assert torch.equal(hidden, LEFT)


class TestCompat:
    """What the releases of AnglE did, on the batch of the first test (100 at padding, 7 real tokens)."""

    def test_mean_over_padding(self):
        compat = frozenset({"angle:pool-pad-mean"})
        out = pool(RIGHT, RIGHT_MASK, "avg", compat=compat)
        assert out[:, 0].tolist() == [2.5, 211 / 4, 307 / 4]
        out = pool(RIGHT, RIGHT_MASK, "cls_avg", compat=compat)
        assert out[:, 0].tolist() == [1.75, (5 + 211 / 4) / 2, (7 + 307 / 4) / 2]

    def test_mean_divided_by_the_tokens_of_the_batch(self):
        compat = frozenset({"angle:pool-batch-mask-sum"})
        out = pool(RIGHT, RIGHT_MASK, "mean", compat=compat)
        assert out[:, 0].tolist() == pytest.approx([10 / 7, 11 / 7, 1])
        out = pool(LEFT, LEFT_MASK, "cls_avg", compat=compat)
        assert out[:, 0].tolist() == pytest.approx([(1 + 10 / 7) / 2, (5 + 11 / 7) / 2, 4])

    def test_maximum_with_padding_as_zero(self):
        out = pool(RIGHT, RIGHT_MASK, "max", compat=frozenset({"angle:max-pooling"}))
        assert out.tolist() == [[4, -1], [6, 0], [7, 0]]

    def test_the_two_means_exclude_each_other(self):
        with pytest.raises(InputError, match="exclude each other"):
            pool(
                RIGHT,
                RIGHT_MASK,
                "mean",
                compat=frozenset({"angle:pool-pad-mean", "angle:pool-batch-mask-sum"}),
            )

    @pytest.mark.parametrize("strategy", ["cls", "last", "weighted_mean"])
    def test_the_others_are_as_ever(self, strategy):
        for name in [*COMPAT, "bellm:unmask-padding"]:
            out = pool(LEFT, LEFT_MASK, strategy, compat=frozenset({name}))
            assert torch.equal(out, pool(LEFT, LEFT_MASK, strategy))


class TestNames:
    def test_aliases_lead_to_strategies(self):
        assert set(ALIASES.values()) <= set(STRATEGIES)
        for alias, strategy in ALIASES.items():
            assert torch.equal(pool(LEFT, LEFT_MASK, alias), pool(LEFT, LEFT_MASK, strategy))

    @pytest.mark.parametrize(
        ("given_name", "name"),
        [
            ("Mean", "mean"),
            ("last-token", "last"),
            ("avg", "mean"),
            ("bos", "cls"),
            ("eos", "last"),
            ("cls", "cls"),
        ],
    )
    def test_canonical_strategy(self, given_name, name):
        assert canonical_strategy(given_name) == name

    @pytest.mark.parametrize(
        ("wrong", "hint"), [("wieghted_mean", "'weighted_mean'"), ("lst", "'last'"), ("qqqq", "known: cls")]
    )
    def test_unknown_names_are_refused_with_the_nearest(self, wrong, hint):
        with pytest.raises(InputError, match=hint):
            pool(LEFT, LEFT_MASK, wrong)


@pytest.mark.parametrize(
    ("hidden", "mask", "pool_mask", "message"),
    [
        (LEFT, LEFT_MASK[:2], None, r"attention_mask is \(2, 4\)"),
        (LEFT, LEFT_MASK, LEFT_MASK[:, :2], r"pool_mask is \(3, 2\)"),
        (LEFT[0], LEFT_MASK, None, r"\(B, T, D\)"),
        (LEFT.long(), LEFT_MASK, None, "floating"),
    ],
)
def test_wrong_shapes_are_refused_in_one_line(hidden, mask, pool_mask, message):
    with pytest.raises(InputError, match=message) as caught:
        pool(hidden, mask, "mean", pool_mask=pool_mask)
    assert "\n" not in str(caught.value)
