"""What the equations of the losses promise; `test_losses_golden.py` holds them against recorded values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import InputError
from common.losses import (
    angle_loss,
    contrastive_loss,
    cosent_loss,
    distillation_loss,
    duplicate_mask,
    in_batch_negatives_loss,
    info_nce_loss,
    symmetric_duplicate_mask,
)

# Whole-numbered rows, pairs (R0, R1), (R2, R3), (R4, R5).
R = torch.tensor(
    [[1, 2, 3, 4], [2, 1, 0, 1], [0, 1, -1, 2], [1, 1, -2, 1], [3, 0, 1, -1], [-1, 2, 1, 0]],
    dtype=torch.float64,
)
BINARY = torch.tensor([1.0, 0.0, 1.0])


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_defaults_of_info_nce_are_in_batch_at_002():
    q, p = random(3, 8), random(12, 8)
    assert info_nce_loss(q, p) == info_nce_loss(q, p, temperature=0.02, in_batch=True)
    assert info_nce_loss(q, p) != info_nce_loss(q, p, in_batch=False)
    by_hand = (q @ p.T / 0.02).log_softmax(dim=1)[torch.arange(3), torch.tensor([0, 4, 8])]
    torch.testing.assert_close(info_nce_loss(q, p), -by_hand.mean())


PAIR_LOSSES = [cosent_loss, angle_loss, in_batch_negatives_loss]
ALL_LOSSES = {
    "cosent": lambda x: cosent_loss(x[:4], x[4:8], torch.tensor([1.0, 0.0, 0.5, 1.0])),
    "angle": lambda x: angle_loss(x[:4], x[4:8], torch.tensor([1.0, 0.0, 0.5, 1.0])),
    "ibn": lambda x: in_batch_negatives_loss(x[:4], x[4:8], torch.tensor([1.0, 0.0, 1.0, 1.0])),
    "contrastive": lambda x: contrastive_loss(x[:4], x[4:8], x[8:]),
    "info_nce": lambda x: info_nce_loss(x[:4], x[4:], temperature=0.05),
    "info_nce_group": lambda x: info_nce_loss(x[:4], x[4:], temperature=0.05, in_batch=False),
    "distillation": lambda x: distillation_loss(x[:4], x[4:8]),
}
NORMALISED = ("cosent", "angle", "ibn", "contrastive")


@given(
    n=st.integers(2, 9),
    grades=st.integers(1, 4),
    seed=st.integers(0, 99),
    loss=st.sampled_from(PAIR_LOSSES),
)
@settings(max_examples=60, deadline=None)
def test_the_order_of_the_pairs_does_not_matter(n, grades, seed, loss):
    a, b = random(n, 6, seed=seed), random(n, 6, seed=seed + 1000)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, grades + 1, (n,), generator=generator).double()
    order = torch.randperm(n, generator=generator)
    torch.testing.assert_close(loss(a, b, labels), loss(a[order], b[order], labels[order]))


@given(n=st.integers(1, 6), seed=st.integers(0, 99), k=st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_contrastive_and_groups_do_not_depend_on_the_order_of_queries_and_negatives(n, seed, k):
    q, p = random(n, 6, seed=seed), random(n, 6, seed=seed + 1000)
    negatives = random(n * k, 6, seed=seed + 2000) if k else None
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(n, generator=generator)
    shuffled = None if negatives is None else negatives[torch.randperm(n * k, generator=generator)]
    torch.testing.assert_close(contrastive_loss(q, p, negatives), contrastive_loss(q[order], p[order], shuffled))
    groups = random(n, k + 1, 6, seed=seed + 3000)
    for in_batch in (True, False):
        torch.testing.assert_close(
            info_nce_loss(q, groups.flatten(0, 1), temperature=0.1, in_batch=in_batch),
            info_nce_loss(q[order], groups[order].flatten(0, 1), temperature=0.1, in_batch=in_batch),
        )


@given(seed=st.integers(0, 99), n=st.integers(2, 8))
@settings(max_examples=40, deadline=None)
def test_ranking_reads_only_the_order_of_the_labels(seed, n):
    a, b = random(n, 6, seed=seed), random(n, 6, seed=seed + 1000)
    labels = torch.randint(-2, 5, (n,), generator=torch.Generator().manual_seed(seed)).double()
    for loss in (cosent_loss, angle_loss):
        torch.testing.assert_close(loss(a, b, labels), loss(a, b, labels.exp() * 7 - 3))


@given(seed=st.integers(0, 99), name=st.sampled_from(NORMALISED), factor=st.sampled_from([1e-3, 0.5, 1e3]))
@settings(max_examples=40, deadline=None)
def test_the_length_of_a_vector_does_not_matter(seed, name, factor):
    x = random(12, 6, seed=seed)
    lengths = factor ** torch.rand(12, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(ALL_LOSSES[name](x), ALL_LOSSES[name](x * lengths))


def test_cosent_by_hand():
    # cos = 1, 0, -1 for the labels 0, 1, 2: every ordered pair is the wrong way round.
    a = torch.tensor([[1.0, 0.0]] * 3)
    b = torch.tensor([[2.0, 0.0], [0.0, 5.0], [-1.0, 0.0]])
    loss = cosent_loss(a, b, torch.tensor([0, 1, 2]), scale=1.0)
    assert loss.item() == pytest.approx(np.log(1 + np.e + np.e + np.e**2), rel=1e-6)
    right_way = cosent_loss(a, b, torch.tensor([2, 1, 0]), scale=1.0)
    assert right_way.item() == pytest.approx(np.log(1 + 2 / np.e + np.e**-2), rel=1e-6)


def test_equal_labels_give_exactly_zero_and_no_gradient():
    for loss in (cosent_loss, angle_loss):
        a = random(4, 6).requires_grad_()
        value = loss(a, random(4, 6, seed=1), torch.full((4,), 0.7))
        (gradient,) = torch.autograd.grad(value, a)
        assert value.item() == 0.0
        assert (gradient == 0).all()


def test_angle_depends_on_the_order_of_the_texts_and_cosent_does_not():
    a, b, labels = random(4, 6), random(4, 6, seed=1), torch.tensor([0.0, 1.0, 2.0, 3.0])
    assert abs(angle_loss(a, b, labels) - angle_loss(b, a, labels)) > 1e-3
    torch.testing.assert_close(cosent_loss(a, b, labels), cosent_loss(b, a, labels))
    torch.testing.assert_close(in_batch_negatives_loss(a, b, labels), in_batch_negatives_loss(b, a, labels))


def test_more_angle_score_means_more_similar():
    # A pair of equal vectors scores 1, an orthogonal one without imaginary part 0.
    a = torch.tensor([[1.0, 0.0, 0.0, 0.0]] * 2)
    b = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    assert angle_loss(a, b, torch.tensor([1, 0])) < 1e-6
    assert angle_loss(a, b, torch.tensor([0, 1])) == pytest.approx(20.0)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.99, None])
def test_every_threshold_agrees_on_zero_and_one(threshold):
    loss = in_batch_negatives_loss(R[::2], R[1::2], BINARY, positive_threshold=threshold)
    assert loss.item() == pytest.approx(5.461217, abs=1e-6)


def test_threshold_is_exclusive():
    a, b = R[::2], R[1::2]
    exactly = in_batch_negatives_loss(a, b, torch.tensor([0.5, 0.2, 0.9]), positive_threshold=0.5)
    torch.testing.assert_close(exactly, in_batch_negatives_loss(a, b, torch.tensor([0, 0, 1])))


@pytest.mark.parametrize("name", [n for n in ALL_LOSSES if n != "distillation"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_zero_rows_are_finite(name, dtype):
    for zero in ([0], [5], [0, 4], list(range(12))):
        x = random(12, 8).to(dtype)
        x[zero] = 0
        x.requires_grad_()
        loss = ALL_LOSSES[name](x)
        (gradient,) = torch.autograd.grad(loss, x)
        assert loss.isfinite(), zero
        assert gradient.isfinite().all(), zero


@pytest.mark.parametrize("name", ALL_LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_are_computed_in_fp32(name, dtype):
    x = (random(12, 64) * 40).to(dtype) if name in NORMALISED else random(12, 64).to(dtype)
    loss = ALL_LOSSES[name](x)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, ALL_LOSSES[name](x.float()), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NORMALISED)
def test_half_types_get_the_gradient_of_fp32(name):
    x = random(12, 64).to(torch.bfloat16)
    x[:, :5] = 0  # a vector with a zero in it is no zero vector
    half, single = x.clone().requires_grad_(), x.float().requires_grad_()
    (of_half,) = torch.autograd.grad(ALL_LOSSES[name](half), half)
    (of_single,) = torch.autograd.grad(ALL_LOSSES[name](single), single)
    torch.testing.assert_close(of_half.float(), of_single, rtol=1e-2, atol=1e-6)
    assert of_single.abs().max() > 1e-3


@pytest.mark.parametrize("name", ALL_LOSSES)
def test_autocast_changes_nothing(name):
    x = random(12, 64).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = ALL_LOSSES[name](x)
        assert torch.is_autocast_enabled("cpu")
    assert inside.dtype == torch.float32
    assert torch.equal(inside, ALL_LOSSES[name](x))


@pytest.mark.parametrize("name", ALL_LOSSES)
def test_gradients_are_those_of_the_value(name):
    assert torch.autograd.gradcheck(ALL_LOSSES[name], random(12, 6).requires_grad_())


@pytest.mark.parametrize("name", ALL_LOSSES)
def test_no_loss_waits_for_the_device(name):
    # A meta tensor has no values: reading one, as a wait for an accelerator would, raises.
    with torch.device("meta"):
        assert ALL_LOSSES[name](torch.empty(12, 8, device="meta")).shape == ()


class TestDuplicates:
    """Texts that stand in a batch twice are neither positive nor negative when a mask says so."""

    def test_a_repeated_positive_is_left_out(self):
        q, p = random(3, 6), random(3, 6, seed=1)
        p[2] = p[0]
        same = duplicate_mask(torch.tensor([1, 2, 3]), torch.tensor([4, 5, 4]))
        s = 20 * torch.nn.functional.normalize(q) @ torch.nn.functional.normalize(p).T
        rows = [s[0, [0, 1]], s[1, [1, 0, 2]], s[2, [2, 1]]]
        expected = torch.stack([-row.log_softmax(0)[0] for row in rows]).mean()
        torch.testing.assert_close(contrastive_loss(q, p, same=same), expected)
        assert contrastive_loss(q, p) > expected

    def test_mask_of_documents(self):
        mask = duplicate_mask(torch.tensor([1, 2, 1]), torch.tensor([4, 5, 6]), torch.tensor([4, 2, 9]))
        assert mask.int().tolist() == [
            [1, 0, 1, 1, 0, 0],  # positive 0 itself, positive 2 (same query), negative 0 (same as positive 0)
            [0, 1, 0, 0, 1, 0],  # positive 1 itself, negative 1 (the query's text)
            [1, 0, 1, 0, 0, 0],
        ]

    def test_mask_of_all_texts(self):
        mask = symmetric_duplicate_mask(torch.tensor([1, 2]), torch.tensor([3, 1]))  # texts 1 2 3 1
        assert mask.int().tolist() == [[1, 0, 1, 1], [1, 1, 0, 1], [1, 0, 1, 1], [1, 1, 0, 1]]

    def test_symmetric_loss_leaves_them_out(self):
        a, b = random(3, 6), random(3, 6, seed=1)
        a[2] = a[0]
        ids = torch.tensor([1, 2, 1]), torch.tensor([4, 5, 6])
        e = torch.nn.functional.normalize(torch.cat([a, b]))
        s = 20 * e @ e.T
        # Row by row: the partner, then the others but for the row's own text, its copies and the partner's.
        rows = [[3, 1, 4, 5], [4, 0, 2, 3, 5], [5, 1, 3, 4], [0, 1, 4, 5], [1, 0, 2, 3, 5], [2, 1, 3, 4]]
        expected = torch.stack([-s[r, row].log_softmax(0)[0] for r, row in enumerate(rows)]).mean()
        loss = in_batch_negatives_loss(a, b, torch.ones(3), same=symmetric_duplicate_mask(*ids))
        torch.testing.assert_close(loss, expected)

    def test_nothing_repeated_changes_nothing(self):
        q, p, n = random(3, 6), random(3, 6, seed=1), random(6, 6, seed=2)
        ids = torch.arange(12)
        same = duplicate_mask(ids[:3], ids[3:6], ids[6:])
        assert torch.equal(contrastive_loss(q, p, n, same=same), contrastive_loss(q, p, n))
        same = symmetric_duplicate_mask(ids[:3], ids[3:6])
        labels = torch.tensor([1.0, 0.0, 1.0])
        assert torch.equal(in_batch_negatives_loss(q, p, labels, same=same), in_batch_negatives_loss(q, p, labels))

    def test_all_the_same_is_finite(self):
        q = random(3, 6).requires_grad_()
        loss = contrastive_loss(q, q.detach(), same=torch.ones(3, 3, dtype=torch.bool))
        assert loss.item() == 0.0
        assert torch.autograd.grad(loss, q)[0].isfinite().all()

    def test_a_target_that_is_left_out_counts_nothing(self):
        a, b = random(2, 6), random(2, 6, seed=1)
        same = torch.zeros(4, 4, dtype=torch.bool)
        same[0, 1] = True
        weights = torch.zeros(4, 4)
        weights[0, 2] = weights[1, 3] = 1
        more = weights.clone()
        more[0, 1] = more[2, 2] = 1  # a text that is left out, and a text itself
        losses = [in_batch_negatives_loss(a, b, torch.zeros(2), same=same, targets=w) for w in (weights, more)]
        assert losses[0].isfinite()
        assert torch.equal(*losses)

    def test_targets_replace_the_partner(self):
        a, b, labels = R[::2], R[1::2], torch.tensor([1.0, 0.0, 1.0])
        weights = torch.zeros(6, 6)
        for r, c in ((0, 3), (3, 0), (2, 5), (5, 2)):
            weights[r, c] = 1
        torch.testing.assert_close(
            in_batch_negatives_loss(a, b, torch.zeros(3), targets=weights),
            in_batch_negatives_loss(a, b, labels),
        )


X, L = random(4, 6), torch.tensor([1.0, 0.0, 1.0, 0.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cosent_loss(X, X[:3], L), "4 rows against 3"),
        (lambda: cosent_loss(X, X[:, :4], L), r"a is \(4, 6\), b is \(4, 4\)"),
        (lambda: cosent_loss(X, X, L[:, None]), r"labels must be \(4,\), got \(4, 1\)"),
        (lambda: cosent_loss(X[0], X[0], L), r"got \(6,\)"),
        (lambda: cosent_loss(X[:0], X[:0], L[:0]), "at least one row"),
        (lambda: cosent_loss(X.long(), X, L), "a must be a floating"),
        (lambda: angle_loss(X, X[:3], L), "4 rows against 3"),
        (lambda: angle_loss(X[:, :5], X[:, :5], L), "the dimension is 5; it must be even"),
        (lambda: angle_loss(X, X, L, reduction="max"), "'max'"),
        (lambda: in_batch_negatives_loss(X, X, L[:2]), r"labels must be \(4,\)"),
        (lambda: in_batch_negatives_loss(X, X[:3], L), "4 rows against 3"),
        (lambda: in_batch_negatives_loss(X, X, L, same=torch.ones(4, 4)), r"same must be \(8, 8\)"),
        (lambda: in_batch_negatives_loss(X, X, L, targets=torch.ones(4, 4)), r"targets must be \(8, 8\)"),
        (lambda: contrastive_loss(X, X[:3]), "4 rows against 3"),
        (lambda: contrastive_loss(X, X, X[:3]), "3 negatives for 4 queries"),
        (lambda: contrastive_loss(X, X, X[:0]), "at least one row"),
        (lambda: contrastive_loss(X, X, X, same=torch.ones(4, 4)), r"same must be \(4, 8\)"),
        (lambda: info_nce_loss(X, X[:3]), "3 passages for 4 queries"),
        (lambda: info_nce_loss(X[:3], X), "4 passages for 3 queries"),
        (lambda: info_nce_loss(X[:0], X), "at least one row"),
        (lambda: distillation_loss(X, X[:3]), "4 rows against 3"),
        (lambda: distillation_loss(X, X[:, :3]), "the second dimension must be the same"),
    ],
)
def test_wrong_shapes_are_refused_in_one_line(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
