"""`python -m inbedder.train` as a command: a training, released flags, published recipes, wrong use."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from common import cli
from common.registry import load
from inbedder.recipe import InbedderConfig
from inbedder.train import OPTIONS

TRAIN = "inbedder/train.py"
REPO = Path(__file__).resolve().parents[2]
CONFIGS = sorted((REPO / "inbedder" / "configs").glob("*.yaml"))
SMALL = [
    "--batch_size",
    4,
    "--max_steps",
    3,
    "--bf16",
    0,
    "--load_kbit",
    32,
    "--learning_rate",
    1e-3,
    "--device",
    "cpu",
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [{"instruction": "What?", "input": f"the cat sat {n}", "output": "the cat"} for n in range(12)]
    file = tmp_path / "qa.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return file


def test_a_training(program: Callable[..., Any], llama_folder: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["--model", llama_folder, "--train_data", data, "--valid_data", data, "--output", out, *SMALL]
    done = program(TRAIN, *words)
    assert done.code == 0, done.err
    before, after = (line for line in done.out.splitlines() if "answer tokens predicted right" in line)
    assert before.startswith("before: ")
    assert "step 3)" in after
    encoder = load("inbedder", str(out), device="cpu")
    assert encoder.encode(["a cat", "a dog"], instruction="What animal?").shape == (2, 32)
    assert encoder.templates["text"].pattern.endswith("### Response:")
    card = (out / "README.md").read_text("utf-8")
    assert "qa.jsonl" in card
    assert 'load("inbedder"' in card
    found = json.loads((out / "training.json").read_text("utf-8"))
    assert found["finished"]
    assert found["steps"] == 3
    again = program(TRAIN, *words)  # finished: nothing is trained again
    assert again.code == 0, again.err
    assert "before" in again.out


def test_lora_and_the_control(program: Callable[..., Any], llama_folder: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = program(TRAIN, "--model_name_or_path", llama_folder, "--data_path", data, "--output_dir", out, *SMALL,
                   "--apply_lora", 1, "--lora_r", 4, "--shuffle_answers", "--simplify_answers", 0)  # fmt: skip
    assert done.code == 0, done.err
    assert (out / "adapter_model.safetensors").is_file()
    found = json.loads((out / "training.json").read_text("utf-8"))
    assert found["data"].endswith("(shuffled output)")
    assert found["recipe"]["shuffle_answers"] is True


RELEASED = """--model_name_or_path facebook/opt-1.3b --data_path some/qa.json --bf16 False --output_dir out
    --num_train_epochs 1 --per_device_train_batch_size 8 --per_device_eval_batch_size 16
    --gradient_accumulation_steps 8 --evaluation_strategy no --save_strategy steps --save_steps 2000
    --save_total_limit 1 --learning_rate 2e-5 --weight_decay 0. --warmup_ratio 0.03 --lr_scheduler_type cosine
    --logging_steps 1 --tf32 True --model_max_length 512 --optim adamw_torch --cache_dir none
    --use_flash_attention_2 True --seed 42 --report_to none --fsdp_transformer_layer_cls_to_wrap X"""


def test_the_released_command_line_means_what_it_meant(program: Callable[..., Any]) -> None:
    done = program(TRAIN, *RELEASED.split(), "--dry_run")
    assert done.code == 0, done.err
    found = yaml.safe_load(done.out)
    expected = {
        "model_name_or_path": "facebook/opt-1.3b", "train_name_or_path": "some/qa.json", "output_dir": "out",
        "epochs": 1.0, "batch_size": 8, "gradient_accumulation_steps": 8, "eval_strategy": "no", "save_steps": 2000,
        "save_total_limit": 1, "learning_rate": 2e-5, "weight_decay": 0.0, "warmup_steps": 0.03, "bf16": False,
        "lr_scheduler_type": "cosine", "max_length": 512, "optim": "adamw_torch", "apply_lora": False,
        "attn_implementation": "flash_attention_2", "seed": 42,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected
    off = program(TRAIN, *RELEASED.replace("attention_2 True", "attention_2 False").split(), "--dry_run")
    assert yaml.safe_load(off.out)["attn_implementation"] is None


def test_the_defaults_are_the_published_ones() -> None:
    found = cli.parse(InbedderConfig, ["--output_dir", "x"], **OPTIONS)
    assert (found.learning_rate, found.lr_scheduler_type, found.warmup_steps) == (2e-5, "cosine", 0.03)
    assert (found.batch_size, found.epochs, found.max_length, found.weight_decay) == (64, 1.0, 512, 0.0)
    assert found.apply_lora is False
    assert found.simplify_answers


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_a_config_is_a_published_run(file: Path, program: Callable[..., Any]) -> None:
    done = program(TRAIN, "--config", file, "--output_dir", "out", "--dry_run")
    assert done.code == 0, done.err
    given, printed = yaml.safe_load(file.read_text("utf-8")), yaml.safe_load(done.out)
    assert {name: printed[name] for name in given} == given
    text = file.read_text("utf-8")
    gpus = int(text.partition("per GPU, ")[2].partition(" ")[0])
    assert gpus * given["batch_size"] * given["gradient_accumulation_steps"] == 64
    alpaca = file.stem.startswith("alpaca")
    assert (given["epochs"], given["template"]) == ((3, "alpaca") if alpaca else (1, "inbedder"))


def test_there_is_a_config_for_every_published_run_of_the_two_families() -> None:
    models = ["llama-2-7b", "opt-1.3b", "opt-2.7b", "opt-350m", "opt-6.7b", "roberta-large"]
    expected = {f"{kind}-{model}" for kind in ("qa", "alpaca") for model in models} | {"qa-noprocess-llama-2-7b"}
    assert {file.stem for file in CONFIGS} == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--train_dat", "x"], "train_dat"),
        (["--train_data", "missing.jsonl"], "missing.jsonl"),
        (["--learning_rate", "fast"], "--learning_rate"),
        (["--mask_length", "0"], "--mask_length 0: must be at least 1"),
        (["--stop_after_n_steps", "0"], "--stop_after_n_steps 0"),
        (["--streaming", "--max_steps", "3"], "--streaming"),
        (["--grad_cache_tokens", "64"], "--grad_cache_tokens"),
        (["--compat", "inbedder:alpaca-orde"], "did you mean 'inbedder:alpaca-order'"),
        (["--template", "{instruction}"], "needs {input} or {text} exactly once"),
        (["--template", "{input}", "--model", "no-such-model"], "--template '{input}': needs {instruction}"),
        (["--mask_length", "3"], "mask_length and convention are for masked models"),
        (["--model", "no-such-model"], "no-such-model"),
    ],
)
def test_wrong_use_is_one_line(
    words: list[str], message: str, program: Callable[..., Any], llama_folder: Path, data: Path, tmp_path: Path
) -> None:
    done = program(TRAIN, "--model", llama_folder, "--train_data", data, "--output", tmp_path / "o", *SMALL, *words)
    assert done.code == 2
    assert message in done.err
    assert done.err.splitlines()[-1].count("error: ") == 1
    assert "Traceback" not in done.err


def test_a_wrong_row_is_named_with_its_line(
    program: Callable[..., Any], llama_folder: Path, data: Path, tmp_path: Path
) -> None:
    with data.open("a") as file:
        file.write('{"instruction": "Why?", "input": "x"}\n')
    done = program(TRAIN, "--model", llama_folder, "--train_data", data, "--output", tmp_path / "o", *SMALL)
    assert done.code == 2
    assert f"{data}:13: no column 'output'" in done.err.splitlines()[-1]


def test_help_and_wrong_flags_need_no_torch() -> None:
    code = "import runpy, sys; sys.argv = ['train.py', *sys.argv[1:]]\ntry: runpy.run_module('inbedder.train', run_name='__main__')\nexcept SystemExit as e: print(e.code, 'torch' in sys.modules, 'transformers' in sys.modules)"  # noqa: E501
    for words, exit_code in ((["--help"], 0), (["--no_such_flag"], 2), (["--output", "x"], 2)):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=REPO, check=False
        )
        assert done.stdout.splitlines()[-1] == f"{exit_code} False False", done.stderr
