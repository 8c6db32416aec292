"""bge_icl/objective.py: the released losses and gradients, with one and two processes; duplicates are no negatives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from training_fixtures import run_processes

from bge_icl.objective import IclObjective
from common.distributed import gather
from common.errors import InputError

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "bge_icl" / "losses.npz"


@pytest.fixture(scope="module")
def losses() -> dict[str, np.ndarray]:
    return dict(np.load(GOLDEN))


def columns_of(query: Tensor, passages: Tensor) -> dict[str, Tensor]:
    """The golden's layout (rows of one group in turn) as columns."""
    groups = passages.view(len(query), -1, passages.shape[1])
    names = ["positive", *(f"negative_{g}" for g in range(1, groups.shape[1]))]
    return {"query": query, **{name: groups[:, g] for g, name in enumerate(names)}}


def vectors(losses: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    q, p = (torch.tensor(losses[name]).requires_grad_() for name in ("q", "p"))
    return q, p, torch.tensor(losses["teacher"])


CASES = {
    "inbatch": ({}, False),
    "no_inbatch": ({"in_batch": False}, False),
    "inbatch_kd_kl_div": ({}, True),
}


@pytest.mark.parametrize("name", CASES)
def test_losses_and_gradients_are_the_released_ones(losses: dict[str, Any], name: str) -> None:
    options, with_teacher = CASES[name]
    q, p, teacher = vectors(losses)
    loss = IclObjective(float(losses["temperature"]), **options)(columns_of(q, p), teacher if with_teacher else None)
    loss.backward()
    assert loss.item() == pytest.approx(float(losses[f"{name}/loss"]), rel=1e-6, abs=1e-5)
    for x, side in ((q, "q"), (p, "p")):
        # Released gradients are of vectors as they are; ours go through the normalisation, which takes away what
        # would only change their length.
        released = torch.tensor(losses[f"{name}/grad_{side}"])
        along = (released * x).sum(dim=1, keepdim=True) * x
        assert x.grad is not None
        torch.testing.assert_close(x.grad, (released - along).detach(), rtol=1e-4, atol=3e-5)


def test_numbers_of_the_paper_page(losses: dict[str, Any]) -> None:
    q, p, teacher = vectors(losses)
    columns = columns_of(q, p)
    assert IclObjective()(columns, None).item() == pytest.approx(22.714006, abs=2e-5)
    assert IclObjective(in_batch=False)(columns, None).item() == pytest.approx(17.583181, abs=2e-5)
    assert IclObjective()(columns, teacher).item() == pytest.approx(29.878788, abs=2e-5)
    assert IclObjective(teacher=False)(columns, teacher).item() == pytest.approx(22.714006, abs=2e-5)
    # the research code ignores the teacher where negatives are the own ones
    assert IclObjective(in_batch=False)(columns, teacher).item() == pytest.approx(17.583181, abs=2e-5)


def test_without_normalisation_the_temperature_is_1(losses: dict[str, Any]) -> None:
    q, p, _ = vectors(losses)
    loss = IclObjective(0.02, normalize=False)(columns_of(q, p), None)
    loss.backward()
    assert loss.item() == pytest.approx(float(losses["inbatch_T1/loss"]), rel=1e-6, abs=1e-5)
    assert q.grad is not None
    torch.testing.assert_close(q.grad, torch.tensor(losses["inbatch_T1/grad_q"]), rtol=1e-4, atol=2e-5)
    # and lengths count
    assert IclObjective(normalize=False)(columns_of(3 * q, p), None).item() != pytest.approx(loss.item(), abs=0.1)


def test_duplicates_are_no_negatives() -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 8)
    columns = {"query": x[:2], "positive": x[2:4], "negative_1": x[4:6]}
    ids = {"query": torch.tensor([1, 2]), "positive": torch.tensor([3, 4]), "negative_1": torch.tensor([5, 6])}
    plain = IclObjective()(columns, None)
    assert torch.equal(IclObjective()(columns, None, text_ids=ids), plain)
    # row 1's negative is row 0's positive again: row 0 leaves it out, row 1 keeps it
    same = {**ids, "negative_1": torch.tensor([5, 3])}
    unit = {name: torch.nn.functional.normalize(v, dim=1) for name, v in columns.items()}
    passages = torch.stack([unit["positive"], unit["negative_1"]], dim=1).flatten(0, 1)
    scores = unit["query"] @ passages.T / 0.02
    scores[0, 3] = float("-inf")
    expected = torch.nn.functional.cross_entropy(scores, torch.tensor([0, 2]))
    assert IclObjective()(columns, None, text_ids=same).item() == pytest.approx(expected.item(), rel=1e-5)
    assert expected.item() != pytest.approx(plain.item(), rel=1e-3)
    # over the own group: a negative that is the row's own query
    own = {**ids, "negative_1": torch.tensor([1, 6])}
    alone = torch.nn.functional.cross_entropy(scores[1:, 2:4], torch.tensor([0])) / 2
    found = IclObjective(in_batch=False)(columns, None, text_ids=own)
    assert found.item() == pytest.approx(alone.item(), rel=1e-5)


