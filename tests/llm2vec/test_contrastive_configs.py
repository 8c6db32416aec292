"""llm2vec/configs/{simcse,supervised}: one file per released run, with its values."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from common import cli
from common.registry import check_compat
from llm2vec import train_simcse, train_supervised
from llm2vec.recipe import ContrastiveConfig, SimcseConfig, SupervisedConfig

CONFIGS = Path(__file__).resolve().parents[2] / "llm2vec" / "configs"
KINDS: dict[str, tuple[type[ContrastiveConfig], dict[str, Any]]] = {
    "simcse": (SimcseConfig, train_simcse.OPTIONS),
    "supervised": (SupervisedConfig, train_supervised.OPTIONS),
}
FILES = sorted(file for kind in KINDS for file in (CONFIGS / kind).glob("*.yaml"))
MODELS = ["llama-2-7b-chat", "llama-3-8b-instruct", "llama-3.1-8b-instruct", "mistral-7b-instruct-v0.2"]
MODELS += ["sheared-llama-1.3b"]


def parsed(file: Path) -> Any:
    kind, options = KINDS[file.parent.name]
    return cli.parse(kind, ["--config", str(file)], **options)


def test_every_released_recipe_is_there() -> None:
    assert [file.stem for file in FILES if file.parent.name == "supervised"] == MODELS
    # There is none for Llama-3.1 in train_configs/simcse.
    assert [file.stem for file in FILES if file.parent.name == "simcse"] == [m for m in MODELS if "3.1" not in m]


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_a_config_is_a_whole_recipe(file: Path, program: Callable[..., Any]) -> None:
    config = parsed(file)
    assert config.model_name_or_path
    assert config.peft_model_name_or_path
    assert config.train_name_or_path is None  # the default data are the released ones
    check_compat(config.compat)
    done = program(f"llm2vec/train_{file.parent.name}.py", "--config", file, "--dry_run")
    assert done.code == 0, done.err
    given = yaml.safe_load(file.read_text(encoding="utf-8"))
    printed = yaml.safe_load(done.out)
    assert {name: printed[name] for name in given} == given
    head = "".join(line for line in file.read_text(encoding="utf-8").splitlines(True) if line.startswith("#"))
    assert re.search(rf"train_configs/{file.parent.name}/[\w.-]+\.json of McGill-NLP/llm2vec@312adcf", head)


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_the_values_of_the_paper_page(file: Path) -> None:
    """papers/llm2vec.md, section 3, and the quirks of section 8 that are part of the published numbers."""
    config = parsed(file)
    common = (config.lora_r, config.lora_alpha, config.lora_dropout, config.stop_after_n_steps, config.epochs)
    assert common == (16, 32, 0.05, 1000, 3)
    assert (config.gradient_checkpointing, config.attn_implementation) == (True, "flash_attention_2")
    assert (config.weight_decay, config.max_grad_norm, config.seed, config.lr_scheduler_type) == (0, 1, 42, "linear")
    assert (config.bidirectional, config.pooling_mode) == (True, "mean")
    own = (config.batch_size, config.max_length, config.learning_rate, config.warmup_steps, config.loss_scale)
    if file.parent.name == "simcse":
        assert own == (128, 128, 3e-5, 0, 20)
        assert config.simcse_dropout == 0.3
        assert config.compat == ["llm2vec:simcse-pool-all"]
        assert not config.simcse_chat_template
    else:
        assert own == (64, 512, 2e-4, 300, 50)
        assert config.train_instruction_format == "{instruction};"
        assert config.train_doc_instruction == "released"


def test_models_and_their_mntp_adapters() -> None:
    pairs = {
        (config.model_name_or_path, config.peft_model_name_or_path[0])
        for config in map(parsed, FILES)
        if "3.1" not in config.model_name_or_path
    }
    assert pairs == {
        ("princeton-nlp/Sheared-LLaMA-1.3B", "McGill-NLP/LLM2Vec-Sheared-LLaMA-mntp"),
        ("meta-llama/Llama-2-7b-chat-hf", "McGill-NLP/LLM2Vec-Llama-2-7b-chat-hf-mntp"),
        ("mistralai/Mistral-7B-Instruct-v0.2", "McGill-NLP/LLM2Vec-Mistral-7B-Instruct-v2-mntp"),
        ("meta-llama/Meta-Llama-3-8B-Instruct", "McGill-NLP/LLM2Vec-Meta-Llama-3-8B-Instruct-mntp"),
    }
