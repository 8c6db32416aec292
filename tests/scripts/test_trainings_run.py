"""Every training script for one step: a small random model of its kind and local rows in place of the real ones."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
TRAININGS = [
    script
    for paper in ("angle", "bellm", "llm2vec", "inbedder", "bge_icl")
    for script in sorted((REPO / "scripts" / paper).glob("train-*.sh"))
]
ENCODERS = ("bert", "uae", "roberta")  # in the names of recipes: these are no decoders
SMALL = ["--max_steps", "1", "--batch_size", "2", "--gradient_accumulation_steps", "1", "--report_to", "none"]
QUESTIONS = [
    {"instruction": "What is it about?", "input": "The river rose.", "output": "a river"},
    {"instruction": "Where does it happen?", "input": "Snow fell in the hills.", "output": "in the hills"},
] * 4
QUERIES = [
    {"query": f"who plays {what}", "pos": [f"She plays {what}."], "neg": [f"They sell {what}.", "Nothing was said."],
     "prompt": "Given a question, find its answer.", "type": "normal"}
    for what in ("the flute", "a drum", "chess", "the part", "cards", "a song", "the fool", "football")
]  # fmt: skip


def flags(script: Path, folder: Path, adapter: Path) -> list[str]:
    """What is given in place of the real model and data, by the program of a script."""
    paper, name = script.parent.name, script.stem
    if paper == "inbedder":
        rows = folder / "rows.json"
        rows.write_text(json.dumps(QUESTIONS))
        return ["--train_name_or_path", str(rows), "--bf16", "0"]
    if paper == "bge_icl":
        rows = folder / "rows.jsonl"
        rows.write_text("".join(json.dumps(row) + "\n" for row in QUERIES))
        return ["--train_data", str(rows), "--fp16", "0", "--train_group_size", "2"]
    if paper == "llm2vec":
        start = ["--load_kbit", "32", "--attn_implementation", "eager", "--max_length", "64"]
        if "mntp" in name:
            text = folder / "text.jsonl"
            text.write_text("".join(json.dumps({"text": row["pos"][0] * 20}) + "\n" for row in QUERIES))
            return [*start, "--train_name_or_path", str(text), "--train_subset_name", "none", "--max_eval_samples", "2"]
        data = ["--shipped"] if "simcse" in name else ["--train_name_or_path", "shipped:triplets"]
        return [*start, *data, "--peft_model_name_or_path", str(adapter)]
    more = ["--pretrained_lora_path", str(adapter)] if name.endswith("nli-2") else []
    layers = ["--bidirectional_from", "2"] if paper == "bellm" else []
    rows = "shipped:pairs" if paper == "angle" and "readme" not in name else "shipped:triplets"
    return ["--train_name_or_path", rows, "--load_kbit", "32", "--bf16", "0", "--fp16", "0", *more, *layers]


@pytest.fixture(scope="module")
def masked_folder(bert_folder, tmp_path_factory) -> Path:
    """`bert_folder` with a masked-LM head."""
    from transformers import AutoTokenizer, BertForMaskedLM

    folder = tmp_path_factory.mktemp("models") / "tiny-masked"
    BertForMaskedLM.from_pretrained(bert_folder).save_pretrained(folder)
    AutoTokenizer.from_pretrained(bert_folder).save_pretrained(folder)
    return folder


@pytest.fixture
def run_here(monkeypatch, tmp_path):
    """Run a script in this process: bash goes as far as Python's command line, whose words are then run here.

    A Python of its own for each of the scripts would import torch that often, most of the time that they take.
    """

    def run(script: Path, words: list[str]) -> None:
        recorder, record = tmp_path / "python", tmp_path / "words"
        recorder.write_text('#!/usr/bin/env bash\nprintf "%s\\0" "$@" > "$WORDS"\n')
        recorder.chmod(0o755)
        env = {**os.environ, "PYTHON": str(recorder), "WORDS": str(record), "GPUS": "1"}
        subprocess.run(["bash", str(script), *words], cwd=tmp_path, env=env, check=True)
        program, *rest = record.read_text().split("\0")[:-1]
        monkeypatch.setattr(sys, "argv", [program, *rest])
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as end:
            runpy.run_path(program, run_name="__main__")
        assert not end.value.code

    return run


@pytest.mark.parametrize("script", TRAININGS, ids=lambda s: f"{s.parent.name}/{s.stem}")
def test_a_training_runs_and_saves(script, run_here, llama_folder, masked_folder, lora_folders, tmp_path):
    model = masked_folder if any(kind in script.stem for kind in ENCODERS) else llama_folder
    words = ["--model_name_or_path", str(model), "--output_dir", str(tmp_path / "out"), *SMALL]
    run_here(script, [*words, *flags(script, tmp_path, lora_folders["headed"])])
    saved = {file.name for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert {"adapter_model.safetensors", "model.safetensors"} & saved
    record = json.loads((tmp_path / "out" / "training.json").read_text(encoding="utf-8"))
    assert record["steps"] == 1
