from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common import cli
from common.errors import InputError
from common.recipe import TrainConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "--batch_size 0: must be at least 1"),
        ({"gradient_accumulation_steps": 0}, "--gradient_accumulation_steps 0"),
        ({"max_length": 0}, "--max_length 0"),
        ({"lora_r": 0}, "--lora_r 0"),
        ({"save_steps": 0}, "--save_steps 0"),
        ({"max_tokens": 0}, "--max_tokens 0"),
        ({"grad_cache_tokens": 0}, "--grad_cache_tokens 0"),
        ({"limit": 0}, "--limit 0"),
        ({"epochs": 0.0}, "--epochs 0.0: must be above 0"),
        ({"bf16": True, "fp16": True}, "--bf16 and --fp16: give one"),
        ({"learning_rate": 0.0}, "--learning_rate 0.0: must be above 0"),
        ({"streaming": True}, "--streaming needs --max_steps"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainConfig(output_dir=Path("out"), **settings)


def test_no_epochs_are_fine_with_steps_or_tokens() -> None:
    assert TrainConfig(output_dir=Path("out"), epochs=0, max_steps=3).max_steps == 3
    assert TrainConfig(output_dir=Path("out"), epochs=0, max_tokens=3).max_tokens == 3


def test_rename_mapping() -> None:
    config = TrainConfig(output_dir=Path("out"), column_rename_mapping="sent0: query ;sent1:positive;")
    assert config.rename == {"sent0": "query", "sent1": "positive"}
    assert TrainConfig(output_dir=Path("out")).rename == {}
    with pytest.raises(InputError, match="write old:new"):
        _ = TrainConfig(output_dir=Path("out"), column_rename_mapping="sent0").rename


@pytest.mark.parametrize(("kbit", "expected"), [(4, "4bit"), (8, "8bit"), (16, None), (32, None), (None, None)])
def test_load_kbit_in_the_words_of_the_backbone(kbit: Any, expected: str | None) -> None:
    assert TrainConfig(output_dir=Path("out"), load_kbit=kbit).quantize == expected


def test_the_recipe_reads_back_as_the_same(tmp_path: Path) -> None:
    config = TrainConfig(
        output_dir=tmp_path / "out",
        learning_rate=3e-4,
        warmup_steps=0.1,
        lora_target_modules=["q_proj", "v_proj"],
        bf16=False,
        save_minutes=None,
        dry_run=True,
    )
    text = cli.describe(config)
    assert "dry_run" not in text
    (tmp_path / "r.yaml").write_text(text)
    back = cli.parse(TrainConfig, ["--config", str(tmp_path / "r.yaml")])
    assert cli.describe(back) == text
    assert (back.learning_rate, back.warmup_steps, back.bf16, back.save_minutes) == (3e-4, 0.1, False, None)
    assert back.lora_target_modules == ["q_proj", "v_proj"]
    assert back.dry_run is False
