"""`angle/train.py` as a command. `program` (conftest) runs the real script in this process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "common"))
from training_fixtures import save_tiny, sentences, write_jsonl

from common.encoder import Encoder

REPO = Path(__file__).resolve().parents[2]
TRAIN = "angle/train.py"
# Extract of the released README of AnglE (github.com/SeanLee97/AnglE at 569bc44, "Train NLI").
RELEASED: list[object] = [
    "--task", "NLI-STS", "--save_dir", "ckpts/NLI-STS-angle-llama-7b", "--w2", "35",
    "--learning_rate", "2e-4", "--maxlen", "45", "--lora_r", "32", "--lora_alpha", "32",
    "--lora_dropout", "0.1", "--save_steps", "200", "--batch_size", "160", "--seed", "42", "--do_eval", "0",
    "--load_kbit", "4", "--gradient_accumulation_steps", "4", "--epochs", "1",
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("train") / "tiny-llama", "llama")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("train-data") / "triplets.jsonl", sentences())


def recipe(text: str) -> dict[str, Any]:
    return yaml.safe_load(text)


def test_new_flags_train_and_save(program: Callable[..., Any], model: Path, data: Path, tmp_path: Path) -> None:
    done = program(
        TRAIN, "--model_name_or_path", model, "--train_name_or_path", data.name, "--data_dir", data.parent,
        "--valid_name_or_path", data, "--output_dir", tmp_path / "out", "--text_prompt", "A", "--epochs", "1",
        "--batch_size", "24", "--grad-cache-tokens", "200", "--angle_w", "1", "--cosine_w", "1",
        "--bf16", "0", "--eval_steps", "2", "--logging_steps", "1", "--is_llm", "1", "--lora_r", "4",
        "--load_kbit", "32",
    )  # fmt: skip
    assert done.code == 0, done.err
    encoder = Encoder.from_pretrained(tmp_path / "out", dtype="float32")
    assert encoder.info.template == 'Summarize sentence "{text}" in one word:"'
    assert encoder.pooling == "last"
    summary = json.loads((tmp_path / "out" / "training.json").read_text())
    assert summary["steps"] == 4
    assert "--grad-cache-tokens 200" in summary["command"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "angle_w: 1.0" in card
    assert np.isfinite(encoder.encode(["the cat sleeps"])).all()


def test_dry_run_prints_a_recipe_that_reads_back(program: Callable[..., Any], tmp_path: Path) -> None:
    """Neither model nor data exist: the recipe needs none of them."""
    words = ("--output_dir", "out", "--model_name_or_path", "no/such-model",
             "--train_name_or_path", "no.jsonl", "--angle_w", "0.5", "--compat", "angle:int-labels",
             "--lora_target_modules", "q_proj,v_proj",
             "--warmup_ratio", "0.1")  # fmt: skip
    first = program(TRAIN, *words, "--dry_run")
    assert first.code == 0, first.err
    found = recipe(first.out)
    assert found["angle_w"] == 0.5
    assert found["warmup_steps"] == 0.1
    assert found["compat"] == ["angle:int-labels"]
    assert found["lora_target_modules"] == ["q_proj", "v_proj"]
    (tmp_path / "recipe.yaml").write_text(first.out)
    second = program(TRAIN, "--config", tmp_path / "recipe.yaml", "--dry-run")
    assert second.out == first.out


def test_the_released_command_is_understood(program: Callable[..., Any]) -> None:
    done = program(TRAIN, *RELEASED, "--dry_run")
    assert done.code == 0, done.err
    found = recipe(done.out)
    expected = {
        "output_dir": "ckpts/NLI-STS-angle-llama-7b", "ibn_w": 35.0, "learning_rate": 2e-4, "max_length": 45,
        "load_kbit": 4, "eval_strategy": "no", "batch_size": 160, "gradient_accumulation_steps": 4,
        "epochs": 1.0, "save_steps": 200, "lora_r": 32, "lora_alpha": 32, "lora_dropout": 0.1, "seed": 42,
        "train_name_or_path": "data/AllNLI.tsv.gz",
        # the defaults of that script, not ours
        "cosine_w": 1.0, "angle_w": 1.0, "angle_tau": 1.0, "model_name_or_path": "NousResearch/Llama-2-7b-hf",
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected


def test_flags_given_go_before_the_defaults_of_that_script(program: Callable[..., Any]) -> None:
    done = program(TRAIN, *RELEASED, "--w1", "0", "--angle_tau", "20", "--dry_run")
    found = recipe(done.out)
    assert (found["cosine_w"], found["angle_tau"]) == (0.0, 20.0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--anglew", "1"], "--anglew (did you mean --angle_w?)"),
        (["--learning_rat", "1"], "--learning_rat (did you mean --learning_rate?)"),
        (["--task", "MRPC"], "--task MRPC: known are NLI-STS, STS-B"),
        (["--apply_ese", "1"], "Espresso"),
        (["--compat", "angle:int-label", "--dry_run"], "did you mean 'angle:int-labels'?"),
        (["--batch_size", "0"], "--batch_size 0: must be at least 1"),
        ([], "missing: --train_name_or_path"),
        (["--train_name_or_path", "shipped:triplets"], "missing: --model_name_or_path"),
        (["--train_name_or_path", "nowhere.jsonl", "--model_name_or_path", "x"], "no file nowhere.jsonl"),
    ],
)
def test_wrong_use_is_one_line_and_code_2(
    program: Callable[..., Any], words: list[str], message: str, tmp_path: Path
) -> None:
    done = program(TRAIN, "--output_dir", tmp_path / "out", *words)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()


def test_an_encoder_is_no_llm(program: Callable[..., Any], data: Path, tmp_path: Path) -> None:
    bert = save_tiny(tmp_path / "tiny-bert", "bert")
    done = program(
        TRAIN, "--output_dir", tmp_path / "out", "--model_name_or_path", bert, "--train_name_or_path", data,
        "--is_llm", "1",
    )  # fmt: skip
    assert done.code == 2
    assert "--is_llm" in done.err


@pytest.mark.slow
def test_the_script_runs_inside_its_folder(tmp_path: Path) -> None:
    """`cd angle && python train.py --help`, in a process of its own."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "train.py", "--help"], cwd=REPO / "angle", env=environment, capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for flag in ("--angle_w", "--ibn_tau", "--grad_cache_tokens", "--resume", "--text_prompt"):
        assert flag in done.stdout
