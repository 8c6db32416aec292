"""`llm2vec/train_mntp.py` as a command: the seed's, the original's JSON files, new flags, wrong ones."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from mntp_fixtures import GOLDEN, summary

from common import cli, registry
from common.reading import SHIPPED
from llm2vec import corpus
from llm2vec.mntp import measured
from llm2vec.mntp_recipe import MntpConfig
from llm2vec.train_mntp import OPTIONS

REPO = Path(__file__).resolve().parents[2]
TRAIN = "llm2vec/train_mntp.py"
CONFIGS = sorted((REPO / "llm2vec" / "configs" / "mntp").glob("*.yaml"))
QUICK = (
    "--report_to", "none", "--save_strategy", "no", "--bf16", "0", "--load_kbit", "32", "--device", "cpu",
    "--max_length", "32", "--batch_size", "4", "--lora_r", "2",
)  # fmt: skip
# McGill-NLP/llm2vec@312adcf, train_configs/mntp: what all files say, and what each says besides.
ALL_FILES: dict[str, Any] = {
    "dataset_name": "wikitext", "dataset_config_name": "wikitext-103-raw-v1", "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 32, "gradient_accumulation_steps": 1, "do_train": True, "do_eval": True,
    "max_seq_length": 512, "mask_token_type": "blank", "data_collator_type": "default", "mlm_probability": 0.2,
    "overwrite_output_dir": True, "evaluation_strategy": "steps", "eval_steps": 100, "save_steps": 200,
    "stop_after_n_steps": 1000, "lora_r": 16, "gradient_checkpointing": True, "torch_dtype": "bfloat16",
    "attn_implementation": "flash_attention_2",
}  # fmt: skip
FILES: dict[str, dict[str, Any]] = {
    "sheared-llama-1.3b": {"model_name_or_path": "princeton-nlp/Sheared-LLaMA-1.3B"},
    "llama-2-7b-chat": {"model_name_or_path": "meta-llama/Llama-2-7b-chat-hf"},
    "llama-3-8b-instruct": {"model_name_or_path": "meta-llama/Meta-Llama-3-8B-Instruct"},
    "llama-3.1-8b-instruct": {"model_name_or_path": "meta-llama/Meta-Llama-3.1-8B-Instruct"},
    "mistral-7b-instruct-v0.2": {
        "model_name_or_path": "mistralai/Mistral-7B-Instruct-v0.2", "data_collator_type": "all_mask",
        "mlm_probability": 0.8,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four hundred lines of words of the golden tokenizer."""
    path = tmp_path_factory.mktemp("text") / "words.txt"
    path.write_text("\n".join(" ".join(f"w{(3 * i + j) % 80}" for j in range(8)) for i in range(400)), encoding="utf-8")
    return path


# -- recipes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_the_released_files_run_unchanged(name: str, program: Callable[..., Any], tmp_path: Path) -> None:
    """As the original takes them: the path of the file, and nothing else."""
    released = tmp_path / "released.json"
    released.write_text(json.dumps({**ALL_FILES, **FILES[name], "output_dir": f"output/mntp/{name}"}))
    done = program(TRAIN, released, "--dry_run")
    assert done.code == 0, done.err
    found = yaml.safe_load(done.out)
    expected = {
        **FILES[name],
        "output_dir": f"output/mntp/{name}",
        "train_name_or_path": "Salesforce/wikitext",
        "train_subset_name": "wikitext-103-raw-v1",
        "batch_size": 32,
        "eval_batch_size": 32,
        "max_length": 512,
        "load_kbit": 16,
        "eval_strategy": "steps",
        "eval_steps": 100,
        "save_steps": 200,
        "stop_after_n_steps": 1000,
        "gradient_checkpointing": True,
        "attn_implementation": "flash_attention_2",
        "mask_token_type": "blank",
        # what the files leave out
        "lora_r": 16, "lora_alpha": 32, "lora_dropout": 0.05, "learning_rate": 5e-5, "epochs": 3.0, "seed": 42,
        "warmup_steps": 0.0, "lr_scheduler_type": "linear", "weight_decay": 0.0, "max_grad_norm": 1.0,
    }  # fmt: skip
    expected.setdefault("data_collator_type", "default")
    expected.setdefault("mlm_probability", 0.2)
    assert {key: found[key] for key in expected} == expected
    # Our file of the same run says the same; but for what the original did across documents.
    ours = cli.parse(MntpConfig, ["--config", str(REPO / "llm2vec" / "configs" / "mntp" / f"{name}.yaml")], **OPTIONS)
    same = {key for key in expected if key != "output_dir"}
    assert {key: getattr(ours, key) for key in same} == {key: expected[key] for key in same}
    assert ours.cross_document_attention


