"""bellm/configs: the published runs, with the values that effectively ran."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from bellm.fit import objective_of
from bellm.prompts import PROMPT
from bellm.recipe import BellmConfig
from bellm.train import OPTIONS
from common import cli

REPO = Path(__file__).resolve().parents[2]
CONFIGS = sorted((REPO / "bellm" / "configs").glob("*.yaml"))


def parsed(file: Path) -> BellmConfig:
    return cli.parse(BellmConfig, ["--config", str(file), "--output_dir", "out"], **OPTIONS)


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_a_config_is_a_whole_recipe(file, program):
    config = parsed(file)
    objective_of(config)
    assert (config.bidirectional_from, config.prompt, config.pooling_strategy) == (31, PROMPT, "last")
    assert config.compat == ["angle:per-device-negatives"]  # no released trainer gathered anything
    # The command says 32 steps of accumulation on 4 GPUs, and --fp16 1; the code divides, and turns fp16 off.
    assert (config.batch_size, config.gradient_accumulation_steps, config.fp16, config.bf16) == (256, 8, False, False)
    done = program("bellm/train.py", "--config", file, "--output_dir", "out", "--dry_run")
    assert done.code == 0, done.err
    given = yaml.safe_load(file.read_text(encoding="utf-8"))
    printed = yaml.safe_load(done.out)
    assert {name: printed[name] for name in given} == given


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_a_config_says_where_it_is_from(file):
    head = "".join(line for line in file.read_text(encoding="utf-8").splitlines(True) if line.startswith("#"))
    assert re.search(r"BeLLM@[0-9a-f]{7}", head)
    assert (REPO / "scripts" / "bellm" / f"train-{file.stem}.sh").is_file()


def test_the_two_stages():
    first, second = (parsed(REPO / "bellm" / "configs" / f"bellm-llama-7b-nli{n}.yaml") for n in ("", "-2"))
    assert (first.ibn_w, first.cosine_w, first.angle_w) == (20, 0, 1)
    assert (second.ibn_w, second.cosine_w, second.angle_w) == (1, 0, 0)
    assert first.pretrained_lora_path is None
    assert second.pretrained_lora_path == "ckpts/bellm-llama-7b-nli"
    assert (first.warmup_steps, second.warmup_steps, first.epochs, first.max_length) == (80, 100, 3, 60)
