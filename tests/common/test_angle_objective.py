"""AnglE's objective against AngleLoss of the original, format by format, and what it warns about."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.angle_objective import INT_LABELS, AngleObjective
from common.errors import InputError
from common.losses import angle_loss, contrastive_loss, cosent_loss, in_batch_negatives_loss

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "angle"
ARRAYS = dict(np.load(GOLDEN / "losses.npz"))
NAMES = list(ARRAYS["case"])
CASES = [case for case in json.loads((GOLDEN / "cases.json").read_text()) if "AngleLoss" in case["function"]]

R = torch.tensor(
    [[1, 2, 3, 4], [2, 1, 0, 1], [0, 1, -1, 2], [1, 1, -2, 1], [3, 0, 1, -1], [-1, 2, 1, 0]],
    dtype=torch.float64,
)
GRADED = torch.tensor([0.9, 0.2, 0.5])
ONES = dict.fromkeys(("cosine_w", "ibn_w", "cln_w", "angle_w", "cosine_tau", "ibn_tau", "angle_tau"), 1.0)


def by_columns(data_format: str, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """The rows of the original's layout (a0, b0, a1, b1, ... or q0, p0, n0, ...) as our columns."""
    names = AngleObjective.columns_by_format[data_format]
    return {name: x[i :: len(names)] for i, name in enumerate(names)}


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_golden_value_and_gradient(case):
    i = NAMES.index(case["case"])
    kwargs = dict(case["kwargs"])
    data_format = kwargs.pop("dataset_format")
    objective = AngleObjective(**kwargs)
    labels = torch.tensor(ARRAYS[case["labels"]])[::2, 0] if data_format == "A" else None
    x = torch.tensor(ARRAYS[case["emb"]], requires_grad=True)
    loss = objective(by_columns(data_format, x), labels)
    torch.testing.assert_close(loss.item(), float(ARRAYS["loss_f64_correct"][i]), rtol=1e-9, atol=1e-9)
    (gradient,) = torch.autograd.grad(loss, x)
    recorded = "grad_f64/AngleLoss/B/default" if data_format == "B" and "tau" not in str(kwargs) else None
    recorded = "grad_f64/" + case["case"] if "grad_f64/" + case["case"] in ARRAYS else recorded
    if recorded:
        torch.testing.assert_close(gradient, torch.tensor(ARRAYS[recorded]), rtol=1e-9, atol=1e-9)
    elif data_format == "A":  # no term has a weight
        assert (gradient == 0).all()
    single = objective(by_columns(data_format, x.detach().float()), labels)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.item(), float(ARRAYS["loss_f32_original"][i]), rtol=1e-5, atol=2e-5)


def test_all_golden_cases_are_here():
    assert len(CASES) == 28


@pytest.mark.parametrize(
    ("data_format", "rows", "settings_", "value"),
    [
        ("A", 6, {}, 0.000590),
        ("A", 6, ONES, 2.871188),
        ("B", 4, {}, 0.002199),
        ("B", 4, ONES, 0.515221),
        ("C", 6, {}, 7.018980),
        ("C", 6, ONES, 4.000561),
    ],
)
def test_check_values(data_format, rows, settings_, value):
    loss = AngleObjective(**settings_)(by_columns(data_format, R[:rows]), GRADED if data_format == "A" else None)
    assert loss.item() == pytest.approx(value, abs=1e-6)


def test_defaults_are_those_of_0_6_1():
    o = AngleObjective()
    assert (o.cosine_w, o.ibn_w, o.cln_w, o.angle_w) == (0.0, 1.0, 1.0, 0.02)
    assert (o.cosine_tau, o.ibn_tau, o.angle_tau, o.angle_pooling_strategy) == (20.0, 20.0, 20.0, "sum")


def test_terms_add_up():
    a, b, n = random(4, 6), random(4, 6, seed=1), random(4, 6, seed=2)
    labels = torch.tensor([1.0, 0.0, 1.0, 1.0])
    o = AngleObjective(
        cosine_w=2,
        ibn_w=3,
        cln_w=5,
        angle_w=7,
        cosine_tau=11,
        ibn_tau=13,
        angle_tau=17,
        angle_pooling_strategy="mean",
    )
    expected = (
        2 * cosent_loss(a, b, labels, scale=11)
        + 3 * in_batch_negatives_loss(a, b, labels, scale=13)
        + 7 * angle_loss(a, b, labels, scale=17, reduction="mean")
    )
    torch.testing.assert_close(o({"text1": a, "text2": b}, labels), expected)
    qq, pn, z = torch.cat([a, a]), torch.cat([b, n]), torch.tensor([1.0] * 4 + [0.0] * 4)
    expected = (
        (3 * contrastive_loss(a, b, scale=13) + 5 * contrastive_loss(a, b, n, scale=13)) / 2
        + 7 * angle_loss(qq, pn, z, scale=17, reduction="mean")
        + 2 * cosent_loss(qq, pn, z, scale=11)
    )
    torch.testing.assert_close(o({"query": a, "positive": b, "negative": n}, None), expected)
    torch.testing.assert_close(o({"positive": b, "query": a}, None), contrastive_loss(a, b, scale=13))