def test_there_is_a_config_for_every_released_recipe() -> None:
    assert {path.stem for path in CONFIGS} == set(FILES)


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_a_config_is_a_whole_recipe(file: Path, program: Callable[..., Any]) -> None:
    done = program(TRAIN, file, "--dry_run")
    assert done.code == 0, done.err
    given = yaml.safe_load(file.read_text(encoding="utf-8"))
    printed = yaml.safe_load(done.out)
    assert {name: printed[name] for name in given} == given
    head = "".join(line for line in file.read_text(encoding="utf-8").splitlines(True) if line.startswith("#"))
    assert re.search(r"train_configs/mntp/[\w.-]+\.json\s+#? ?of McGill-NLP/llm2vec@312adcf", head)


def test_the_command_of_the_seed_needs_no_more(program: Callable[..., Any]) -> None:
    """khs0415p/training-LLM2VEC-PyTorch, README: `python train_mntp.py --model_name [model name or path]`."""
    done = program(TRAIN, "--model_name", "mistralai/Mistral-7B-v0.3", "--dry_run")
    assert done.code == 0, done.err
    found = yaml.safe_load(done.out)
    assert found["model_name_or_path"] == "mistralai/Mistral-7B-v0.3"
    assert (found["train_name_or_path"], found["train_subset_name"]) == ("Salesforce/wikitext", "wikitext-103-raw-v1")
    assert found["output_dir"] == "ckpts/mntp/Mistral-7B-v0.3"
    assert found["report_to"] == ["tensorboard"]


def test_dry_run_prints_a_recipe_that_reads_back(program: Callable[..., Any], tmp_path: Path) -> None:
    words = (
        "--model_name", "no/such-model", "--train_file", "no.txt", "--mlm_probability", "0.4",
        "--data_collator_type", "roberta", "--lora_target_modules", "q_proj,v_proj", "--max_tokens", "5000",
    )  # fmt: skip
    first = program(TRAIN, *words, "--dry_run")
    assert first.code == 0, first.err
    found = yaml.safe_load(first.out)
    assert found["lora_target_modules"] == ["q_proj", "v_proj"]
    assert found["train_subset_name"] is None
    (tmp_path / "recipe.yaml").write_text(first.out)
    assert program(TRAIN, tmp_path / "recipe.yaml", "--dry-run").out == first.out


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (["--max_train_samples", "9"], "limit", 9),
        (["--validation_file", "v.txt"], "valid_name_or_path", "v.txt"),
        (["--torch_dtype", "float32"], "load_kbit", 32),
        (["--torch_dtype", "auto"], "load_kbit", None),
        (["--model_revision", "main"], "model_revision", "main"),
        (["--stop_after_n_steps", "none"], "stop_after_n_steps", None),
        (
            ["--streaming", "0", "--pad_to_max_length", "--trust_remote_code", "0", "--cache_dir", "x"],
            "streaming",
            False,
        ),
        (["--evaluation_strategy", "no", "--use_auth_token", "t", "--overwrite_cache", "1"], "eval_strategy", "no"),
        (["--dataset_name", "my/data"], "train_subset_name", None),
    ],
)
def test_names_of_the_original(words: list[str], field: str, value: Any) -> None:
    assert getattr(cli.parse(MntpConfig, words, **OPTIONS), field) == value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "missing: --model_name_or_path"),
        (["--model_name", "x", "--mlm_probabilit", "0.2"], "did you mean --mlm_probability?"),
        (["--model_name", "x", "--data_collator_type", "albert"], "is not one of default, bert, roberta, all_mask"),
        (["--model_name", "x", "--model_type", "llama"], "--model_type is not supported: a model is adapted here"),
        (["--model_name", "x", "--mlm_probability", "0"], "--mlm_probability 0.0: must be above 0"),
        (["--model_name", "x", "--train_file", "nowhere.txt"], "data: no file nowhere.txt"),
        (["--model_name", "x", "--shipped", "--train_file", "a.txt"], "give one of them"),
        (["--model_name", "no-such-model", "--shipped"], "model 'no-such-model'"),
        (["--model_name", "no-such-model", "--compat", "llm2vec:nothing"], "--compat llm2vec:nothing: no such switch"),
    ],
)
def test_wrong_use_is_one_line_and_code_2(
    program: Callable[..., Any], words: list[str], message: str, tmp_path: Path
) -> None:
    done = program(TRAIN, *words, "--output_dir", tmp_path / "out")
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()


