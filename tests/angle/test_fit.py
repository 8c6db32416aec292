from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "common"))
from training_fixtures import save_tiny, sentences

from angle import fit as angle_fit
from angle.encoder import load
from angle.fit import fit, objective_of
from angle.recipe import AngleConfig
from common import registry
from common.angle_objective import AngleObjective
from common.data import RowList
from common.recipe import TrainConfig


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("fit") / "tiny-bert", "bert")


def test_defaults_are_those_of_the_objective() -> None:
    assert objective_of(AngleConfig(output_dir=Path("out"))) == AngleObjective()
    assert objective_of(TrainConfig(output_dir=Path("out"))) == AngleObjective()


def test_every_setting_reaches_the_objective() -> None:
    given: dict[str, Any] = {
        "cosine_w": 1.5, "ibn_w": 2.5, "cln_w": 3.5, "angle_w": 4.5, "cosine_tau": 5.0, "ibn_tau": 6.0,
        "angle_tau": 7.0, "angle_pooling_strategy": "mean", "ibn_positive_threshold": 0.5,
    }  # fmt: skip
    objective = objective_of(AngleConfig(output_dir=Path("out"), **given))
    assert {name: getattr(objective, name) for name in given} == given
    switch = objective_of(AngleConfig(output_dir=Path("out"), compat=["angle:int-labels"]))
    assert switch.compat == {"angle:int-labels"}


@pytest.mark.parametrize(("compat", "gathers"), [([], True), (["angle:per-device-negatives"], False)])
def test_one_switch_turns_gathering_off(
    compat: list[str], gathers: bool, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(angle_fit, "fit_shared", lambda *args, **options: seen.update(options))
    fit(load(str(model)), RowList(sentences(), "s"), AngleConfig(output_dir=tmp_path, compat=compat))
    assert seen["gather_batches"] is gathers
    assert seen["roles"] == {}


def test_prompts_of_one_side_give_it_a_role(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(angle_fit, "fit_shared", lambda *args, **options: seen.update(options))
    rows = RowList(sentences(), "s")
    fit(load(str(model)), rows, AngleConfig(output_dir=tmp_path, query_prompt="C"))
    assert seen["roles"] == {"query": "query"}
    fit(load(str(model)), rows, AngleConfig(output_dir=tmp_path, doc_prompt="{text}"))
    assert seen["roles"] == {"positive": "document", "negative": "document"}


def test_what_the_registry_calls_trains(model: Path, tmp_path: Path) -> None:
    """As the benchmarks do it: a plain TrainConfig through the registry."""
    path = registry.get("angle").fit
    assert path is not None
    encoder = load(str(model), dtype="float32")
    before = encoder.encode(["the cat"], convert_to_tensor=True)
    config = TrainConfig(output_dir=tmp_path, batch_size=24, max_steps=2, learning_rate=1e-3, warmup_steps=0)
    result = registry.resolve_attribute(path)(encoder, RowList(sentences(), "s"), config)
    assert result is encoder
    assert not torch.allclose(before, encoder.encode(["the cat"], convert_to_tensor=True), atol=1e-4)
    assert json.loads((tmp_path / "training.json").read_text())["steps"] == 2
