"""llm2vec/eval.py and infer.py as commands."""

from __future__ import annotations

import json

import numpy as np
import pytest

from llm2vec.encoder import load

EVAL, INFER = "llm2vec/eval.py", "llm2vec/infer.py"
SMALL = ["--suite", "sts-shipped", "--limit", 20, "--device", "cpu", "--dtype", "float32"]


def test_eval_scores_and_says_what_it_did(program, llama_folder, lora_folders, tmp_path):
    words = ["--base_model_name_or_path", llama_folder, "--peft_model_name_or_path", lora_folders["headed"]]
    done = program(EVAL, *words, *SMALL, "--output", tmp_path)
    assert done.code == 0, done.err
    assert "Avg." in done.out
    result = json.loads((tmp_path / "ShippedPairs.json").read_text())
    assert result["encoder"]["attention"] == "bidirectional"
    assert result["data"]["text_edits"] is None
    assert result["data"]["instruction"] is None


def test_an_instruction_and_causal_attention_change_the_score(program, llama_folder, tmp_path):
    scores = []
    variants = [[], ["--instruction", "Retrieve semantically similar text:"], ["--enable_bidirectional", 0]]
    for i, words in enumerate(variants):
        done = program(EVAL, "--model", llama_folder, *SMALL, "--output", tmp_path / str(i), *words)
        assert done.code == 0, done.err
        scores.append(json.loads((tmp_path / str(i) / "ShippedPairs.json").read_text())["score"])
    assert len(set(scores)) == 3
    again = program(EVAL, "--model", llama_folder, *SMALL, "--output", tmp_path / "0", "--instruction", "Other:")
    assert again.code == 2
    assert "another model, data or setting" in again.err


def test_infer_writes_the_vectors_of_the_encoder(program, llama_folder, tmp_path):
    texts = ["a cat", "the rain in the mountains"]
    out = tmp_path / "v.npy"
    done = program(INFER, *texts, "--model", llama_folder, "--device", "cpu", "--dtype", "float32", "--output", out,
                   "--instruction", "Say it:")  # fmt: skip
    assert done.code == 0, done.err
    encoder = load(str(llama_folder), device="cpu", dtype="float32")
    np.testing.assert_allclose(np.load(out), encoder.encode(texts, instruction="Say it:"), atol=1e-6)
    assert np.abs(np.load(out) - encoder.encode(texts)).max() > 1e-3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--chat_template", "lama-3"], "llama-3"),
        (["--attention", "causl"], "causal"),
        (["--task_set", "transfer"], "transfer"),
        (["--pooling_mode", "meen"], "mean"),
    ],
)
def test_wrong_use(words, message, program, llama_folder, tmp_path):
    done = program(EVAL, "--model", llama_folder, *SMALL, "--output", tmp_path, *words)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err