@given(data_format=st.sampled_from(["A", "B", "C"]), n=st.integers(2, 6), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_the_order_of_the_rows_does_not_matter(data_format, n, seed):
    o = AngleObjective(cosine_w=1.0, angle_w=1.0)
    names = o.columns_by_format[data_format]
    columns = {name: random(n, 6, seed=seed + 1000 * i) for i, name in enumerate(names)}
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (n,), generator=generator).float()
    order = torch.randperm(n, generator=generator)
    shuffled = {name: x[order] for name, x in columns.items()}
    torch.testing.assert_close(o(columns, labels), o(shuffled, labels[order]))


def test_gradients_on_leaf_embeddings_are_those_through_the_model():
    # What GradCache needs: the gradient of detached embeddings, passed on, is the plain gradient.
    weight = random(8, 6).requires_grad_()
    inputs = {name: random(4, 8, seed=i) for i, name in enumerate(("query", "positive", "negative"))}
    o = AngleObjective(cosine_w=0.5)
    (plain,) = torch.autograd.grad(o({k: x @ weight for k, x in inputs.items()}, None), weight)
    leaves = {k: (x @ weight).detach().requires_grad_() for k, x in inputs.items()}
    o(leaves, None).backward()
    cached = sum(inputs[k].T @ leaves[k].grad for k in inputs)
    torch.testing.assert_close(cached, plain)


@pytest.mark.parametrize("data_format", ["A", "B", "C"])
def test_the_objective_does_not_wait_for_the_device(data_format):
    # A meta tensor has no values: reading one, as a wait for an accelerator would, raises.
    o = AngleObjective(cosine_w=1.0, ibn_positive_threshold=0.5)
    names = o.columns_by_format[data_format]
    columns = {name: torch.empty(4, 6, device="meta") for name in names}
    ids = {name: torch.empty(4, dtype=torch.long, device="meta") for name in names}
    assert o(columns, torch.empty(4, device="meta"), text_ids=ids).shape == ()


class TestWarnings:
    def test_a_changed_setting_without_effect_is_named_once(self, caplog):
        o = AngleObjective(cosine_w=1.0, ibn_w=35.0, angle_tau=1.0)
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                o(by_columns("B", R[:4]), None)
        assert [record.getMessage() for record in caplog.records] == [
            f"{name} has no effect on format B data (query, positive)"
            for name in ("cosine_w=1.0", "ibn_w=35.0", "angle_tau=1.0")
        ]

    def test_cln_w_belongs_to_triplets(self, caplog):
        o = AngleObjective(cln_w=3.0)
        assert o.without_effect("A") == ["cln_w=3.0 has no effect on format A data (text1, text2)"]
        assert o.without_effect("C") == []

    def test_defaults_are_silent(self, caplog):
        with caplog.at_level(logging.WARNING):
            AngleObjective()(by_columns("A", R), torch.tensor([1.0, 0.0, 1.0]))
            AngleObjective()(by_columns("B", R[:4]), None)
            AngleObjective()(by_columns("C", R), None)
        assert caplog.records == []

    def test_graded_labels_with_in_batch_negatives(self, caplog):
        columns = by_columns("A", R)
        with caplog.at_level(logging.WARNING):
            o = AngleObjective()
            o(columns, GRADED)
            o(columns, GRADED)
            assert len(caplog.records) == 1
            assert "--ibn_positive_threshold" in caplog.text
            caplog.clear()
            AngleObjective(ibn_positive_threshold=0.4)(columns, GRADED)
            AngleObjective(ibn_w=0.0)(columns, GRADED)
            AngleObjective(compat=frozenset({INT_LABELS}))(columns, GRADED)
            assert caplog.records == []


def test_threshold_reaches_the_in_batch_term():
    o = AngleObjective(ibn_positive_threshold=0.4, ibn_tau=1.0, angle_w=0.0)
    assert o(by_columns("A", R), GRADED).item() == pytest.approx(1.126428, abs=1e-6)


