"""Recipes of the contrastive steps: their defaults are the released ones, and wrong ones are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.errors import InputError
from llm2vec.recipe import ContrastiveConfig, SimcseConfig, SupervisedConfig


def test_defaults_are_those_of_the_released_configs() -> None:
    simcse, supervised = SimcseConfig(), SupervisedConfig()
    for config in (simcse, supervised):
        assert config.bidirectional
        assert (config.lora_r, config.lora_alpha, config.lora_dropout) == (16, 32, 0.05)
        assert (config.epochs, config.stop_after_n_steps, config.pooling_mode) == (3.0, 1000, "mean")
    assert (simcse.loss_scale, simcse.learning_rate, simcse.batch_size, simcse.max_length) == (20, 3e-5, 128, 128)
    assert (simcse.simcse_dropout, simcse.warmup_steps) == (0.3, 0)
    assert (supervised.loss_scale, supervised.learning_rate, supervised.batch_size) == (50, 2e-4, 64)
    assert (supervised.max_length, supervised.warmup_steps) == (512, 300)


def test_alpha_is_twice_the_rank_unless_it_is_given() -> None:
    assert SimcseConfig(lora_r=8).lora_alpha == 16
    assert SimcseConfig(lora_r=8, lora_alpha=8).lora_alpha == 8


@pytest.mark.parametrize(
    ("given", "stop"),
    [
        ({}, 1000),
        ({"stop_after_n_steps": 5}, 5),
        ({"train_name_or_path": "x.txt"}, None),
        ({"train_name_or_path": "x.txt", "stop_after_n_steps": 5}, 5),
        ({"max_tokens": 10_000_000}, None),
        ({"max_steps": 3000}, None),
    ],
)
@pytest.mark.parametrize("kind", [SimcseConfig, SupervisedConfig])
def test_the_released_end_goes_with_the_released_data(
    kind: type[ContrastiveConfig], given: dict[str, Any], stop: int | None
) -> None:
    assert kind(**given).stop_after_n_steps == stop


def test_shipped_sentences_are_no_default_data() -> None:
    assert SimcseConfig(shipped=True).stop_after_n_steps is None


def test_the_output_goes_where_it_is_said_or_by_the_model() -> None:
    assert SimcseConfig(model_name_or_path="org/X-7B").output_dir == Path("ckpts/simcse/X-7B")
    assert SupervisedConfig(peft_model_name_or_path=["a/mntp", "b/simcse"]).output_dir == Path(
        "ckpts/supervised/simcse"
    )
    assert SupervisedConfig(pretrained_lora_path="b/simcse").output_dir == Path("ckpts/supervised/simcse")
    given = SimcseConfig(model_name_or_path="org/X", output_dir=Path("out"), experiment_id="one")
    assert given.output_dir == Path("out/one")
    # what --dry_run prints reads back as the same
    assert SimcseConfig(output_dir=given.output_dir, experiment_id="one").output_dir == Path("out/one")


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (SimcseConfig, {"simcse_dropout": 1.0}, "--simcse_dropout 1.0: must be at least 0 and below 1"),
        (SimcseConfig, {"simcse_dropout": 0.0, "lora_dropout": 0.0}, "both views of a text are equal"),
        (SimcseConfig, {"shipped": True, "train_name_or_path": "x"}, "give one of them"),
        (SimcseConfig, {"streaming": True, "max_steps": 3}, "--streaming: SimCSE reads"),
        (SimcseConfig, {"loss_scale": 0.0}, "--loss_scale 0.0: must be above 0"),
        (SupervisedConfig, {"stop_after_n_steps": 0}, "--stop_after_n_steps 0: must be at least 1"),
        (SupervisedConfig, {"train_instruction_format": "; "}, "needs {instruction} exactly once"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(kind: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        kind(**given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
