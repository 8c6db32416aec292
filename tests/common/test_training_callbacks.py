from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from training_fixtures import sentences

from common.backbone import load_backbone
from common.contrastive_objective import ContrastiveObjective
from common.data import RowList
from common.encoder import Encoder
from common.recipe import TrainConfig
from common.training import fit


def run(model: Path, out: Path, stop: int | None, **changes: Any) -> dict[str, Any]:
    """Train on 72 rows in batches of 12; the log of the run."""
    encoder = Encoder(load_backbone(str(model), dtype="float32"), method="angle", pooling="mean")
    settings: dict[str, Any] = {"epochs": 3, "save_steps": 4, **changes}
    config = TrainConfig(
        output_dir=out, batch_size=12, warmup_steps=0, logging_steps=1, bf16=False, lora_r=2, **settings
    )
    fit(encoder, RowList(sentences()[:72], "s"), ContrastiveObjective(), config, stop_after_steps=stop)
    checkpoint = next(out.glob("checkpoint-*"))
    history = json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
    rates = [entry["learning_rate"] for entry in history if "learning_rate" in entry]
    return {"steps": json.loads((out / "training.json").read_text())["steps"], "rates": rates}


def test_training_stops_early_on_the_schedule_of_the_whole(tiny_llama: Path, tmp_path: Path) -> None:
    stopped = run(tiny_llama, tmp_path / "stopped", 4)
    planned = run(tiny_llama, tmp_path / "planned", None, max_steps=4)
    assert stopped["steps"] == planned["steps"] == 4
    whole = 18  # 72 / 12 * 3
    assert stopped["rates"] == pytest.approx([1e-5 * (1 - step / whole) for step in range(4)])
    assert planned["rates"] == pytest.approx([1e-5 * (1 - step / 4) for step in range(4)])


def test_a_stopped_training_is_finished(tiny_llama: Path, tmp_path: Path) -> None:
    run(tiny_llama, tmp_path, 4)
    assert json.loads((tmp_path / "training.json").read_text())["finished"]
    assert run(tiny_llama, tmp_path, 4)["steps"] == 4
