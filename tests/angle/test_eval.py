"""angle/eval.py: the flags and the table of the released evaluation on the shared harness."""

from __future__ import annotations

import json

import pytest
import yaml

from angle.eval import EvalConfig
from angle.prompts import Prompts
from common.errors import InputError


def recipe(out: str) -> dict:
    return yaml.safe_load(out)


def test_a_language_model_on_the_shipped_pairs(program, llama_folder, tmp_path):
    done = program(
        *("angle/eval.py", "--model_name_or_path", llama_folder, "--load_kbit", 16, "--suite", "sts-shipped"),
        *("--limit", 40, "--output", tmp_path / "out", "--device", "cpu"),
    )
    assert done.code == 0, done.err
    saved = json.loads((tmp_path / "out" / "ShippedPairs.json").read_text())
    assert saved["method"] == "angle"
    assert saved["encoder"]["template"] == Prompts.A
    assert saved["encoder"]["pooling"] == "last"
    assert saved["data"]["text_edits"] == "one-word-prompt"
    assert f"{saved['score']:.2f}" in done.out
    assert "Avg." in done.out
    assert "a sample of 40 pairs" in done.out


def test_an_encoder_gets_neither_prompt_nor_edits(program, bert_folder, tmp_path):
    done = program(
        *(
            "angle/eval.py",
            "--model_name_or_path",
            bert_folder,
            "--pooling_strategy",
            "cls_avg",
            "--is_llm",
            0,
        ),
        *("--suite", "sts-shipped", "--limit", 20, "--output", tmp_path / "out", "--device", "cpu"),
    )
    assert done.code == 0, done.err
    saved = json.loads((tmp_path / "out" / "ShippedPairs.json").read_text())
    assert (saved["encoder"]["template"], saved["encoder"]["pooling"]) == ("{text}", "cls_avg")
    assert saved["data"]["text_edits"] is None


def test_the_released_table(program, llama_folder, shared_data, tmp_path):
    done = program(
        *(
            "angle/eval.py",
            "--model_name_or_path",
            llama_folder,
            "--avg",
            "--task_set",
            "sts",
            "--mode",
            "test",
        ),
        *(
            "--prompt",
            "A",
            "--limit",
            8,
            "--data_dir",
            shared_data,
            "--output",
            tmp_path / "out",
            "--device",
            "cpu",
        ),
    )
    assert done.code == 0, done.err
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in done.out.splitlines() if line.startswith("|")]
    years = [f"STS{year}" for year in range(12, 17)]
    assert rows[0] == [*years, "STSBenchmark", "SICKRelatedness", "Avg."]
    assert rows[1][-1] == f"{sum(map(float, rows[1][:-1])) / 7:.2f}"
    assert json.loads((tmp_path / "out" / "STS12.json").read_text())["encoder"]["pooling"] == "mean"


def test_dry_run_prints_what_a_released_id_stands_for_and_needs_nothing(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--model_name_or_path", "SeanLee97/angle-llama-7b-nli-v2", "--load_kbit", "4", "--dry_run"]
    done = program("angle/eval.py", *words)
    assert done.code == 0, done.err
    found = recipe(done.out)
    assert found["model_name_or_path"] == "NousResearch/Llama-2-7b-hf"
    assert found["lora_name_or_path"] == ["SeanLee97/angle-llama-7b-nli-v2"]
    assert (found["prompt"], found["pooling_strategy"]) == (Prompts.A, "last")
    assert found["text_edits"] == "one-word-prompt"
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "recipe.yaml").write_text(done.out)
    again = program("angle/eval.py", "--config", tmp_path / "recipe.yaml", "--dry_run")
    assert again.out == done.out


def test_text_edits_follow_the_prompt_unless_told_otherwise(program):
    bert = "SeanLee97/angle-bert-base-uncased-nli-en-v1"
    assert recipe(program("angle/eval.py", "--model_name_or_path", bert, "--dry_run").out)["text_edits"] == "none"
    told = program("angle/eval.py", "--model", bert, "--text_edits", "one-word-prompt", "--dry_run")
    assert recipe(told.out)["text_edits"] == "one-word-prompt"
    unknown = program("angle/eval.py", "--model_name_or_path", "somebody/some-model", "--dry_run")
    assert recipe(unknown.out)["text_edits"] == "auto"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task_set", "transfer"], "--task_set transfer: python -m benchmarks transfer runs"),
        (["--task_set", "na"], "needs --tasks"),
        (["--mode", "dev"], "only the test sets"),
        (["--layer_index", "4"], "--layer_index is not supported"),
        (["--avg", "--pooling_strategy", "last"], "give one of them"),
        (["--compat", "angle:senteval-blank"], "did you mean 'angle:senteval-blanks'"),
        (["--load_kbt", "4"], "did you mean --load_kbit"),
        ([], "missing: --model_name_or_path"),
    ],
)
def test_wrong_use_is_one_line(program, words, message):
    model = ["--model_name_or_path", "somebody/some-model"] if words else []
    done = program("angle/eval.py", *model, *words, "--dry_run")
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1


def test_missing_data_is_found_before_the_model_is_loaded(program, tmp_path):
    done = program("angle/eval.py", "--model_name_or_path", tmp_path / "no-model", "--data_dir", tmp_path)
    assert done.code == 2
    assert "STS12" in done.err
    assert "no-model" not in done.err


def test_the_values_of_load_kbit():
    assert EvalConfig(load_kbit=32).dtype == "float32"
    assert EvalConfig(load_kbit=16).dtype == "auto"
    with pytest.raises(InputError, match="max_length 0"):
        EvalConfig(max_length=0)
