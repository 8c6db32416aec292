"""Every training script for one step: a small random model of its kind and local rows in place of the real ones.

What was saved is loaded again as what it is, and used.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
TRAININGS = [
    script
    for paper in ("angle", "bellm", "llm2vec", "inbedder", "bge_icl")
    for script in sorted((REPO / "scripts" / paper).glob("train-*.sh"))
]
PROBES = sorted((REPO / "scripts" / "llm2vec").glob("word-*.sh"))
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

TAGGED = [
    {"tokens": ["The", "rain", "fell", "in", "Berlin"], "pos": ["DT", "NN", "VBD", "IN", "NNP"],
     "ner": ["O", "O", "O", "O", "B-LOC"], "chunk": ["B-NP", "I-NP", "B-VP", "B-PP", "B-NP"]},
    {"tokens": ["Anna", "plays", "chess"], "pos": ["NNP", "VBZ", "NN"],
     "ner": ["B-PER", "O", "O"], "chunk": ["B-NP", "B-VP", "B-NP"]},
] * 8  # fmt: skip
DIM = 32  # of the small models
TEXTS = ["The river rose.", "She plays chess in the park."]


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


def check_vectors(method: str, folder: Path) -> None:
    """The folder is a model of the method, and its vectors are numbers."""
    import numpy as np

    from common.registry import load

    vectors = np.asarray(load(method, str(folder), device="cpu", dtype="float32").encode(TEXTS))
    assert vectors.shape == (len(TEXTS), DIM)
    assert np.isfinite(vectors).all()
    assert not np.allclose(vectors[0], vectors[1])


@pytest.mark.parametrize("script", TRAININGS, ids=lambda s: f"{s.parent.name}/{s.stem}")
def test_a_training_runs_and_saves(script, run_here, llama_folder, masked_folder, lora_folders, tmp_path):
    model = masked_folder if any(kind in script.stem for kind in ENCODERS) else llama_folder
    words = ["--model_name_or_path", str(model), "--output_dir", str(tmp_path / "out"), *SMALL]
    run_here(script, [*words, *flags(script, tmp_path, lora_folders["headed"])])
    saved = {file.name for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert {"adapter_model.safetensors", "model.safetensors"} & saved
    record = json.loads((tmp_path / "out" / "training.json").read_text(encoding="utf-8"))
    assert record["steps"] == 1
    check_vectors(script.parent.name, tmp_path / "out")


@pytest.mark.parametrize("script", PROBES, ids=lambda s: f"{s.parent.name}/{s.stem}")
def test_a_probe_is_trained_and_tested(script, run_here, llama_folder, lora_folders, tmp_path):
    from benchmarks.results import read_folder
    from llm2vec.word_probe import load_probe

    for split in ("train", "valid", "test"):
        file = tmp_path / "conll2003" / f"{split}.jsonl"
        file.parent.mkdir(exist_ok=True)
        file.write_text("".join(json.dumps(row) + "\n" for row in TAGGED))
    adapter = ["--adapter", str(lora_folders["headed"])] if "mntp" in script.stem else []
    words = ["--model_name_or_path", str(llama_folder), *adapter, "--data_dir", str(tmp_path), "--device", "cpu"]
    words += ["--dtype", "float32", "--attn_implementation", "eager", "--eval_strategy", "no"]
    words += ["--stop_after_n_steps", "1", "--save_steps", "1", "--test_step", "1"]
    run_here(script, [*words, "--output_dir", str(tmp_path / "out")])
    results = read_folder(tmp_path / "out" / "results")
    tasks = ["chunk_tags", "ner_tags", "pos_tags"]
    assert list(results) == [f"conll2003-{task}" for task in tasks]
    for task in tasks:
        probe, settings = load_probe(tmp_path / "out" / task / "checkpoint-1")
        assert probe.classifier.weight.shape == (len(probe.labels), DIM)
        assert probe.classifier.weight.isfinite().all()
        result = results[f"conll2003-{task}"]
        assert result.encoder["attention"] == ("causal" if script.stem.endswith("-uni") else "bidirectional")
        assert len(settings["adapter"]) == len(adapter[1:])
        assert result.n == sum(len(row["tokens"]) for row in TAGGED)
