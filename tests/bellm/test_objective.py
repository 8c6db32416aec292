"""bellm/objective.py and fit.py: the weights that the released README writes mean what they meant there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bellm.fit import objective_of
from bellm.objective import BellmObjective
from bellm.recipe import BellmConfig
from common import losses
from common.angle_objective import AngleObjective
from common.errors import InputError
from common.recipe import TrainConfig


def columns(n: int = 6, dim: int = 8) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(3)
    return {
        name: torch.randn(n, dim, generator=draw, dtype=torch.float64) for name in ("query", "positive", "negative")
    }


def test_triplets_have_one_contrastive_term():
    data = columns()
    expected = losses.contrastive_loss(data["query"], data["positive"], data["negative"], scale=20.0)
    torch.testing.assert_close(BellmObjective()(data, None), expected)
    torch.testing.assert_close(BellmObjective(ibn_w=20.0)(data, None), 20 * expected)
    torch.testing.assert_close(
        BellmObjective(ibn_tau=5.0)(data, None), losses.contrastive_loss(*data.values(), scale=5.0)
    )


def test_the_angle_term_is_angles():
    data = columns()
    alone = BellmObjective(ibn_w=0.0, angle_w=1.0)(data, None)
    torch.testing.assert_close(alone, AngleObjective(ibn_w=0.0, cln_w=0.0, angle_w=1.0)(data, None))
    torch.testing.assert_close(BellmObjective(angle_w=1.0)(data, None), alone + BellmObjective()(data, None))


def test_pairs_are_angles_format_a():
    pairs = {"text1": columns()["query"], "text2": columns()["positive"]}
    labels = torch.tensor([1.0, 0, 1, 0, 0, 1])
    given: dict[str, Any] = {"ibn_w": 2.0, "cosine_w": 1.0, "angle_w": 3.0}
    torch.testing.assert_close(BellmObjective(**given)(pairs, labels), AngleObjective(**given)(pairs, labels))


def test_every_setting_reaches_the_objective():
    given = {"cosine_w": 1.5, "ibn_w": 2.5, "angle_w": 4.5, "cosine_tau": 5.0, "ibn_tau": 6.0, "angle_tau": 7.0}
    objective = objective_of(BellmConfig(output_dir=Path("out"), **given))
    assert {name: getattr(objective, name) for name in given} == given
    assert objective_of(TrainConfig(output_dir=Path("out"))) == BellmObjective()


def test_impossible_weights_are_refused():
    with pytest.raises(InputError, match="--angle_tau"):
        BellmObjective(angle_tau=0.0)
