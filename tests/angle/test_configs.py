"""angle/configs: one file per published run, each with the values of papers' and repository's recipes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from angle.fit import objective_of
from angle.recipe import AngleConfig
from angle.train import OPTIONS
from common import cli

REPO = Path(__file__).resolve().parents[2]
CONFIGS = sorted((REPO / "angle" / "configs").glob("*.yaml"))


def parsed(file: Path) -> AngleConfig:
    return cli.parse(AngleConfig, ["--config", str(file), "--output_dir", "out"], **OPTIONS)


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_a_config_is_a_whole_recipe(file, program):
    config = parsed(file)
    objective_of(config)  # its weights and scales are possible ones
    assert config.model_name_or_path
    assert config.train_name_or_path
    assert config.compat == ["angle:per-device-negatives"]  # no released trainer gathered anything
    done = program("angle/train.py", "--config", file, "--output_dir", "out", "--dry_run")
    assert done.code == 0, done.err
    given = yaml.safe_load(file.read_text(encoding="utf-8"))
    printed = yaml.safe_load(done.out)
    assert {name: printed[name] for name in given} == given


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_a_config_says_where_it_is_from(file):
    head = "".join(line for line in file.read_text(encoding="utf-8").splitlines(True) if line.startswith("#"))
    assert re.search(r"AnglE@[0-9a-f]{7}|AnglE#\d+", head)
    assert (REPO / "scripts" / "angle" / f"train-{file.stem}.sh").is_file()


def test_the_published_llama_runs():
    first, second = (parsed(REPO / "angle" / "configs" / f"angle-llama-7b-nli-{n}.yaml") for n in ("20231027", "v2"))
    for config in (first, second):
        assert (config.cosine_w, config.ibn_w, config.angle_w) == (1, 35, 1)
        assert (config.cosine_tau, config.ibn_tau, config.angle_tau) == (20, 20, 1)
        assert (config.lora_r, config.lora_alpha, config.lora_dropout, config.load_kbit) == (32, 32, 0.1, 4)
        assert config.lora_target_modules is None
        assert config.gradient_accumulation_steps == 1
    assert (first.learning_rate, first.max_length, first.batch_size, first.save_steps) == (2e-4, 45, 160, 200)
    assert (second.learning_rate, second.max_length, second.batch_size, second.save_steps) == (
        1e-4,
        50,
        120,
        500,
    )


def test_there_are_six():
    assert len(CONFIGS) == 6