def test_wrong_use_is_an_input_error() -> None:
    with pytest.raises(InputError, match="temperature"):
        IclObjective(0.0)
    with pytest.raises(InputError, match="query, positive"):
        IclObjective()({"text1": torch.ones(2, 3), "text2": torch.ones(2, 3)}, None)


# ------------------------------ two processes


def each_process(folder: Path) -> None:
    """What each of two processes finds for its half of the golden's rows, by its own gradient."""
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    losses = dict(np.load(GOLDEN))
    found: dict[str, Any] = {}
    for name, ddp_mean in (("right", False), ("released", True)):
        for with_teacher in (False, True):
            q, p, teacher = (torch.tensor(losses[n]).chunk(2)[rank].clone() for n in ("q", "p", "teacher"))
            q.requires_grad_()
            p.requires_grad_()
            columns = {n: gather(x.contiguous()) for n, x in columns_of(q, p).items()}
            # as they are, not normalised: the released gradient
            objective = IclObjective(1.0, normalize=False, ddp_mean=ddp_mean)
            scaled = {n: x / float(losses["temperature"]) if n == "query" else x for n, x in columns.items()}
            loss = objective(scaled, gather(teacher) if with_teacher else None)
            loss.backward()
            assert q.grad is not None
            assert p.grad is not None
            found[f"{name}-{with_teacher}"] = [loss.item(), q.grad.tolist(), p.grad.tolist()]
    (folder / f"{rank}.json").write_text(json.dumps(found))


@pytest.mark.slow
def test_two_processes(losses: dict[str, Any], tmp_path: Path) -> None:
    run_processes(each_process, tmp_path, folder=tmp_path, count=2)
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    for with_teacher, single, two in ((False, "inbatch", "xneg"), (True, "inbatch_kd_kl_div", "xneg_kd_kl_div")):
        released = [float(losses[f"xdev/rank{rank}/{two}_loss"]) for rank in (0, 1)]
        for rank in (0, 1):
            right = found[rank][f"right-{with_teacher}"]
            # all processes have the loss of the whole batch; the released distillation is that of the own rows
            assert right[0] == pytest.approx(float(np.mean(released)), abs=2e-5)
            half = {side: np.array_split(losses[f"{single}/grad_{side}"], 2)[rank] for side in ("q", "p")}
            # DDP takes the mean over 2 processes: each has twice its rows of the gradient of one process
            np.testing.assert_allclose(right[1], 2 * half["q"], rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(right[2], 2 * half["p"], rtol=1e-4, atol=1e-4)
            # the switch: the local gradients of the released code
            quirk = found[rank][f"released-{with_teacher}"]
            assert quirk[0] == right[0]
            np.testing.assert_allclose(quirk[1], losses[f"xdev/rank{rank}/{two}_grad_q"], rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(quirk[2], losses[f"xdev/rank{rank}/{two}_grad_p"], rtol=1e-4, atol=1e-4)
