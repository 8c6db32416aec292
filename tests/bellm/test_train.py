"""`bellm/train.py` and `bellm/eval.py` as commands: two stages, released flags, wrong use."""

from __future__ import annotations

import json

import pytest
import yaml

from common.encoder import Encoder

TRAIN, EVAL, INFER = "bellm/train.py", "bellm/eval.py", "bellm/infer.py"
SMALL = [
    *("--train_name_or_path", "shipped:triplets", "--limit", 16, "--batch_size", 8, "--max_length", 40),
    *("--max_steps", 2, "--lora_r", 4, "--load_kbit", 32, "--bf16", 0, "--warmup_steps", 0, "--learning_rate", 1e-3),
    *("--lora_dropout", 0, "--device", "cpu"),
]


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch):
    monkeypatch.delenv("BiLLM_START_INDEX", raising=False)


def test_two_stages(program, llama_folder, tmp_path, monkeypatch):
    first, second = tmp_path / "one", tmp_path / "two"
    done = program(
        TRAIN, "--model_name_or_path", llama_folder, "--bidirectional_from", 1, "--output_dir", first, *SMALL
    )
    assert done.code == 0, done.err
    encoder = Encoder.from_pretrained(first)
    assert encoder.info.attention == "{'bidirectional_from': 1}"
    again = [
        TRAIN,
        "--model_name_or_path",
        llama_folder,
        "--pretrained_lora_path",
        first,
        "--output_dir",
        second,
        *SMALL,
    ]
    wrong = program(*again, "--bidirectional_from", 2)
    assert wrong.code == 2
    assert "were trained with" in wrong.err
    assert program(*again).code == 0
    assert Encoder.from_pretrained(second).info.attention == "{'bidirectional_from': 1}"
    assert json.loads((second / "training.json").read_text())["steps"] == 2
    before, after = (Encoder.from_pretrained(f, dtype="float32").encode("a cat") for f in (first, second))
    assert abs(before - after).max() > 1e-4


def test_eval_and_infer_take_a_trained_folder(program, llama_folder, tmp_path):
    assert program(TRAIN, "--model_name_or_path", llama_folder, "--output_dir", tmp_path / "m", *SMALL).code == 0
    done = program(EVAL, "--model_name_or_path", llama_folder, "--lora_name_or_path", tmp_path / "m", "--suite",
                   "sts-shipped", "--limit", 20, "--output", tmp_path / "r", "--device", "cpu")  # fmt: skip
    assert done.code == 0, done.err
    assert "Avg." in done.out
    result = json.loads((tmp_path / "r" / "ShippedPairs.json").read_text())
    assert result["encoder"]["attention"] == "{'bidirectional_from': 2}"
    assert result["data"]["text_edits"] == "end-marks"
    done = program(INFER, "a cat", "a dog", "--model_name_or_path", tmp_path / "m", "--device", "cpu")
    assert done.code == 0, done.err
    assert "a dog" in done.out


def test_start_index_of_the_environment(program, llama_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("BiLLM_START_INDEX", "1")
    done = program(TRAIN, "--model_name_or_path", llama_folder, "--output_dir", tmp_path, *SMALL, "--dry_run")
    assert yaml.safe_load(done.out)["bidirectional_from"] == 1
    done = program(
        TRAIN, "--model_name_or_path", llama_folder, "--apply_billm", 0, "--output_dir", tmp_path, *SMALL, "--dry_run"
    )
    assert yaml.safe_load(done.out)["bidirectional_from"] == -1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bidirectional_from", 4], "the layers are 0 to 2"),
        (["--billm_model_class", "MistralForCausalLM"], "--billm_model_class MistralForCausalLM"),
        (["--train_name_or_path", "missing.jsonl"], "missing.jsonl"),
        (["--bidirectional_fro", 1], "bidirectional_from"),
    ],
)
def test_wrong_use_is_one_line(words, message, program, llama_folder, tmp_path):
    done = program(TRAIN, "--model_name_or_path", llama_folder, "--output_dir", tmp_path, *SMALL, *words)
    assert done.code == 2
    assert message in done.err
    assert done.err.splitlines()[-1].count("error: ") == 1  # above it: progress of loading weights
    assert "Traceback" not in done.err


def test_the_family_flag_of_the_release_is_checked(program, llama_folder, tmp_path):
    for name in ("LlamaForCausalLM", "LlamaModel"):
        words = ["--model_name_or_path", llama_folder, "--billm_model_class", name, "--output", tmp_path / name]
        done = program(EVAL, *words, "--suite", "sts-shipped", "--limit", 5, "--device", "cpu")
        assert done.code == 0, done.err


def test_a_pooling_that_the_release_ignores_is_said(program, llama_folder, tmp_path, caplog):
    done = program(
        TRAIN, "--model_name_or_path", llama_folder, "--output_dir", tmp_path, *SMALL, "--pooling_strategy", "avg"
    )
    assert done.code == 0, done.err
    assert "the released code pools the last token" in caplog.text
    assert Encoder.from_pretrained(tmp_path).pooling == "mean"