def test_without_hub_the_default_text_is_asked_for(
    program: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "hub_reachable", lambda: False)
    done = program(TRAIN, "--model_name", GOLDEN / "tiny_llama", "--output_dir", tmp_path / "out")
    assert done.code == 2
    assert "'Salesforce/wikitext': no such local file, and the hub does not answer" in done.err
    assert "--shipped" in done.err


# -- training ---------------------------------------------------------------------------------------


def test_a_text_file_trains_and_says_how_well(program: Callable[..., Any], text: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    model = GOLDEN / "tiny_llama"
    done = program(
        TRAIN, "--model_name_or_path", model, "--train_file", text.name, "--data_dir", text.parent,
        "--output_dir", out, "--learning_rate", "5e-3", "--epochs", "3", "--attn_implementation",
        "flash_attention_2", *QUICK,
    )  # fmt: skip
    assert done.code == 0, done.err
    before, after = measured(out)
    assert f"before: masked accuracy {before['accuracy']:.4f}, loss {before['loss']:.4f}" in done.out
    assert f"after: masked accuracy {after['accuracy']:.4f}" in done.out
    assert before["step"] == 0 < after["step"]
    assert before["tokens"] == after["tokens"] > 10
    assert after["loss"] < before["loss"]
    found = summary(out)
    assert "first 20 texts" in found["validation"]["data"]  # 5%
    assert found["recipe"]["attn_implementation"] == "flash_attention_2"
    encoder = registry.load("llm2vec", str(model), adapter=str(out), dtype="float32", device="cpu")
    assert encoder.info.attention == "bidirectional"
    untrained = registry.load("llm2vec", str(model), dtype="float32", device="cpu")
    assert np.abs(encoder.encode(["w1 w2"]) - untrained.encode(["w1 w2"])).max() > 1e-3
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "mlm_probability: 0.15" in card
    again = program(
        TRAIN, "--model_name_or_path", model, "--train_file", text.name, "--data_dir", text.parent,
        "--output_dir", out, "--learning_rate", "5e-3", "--epochs", "3", "--attn_implementation",
        "flash_attention_2", *QUICK,
    )  # fmt: skip
    assert again.code == 0
    # It is finished, and nothing is trained again.
    assert again.out.splitlines() == [line for line in done.out.splitlines() if "masked accuracy" in line]


def test_shipped_text_and_a_validation_file(program: Callable[..., Any], llama_folder: Path, tmp_path: Path) -> None:
    done = program(
        TRAIN, "--model_name", llama_folder, "--shipped", "--validation_file", SHIPPED / "passages.jsonl",
        "--output_dir", tmp_path, "--max_steps", "2", "--max_eval_samples", "3", "--mask_token_type", "eos", *QUICK,
    )  # fmt: skip
    assert done.code == 0, done.err
    found = summary(tmp_path)
    assert found["data"].startswith("shipped:triplets and shipped:questions")
    assert found["validation"]["data"].endswith("passages.jsonl")
    assert 3 <= found["validation"]["masked"][0]["tokens"] < 3 * 32
    assert found["steps"] == 2


def test_validation_can_be_turned_off(program: Callable[..., Any], text: Path, tmp_path: Path) -> None:
    done = program(
        TRAIN, "--model_name", GOLDEN / "tiny_mistral", "--train_file", text, "--output_dir", tmp_path,
        "--eval_strategy", "no", "--max_steps", "1", "--cross_document_attention", *QUICK,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.out.count("masked accuracy") == 0
    assert "validation" not in summary(tmp_path)


def test_tensorboard_is_used_where_it_is_installed(
    program: Callable[..., Any], text: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = [word for word in QUICK if word not in ("--report_to", "none")]
    done = program(
        TRAIN, "--model_name", GOLDEN / "tiny_llama", "--train_file", text, "--output_dir", tmp_path,
        "--max_steps", "1", *words,
    )  # fmt: skip
    assert done.code == 0, done.err
    installed = any(map(importlib.util.find_spec, ("tensorboard", "tensorboardX")))
    assert bool(list(tmp_path.rglob("events.out.tfevents*"))) == installed
    assert ("no TensorBoard logs: the package tensorboard is not installed" in caplog.text) == (not installed)


@pytest.mark.slow
def test_the_script_runs_inside_its_folder() -> None:
    """`cd llm2vec && python train_mntp.py --help`, in a process of its own."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "train_mntp.py", "--help"], cwd=REPO / "llm2vec", env=environment, capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for flag in ("--data_collator_type", "--cross_document_attention", "--stop_after_n_steps", "--shipped"):
        assert flag in done.stdout
