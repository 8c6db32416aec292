"""The losses against what the originals recorded: values and gradients."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from common.errors import InputError
from common.losses import (
    angle_loss,
    contrastive_loss,
    cosent_loss,
    distillation_loss,
    group_scores,
    in_batch_negatives_loss,
    info_nce_loss,
)

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "angle"
ARRAYS = dict(np.load(GOLDEN / "losses.npz"))
NAMES = list(ARRAYS["case"])
# AngleLoss is put together in angle.objective and tested there.
CASES = [case for case in json.loads((GOLDEN / "cases.json").read_text()) if "AngleLoss" not in case["function"]]

# The rows of the table of check values (float64), pairs (R0, R1), (R2, R3), (R4, R5).
R = torch.tensor(
    [[1, 2, 3, 4], [2, 1, 0, 1], [0, 1, -1, 2], [1, 1, -2, 1], [3, 0, 1, -1], [-1, 2, 1, 0]],
    dtype=torch.float64,
)
BINARY = torch.tensor([1.0, 0.0, 1.0])
GRADED = torch.tensor([0.9, 0.2, 0.5])


def golden_loss(case: dict, x: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
    """Our function on the rows of a recorded case."""
    kwargs = dict(case["kwargs"])
    scale = kwargs.pop("tau", None)
    function = case["function"]
    if function == "cosine_loss":
        return cosent_loss(x[::2], x[1::2], labels, scale=scale)
    if function == "angle_loss":
        return angle_loss(x[::2], x[1::2], labels, scale=scale, reduction=kwargs["pooling_strategy"])
    if function == "in_batch_negative_loss":
        return in_batch_negatives_loss(x[::2], x[1::2], labels, scale=scale)
    if function.startswith("contrastive_with_negative_loss"):
        if case["case"] == "cwn/with_neg":
            return contrastive_loss(x[::3], x[1::3], x[2::3], scale=scale)
        return contrastive_loss(x[::2], x[1::2], scale=scale)
    assert function.startswith("compute_distillation_loss")
    # mse + T * KL, and KL is our cross entropy minus the teacher's entropy.
    target = torch.tensor(ARRAYS["distill_target"], dtype=x.dtype)
    t = kwargs["kl_temperature"]
    log_teacher = (target / t).log_softmax(dim=1)
    entropy = -(log_teacher.exp() * log_teacher).sum(dim=1).mean()
    mse = (x - target).square().mean()
    return kwargs["mse_weight"] * mse + t * (distillation_loss(x / t, target / t) - entropy)


def golden_labels(case: dict) -> torch.Tensor | None:
    return None if case["labels"] is None else torch.tensor(ARRAYS[case["labels"]])[::2, 0]


def test_all_kinds_of_golden_cases_are_here():
    assert len(NAMES) == 106
    assert len(CASES) == 106 - 28


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_golden_value_and_gradient(case):
    i = NAMES.index(case["case"])
    x = torch.tensor(ARRAYS[case["emb"]], requires_grad=True)
    if case["error"]:
        with pytest.raises(InputError, match="must be even"):
            golden_loss(case, x, golden_labels(case))
        return
    loss = golden_loss(case, x, golden_labels(case))
    assert loss.dtype == torch.float64
    assert loss.shape == ()
    torch.testing.assert_close(loss.item(), float(ARRAYS["loss_f64_correct"][i]), rtol=1e-9, atol=1e-9)
    (gradient,) = torch.autograd.grad(loss, x)
    expected = torch.tensor(ARRAYS["grad_f64/" + case["case"]])
    if case["known_bug"]:
        assert expected.isnan().any()
        assert gradient.isfinite().all()
    else:
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", [c for c in CASES if not c["error"] and not c["known_bug"]], ids=lambda c: c["case"])
def test_golden_value_in_fp32(case):
    i = NAMES.index(case["case"])
    loss = golden_loss(case, torch.tensor(ARRAYS[case["emb"]], dtype=torch.float32), golden_labels(case))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.item(), float(ARRAYS["loss_f32_original"][i]), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("loss", "value"),
    [
        (lambda a, b: cosent_loss(a, b, BINARY), 20.353995),
        (lambda a, b: cosent_loss(a, b, GRADED), 20.353995),
        (lambda a, b: cosent_loss(a, b, GRADED, scale=1), 1.684358),
        (lambda a, b: angle_loss(a, b, BINARY, scale=1), 0.901923),
        (lambda a, b: angle_loss(a, b, GRADED, scale=1), 1.186830),
        (lambda a, b: angle_loss(a, b, GRADED), 0.029501),
        (lambda a, b: angle_loss(a, b, GRADED, reduction="mean"), 0.598788),
        (lambda a, b: angle_loss(b, a, GRADED, scale=1), 1.811764),
        (lambda a, b: in_batch_negatives_loss(a, b, GRADED, scale=1), 0.0),
        (lambda a, b: in_batch_negatives_loss(a, b, GRADED, scale=1, positive_threshold=0.4), 1.126428),
        (lambda a, b: in_batch_negatives_loss(a, b, BINARY), 5.461217),
        (lambda a, b: in_batch_negatives_loss(a, b, BINARY, scale=1), 1.126428),
    ],
)
def test_check_values_of_pairs(loss, value):
    assert loss(R[::2], R[1::2]).item() == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(
    ("scale", "with_negatives", "value"),
    [
        (1, True, 1.497823),
        (20, True, 7.859364),
        (50, True, 19.300317),
        (1, False, 0.763975),
        (20, False, 6.172166),
        (50, False, 15.430335),
    ],
)
def test_check_values_of_contrastive(scale, with_negatives, value):
    negative = R[[2, 5]] if with_negatives else None
    loss = contrastive_loss(R[[0, 3]], R[[1, 4]], negative, scale=scale)
    assert loss.item() == pytest.approx(value, abs=1e-6)


@pytest.mark.shared
@pytest.mark.parametrize("scale", [20, 50])
@pytest.mark.parametrize("negatives", [0, 1])
def test_llm2vec_golden(shared, scale, negatives):
    arrays = np.load(shared / "golden" / "llm2vec" / "contrastive.npz")
    columns = ("q", "pos", "neg")[: 2 + negatives]
    prefix = f"scale{scale}_neg{negatives}"
    inputs = [torch.tensor(arrays[c], dtype=torch.float64, requires_grad=True) for c in columns]
    loss = contrastive_loss(*inputs, scale=scale)
    torch.testing.assert_close(loss.item(), float(arrays[f"{prefix}/f64/loss"]), rtol=1e-9, atol=1e-9)
    for name, gradient in zip(columns, torch.autograd.grad(loss, inputs), strict=True):
        expected = torch.tensor(arrays[f"{prefix}/f64/grad_{name}"])
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-9)
    single = contrastive_loss(*(x.detach().float() for x in inputs), scale=scale)
    torch.testing.assert_close(single.item(), float(arrays[f"{prefix}/f32/loss"]), rtol=0, atol=1e-5)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "temperature", "in_batch", "distil"),
    [
        ("inbatch", 0.02, True, False),
        ("no_inbatch", 0.02, False, False),
        ("inbatch_T1", 1.0, True, False),
        ("inbatch_kd_kl_div", 0.02, True, True),
        ("no_inbatch_kd_kl_div", 0.02, False, True),
    ],
)
def test_bge_golden(shared, name, temperature, in_batch, distil):
    arrays = np.load(shared / "golden" / "bge_icl" / "losses.npz")

    def run(dtype):
        q = torch.tensor(arrays["q"], dtype=dtype, requires_grad=True)
        p = torch.tensor(arrays["p"], dtype=dtype, requires_grad=True)
        loss = info_nce_loss(q, p, temperature=temperature, in_batch=in_batch)
        if distil:
            scores = group_scores(q, p, temperature=temperature)
            loss = loss + distillation_loss(scores, torch.tensor(arrays["teacher"]))
        return loss, *torch.autograd.grad(loss, (q, p))

    loss, grad_q, grad_p = run(torch.float32)
    torch.testing.assert_close(loss.item(), float(arrays[f"{name}/loss"]), rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(grad_q, torch.tensor(arrays[f"{name}/grad_q"]), rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(grad_p, torch.tensor(arrays[f"{name}/grad_p"]), rtol=1e-4, atol=2e-5)
    assert run(torch.float64)[0].item() == pytest.approx(float(arrays[f"{name}/loss_f64_own"]), abs=1e-9)