class TestIntLabels:
    """`angle:int-labels`: whole labels in every term, and collisions of index * label as extra positives."""

    def original_targets(self, labels: list[int]) -> torch.Tensor:
        """Row by row from the description: c is a positive of r where partner(r) * label_r = c * label_c."""
        rows = [label for label in labels for _ in range(2)]
        hits = torch.zeros(len(rows), len(rows), dtype=torch.float64)
        for r, of_r in enumerate(rows):
            for c, of_c in enumerate(rows):
                hits[r, c] = float(of_r != 0 and of_c != 0 and (r ^ 1) * of_r == c * of_c)
        return hits

    @given(labels=st.lists(st.integers(0, 5), min_size=2, max_size=8), seed=st.integers(0, 99))
    @settings(max_examples=60, deadline=None)
    def test_in_batch_term(self, labels, seed):
        x = random(2 * len(labels), 6, seed=seed)
        e = torch.nn.functional.normalize(x)
        logits = 20 * e @ e.T
        logits.fill_diagonal_(-1e13)
        targets = self.original_targets(labels)
        expected = -(logits.log_softmax(1) * targets).sum(1).mean()
        o = AngleObjective(angle_w=0.0, compat=frozenset({INT_LABELS}))
        fractions = torch.tensor(labels, dtype=torch.float32) + 0.5 * (torch.tensor(labels) > 0)
        torch.testing.assert_close(o(by_columns("A", x), fractions), expected)

    def test_collisions_make_false_positives(self):
        # partner(0) * 4 = 4 = 2 * 2: the first text of the second pair is a positive of the first text.
        assert self.original_targets([4, 2])[0, 2] == 1
        x, labels = random(4, 6), torch.tensor([4.0, 2.0])
        with_collisions = AngleObjective(angle_w=0.0, compat=frozenset({INT_LABELS}))
        assert with_collisions(by_columns("A", x), labels) > AngleObjective(angle_w=0.0)(by_columns("A", x), labels)

    def test_zero_and_one_are_as_ever(self):
        labels = torch.tensor([1.0, 0.0, 1.0])
        for settings_ in ({}, ONES):
            plain = AngleObjective(**settings_)(by_columns("A", R), labels)
            compat = AngleObjective(**settings_, compat=frozenset({INT_LABELS}))(by_columns("A", R), labels)
            torch.testing.assert_close(plain, compat)

    @pytest.mark.parametrize("term", ["cosine_w", "angle_w"])
    def test_ranking_terms_see_whole_labels(self, term):
        weights = {"cosine_w": 0.0, "ibn_w": 0.0, "angle_w": 0.0, term: 1.0}
        plain, compat = AngleObjective(**weights), AngleObjective(**weights, compat=frozenset({INT_LABELS}))
        assert plain(by_columns("A", R), GRADED) > 0
        assert compat(by_columns("A", R), GRADED) == 0  # 0.9, 0.2, 0.5 all become 0
        torch.testing.assert_close(
            compat(by_columns("A", R), torch.tensor([1.9, 0.5, 2.0])),
            plain(by_columns("A", R), torch.tensor([1.0, 0.0, 2.0])),
        )

    def test_other_names_are_ignored(self):
        labels = torch.tensor([4.0, 2.0, 0.7])
        o = AngleObjective(compat=frozenset({"angle:per-device-negatives", "bellm:unmask-padding"}))
        assert torch.equal(o(by_columns("A", R), labels), AngleObjective()(by_columns("A", R), labels))


class TestTextIds:
    """Duplicate texts are neither positive nor negative when the ids of the texts are given."""

    def test_triplets(self):
        q, p, n = random(3, 6), random(3, 6, seed=1), random(3, 6, seed=2)
        p[2] = p[0]
        columns = {"query": q, "positive": p, "negative": n}
        ids = {name: torch.tensor(x) for name, x in zip(columns, ([1, 2, 3], [4, 5, 4], [6, 7, 8]), strict=True)}
        same = torch.tensor([[0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]], dtype=torch.bool)
        o = AngleObjective(angle_w=0.0)
        expected = (contrastive_loss(q, p, same=same[:, :3]) + contrastive_loss(q, p, n, same=same)) / 2
        torch.testing.assert_close(o(columns, None, text_ids=ids), expected)
        assert o(columns, None) > expected

    def test_query_and_positive(self):
        q, p = random(3, 6), random(3, 6, seed=1)
        ids = {"query": torch.tensor([1, 2, 3]), "positive": torch.tensor([4, 5, 4])}
        same = torch.tensor([[0, 0, 1], [0, 0, 0], [1, 0, 0]], dtype=torch.bool)
        loss = AngleObjective()({"query": q, "positive": p}, None, text_ids=ids)
        torch.testing.assert_close(loss, contrastive_loss(q, p, same=same))

    def test_pairs(self):
        a, b, labels = random(2, 6), random(2, 6, seed=1), torch.ones(2)
        ids = {"text1": torch.tensor([1, 1]), "text2": torch.tensor([3, 4])}
        same = torch.zeros(4, 4, dtype=torch.bool)
        same[0, 1] = same[1, 0] = same[2, 1] = same[3, 0] = True
        loss = AngleObjective(angle_w=0.0)({"text1": a, "text2": b}, labels, text_ids=ids)
        torch.testing.assert_close(loss, in_batch_negatives_loss(a, b, labels, same=same))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AngleObjective()({"text1": R, "text2": R}, None), "needs labels"),
        (lambda: AngleObjective()({"text": R, "positive": R}, None), "columns positive, text"),
        (lambda: AngleObjective(ibn_w=-1.0), "--ibn_w must be 0 or more, got -1.0"),
        (lambda: AngleObjective(angle_tau=0.0), "--angle_tau must be a number above 0"),
        (lambda: AngleObjective(cosine_w=float("nan")), "--cosine_w"),
        (lambda: AngleObjective(angle_pooling_strategy="max"), "'max'"),
        (
            lambda: AngleObjective(ibn_positive_threshold=0.5, compat=frozenset({INT_LABELS})),
            "has no meaning under --compat angle:int-labels",
        ),
    ],
)
def test_wrong_use_is_refused_in_one_line(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
