"""The contrastive objective against the original's recorded values, alone and gathered over two processes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from training_fixtures import run_processes

from common.contrastive_objective import ContrastiveObjective
from common.distributed import gather
from common.errors import InputError
from common.losses import contrastive_loss

ARRAYS = Path(__file__).resolve().parents[1] / "golden" / "llm2vec" / "contrastive.npz"
NAMES = {"query": "q", "positive": "pos", "negative": "neg"}


def columns_of(count: int) -> dict[str, torch.Tensor]:
    with np.load(ARRAYS) as golden:
        return {name: torch.tensor(golden[key]).double() for name, key in list(NAMES.items())[:count]}


@pytest.mark.parametrize("scale", [20, 50])
@pytest.mark.parametrize("negatives", [0, 1])
def test_recorded_values_and_gradients(scale: int, negatives: int) -> None:
    columns = {name: x.requires_grad_() for name, x in columns_of(2 + negatives).items()}
    loss = ContrastiveObjective(scale)(columns, None)
    loss.backward()
    with np.load(ARRAYS) as golden:
        prefix = f"scale{scale}_neg{negatives}/f64"
        assert loss.item() == pytest.approx(float(golden[f"{prefix}/loss"]), abs=1e-9)
        for name, x in columns.items():
            np.testing.assert_allclose(x.grad, golden[f"{prefix}/grad_{NAMES[name]}"], atol=1e-9)


def half_of_a_batch(out: Path) -> None:
    """One of two processes: its half of the rows, the loss of all, the gradient of its own."""
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    local = {name: x[3 * rank : 3 * rank + 3].requires_grad_() for name, x in columns_of(3).items()}
    loss = ContrastiveObjective(50)({name: gather(x) for name, x in local.items()}, None)
    loss.backward()
    # Each process has the whole loss; the mean over processes, which DDP takes, makes one of both.
    found = {name: (x.grad / 2).tolist() for name, x in local.items() if x.grad is not None}
    (out / f"half-{rank}.json").write_text(json.dumps({"loss": loss.item(), **found}))


@pytest.mark.slow
def test_two_processes_have_the_recorded_loss_and_gradients(tmp_path: Path) -> None:
    run_processes(half_of_a_batch, tmp_path, folder=tmp_path, count=2)
    found = [json.loads((tmp_path / f"half-{rank}.json").read_text()) for rank in (0, 1)]
    with np.load(ARRAYS) as golden:
        for one in found:
            assert one["loss"] == pytest.approx(float(golden["scale50_neg1/f64/loss"]), abs=1e-9)
        for name, key in NAMES.items():
            both = np.concatenate([one[name] for one in found])
            np.testing.assert_allclose(both, golden[f"scale50_neg1/f64/grad_{key}"], atol=1e-9)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_a_duplicate_is_no_negative_and_the_own_positive_stays() -> None:
    """SimCSE's rows: query and positive are one text; rows 0 and 2 are the same."""
    query, positive = random(3, 6), random(3, 6, seed=1)
    ids = {"query": torch.tensor([7, 8, 7]), "positive": torch.tensor([7, 8, 7])}
    loss = ContrastiveObjective(20)({"query": query, "positive": positive}, None, text_ids=ids)
    scores = 20 * torch.nn.functional.normalize(query) @ torch.nn.functional.normalize(positive).T
    # Rows 0 and 2 have one negative, text 1; row 1 has both others.
    expected = [scores[0, [0, 1]], scores[1], scores[2, [2, 1]]]
    own = [0, 1, 0]
    by_hand = torch.stack([-row.log_softmax(0)[i] for row, i in zip(expected, own)]).mean()
    torch.testing.assert_close(loss, by_hand)
    assert ContrastiveObjective(20)({"query": query, "positive": positive}, None) > loss


def test_a_hard_negative_that_is_another_rows_positive_stays_a_negative_there() -> None:
    columns = {"query": random(2, 6), "positive": random(2, 6, seed=1), "negative": random(2, 6, seed=2)}
    ids = {"query": torch.tensor([1, 2]), "positive": torch.tensor([3, 4]), "negative": torch.tensor([4, 5])}
    same = torch.tensor([[0, 0, 0, 0], [0, 0, 1, 0]], dtype=torch.bool)  # text 4 is a positive of row 1 alone
    expected = contrastive_loss(*columns.values(), scale=50, same=same)
    torch.testing.assert_close(ContrastiveObjective(50)(columns, None, text_ids=ids), expected)


def test_the_columns_may_come_in_any_order() -> None:
    query, positive, negative = random(3, 6), random(3, 6, seed=1), random(3, 6, seed=2)
    loss = ContrastiveObjective(20)({"negative": negative, "positive": positive, "query": query}, None)
    torch.testing.assert_close(loss, contrastive_loss(query, positive, negative, scale=20))


def test_it_does_not_wait_for_the_device() -> None:
    columns = {name: torch.empty(4, 6, device="meta") for name in NAMES}
    ids = {name: torch.empty(4, dtype=torch.long, device="meta") for name in NAMES}
    assert ContrastiveObjective()(columns, None, text_ids=ids).shape == ()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ContrastiveObjective(0), "--loss_scale must be a number above 0, got 0"),
        (lambda: ContrastiveObjective(float("nan")), "--loss_scale"),
        (lambda: ContrastiveObjective()({"text1": random(2, 4), "text2": random(2, 4)}, None), "text1, text2"),
    ],
)
def test_wrong_use_is_refused_in_one_line(call, message) -> None:
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
