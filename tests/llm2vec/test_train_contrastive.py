"""`llm2vec/train_simcse.py` and `llm2vec/train_supervised.py` as commands, released ones among them."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "common"))
from training_fixtures import run_processes, save_tiny, sentences, write_jsonl

from common.encoder import Encoder

SIMCSE, SUPERVISED = "llm2vec/train_simcse.py", "llm2vec/train_supervised.py"
REPO = Path(__file__).resolve().parents[2]
TEXTS = [row["query"] for row in sentences()]
# What all files in train_configs/simcse and train_configs/supervised of McGill-NLP/llm2vec@312adcf set, and how.
RELEASED: dict[str, Any] = {
    "model_name_or_path": "princeton-nlp/Sheared-LLaMA-1.3B",
    "peft_model_name_or_path": "McGill-NLP/LLM2Vec-Sheared-LLaMA-mntp",
    "bidirectional": True,
    "pooling_mode": "mean",
    "remove_unused_columns": False,
    "gradient_accumulation_steps": 1,
    "do_train": True,
    "disable_tqdm": False,
    "overwrite_output_dir": True,
    "output_dir": "output/Sheared-LLaMA-1.3B",
    "logging_steps": 50,
    "save_steps": 200,
    "save_only_model": True,
    "stop_after_n_steps": 1000,
    "lora_r": 16,
    "gradient_checkpointing": True,
    "torch_dtype": "bfloat16",
    "attn_implementation": "flash_attention_2",
    "seed": 42,
}
RELEASED_SIMCSE = {
    **RELEASED, "simcse_dropout": 0.3, "dataset_name": "Wiki1M", "dataset_file_path": "cache/wiki1m_for_simcse.txt",
    "learning_rate": 3e-5, "loss_scale": 20, "per_device_train_batch_size": 128, "max_seq_length": 128,
}  # fmt: skip
RELEASED_SUPERVISED = {
    **RELEASED, "dataset_name": "E5", "dataset_file_path": "cache/echo-data", "learning_rate": 2e-4,
    "num_train_epochs": 3, "warmup_steps": 300, "per_device_train_batch_size": 64, "per_device_eval_batch_size": 64,
    "max_seq_length": 512,
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("train") / "tiny-llama", "llama")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("\n".join(TEXTS))
    return path


@pytest.fixture(scope="module")
def triplets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("triplets") / "triplets.jsonl", sentences())


def recipe(text: str) -> dict[str, Any]:
    return yaml.safe_load(text)


def summary(out: Path) -> dict[str, Any]:
    return json.loads((out / "training.json").read_text())


QUICK = ["--batch_size", "16", "--load_kbit", "32", "--bf16", "0", "--lora_r", "4", "--logging_steps", "1"]


def test_the_steps_one_after_the_other(
    program: Callable[..., Any], model: Path, texts: Path, triplets: Path, tmp_path: Path
) -> None:
    """The seed's command for SimCSE; then the supervised step on top, merged and going on."""
    done = program(
        SIMCSE, "--model_name", model, "--dataset_file_path", texts, "--output_dir", tmp_path / "simcse",
        "--epochs", "1", *QUICK,
    )  # fmt: skip
    assert done.code == 0, done.err
    one = Encoder.from_pretrained(tmp_path / "simcse", dtype="float32")
    for name, flag in (("fresh", "--peft_model_name_or_path"), ("on", "--pretrained_lora_path")):
        done = program(
            SUPERVISED, flag, tmp_path / "simcse", "--train_name_or_path", triplets.name, "--data_dir",
            triplets.parent, "--valid_name_or_path", triplets, "--output_dir", tmp_path / name, "--max_steps", "3",
            "--warmup_steps", "0", "--eval_steps", "2", *QUICK,
        )  # fmt: skip
        assert done.code == 0, done.err
        two = Encoder.from_pretrained(tmp_path / name, dtype="float32")
        assert len(two.backbone.adapters) == (2 if name == "fresh" else 1)
        assert two.info.attention == "bidirectional"
        assert np.abs(two.encode(TEXTS) - one.encode(TEXTS)).max() > 1e-4
        assert summary(tmp_path / name)["steps"] == 3
    card = (tmp_path / "fresh" / "README.md").read_text()
    assert "loss_scale: 50.0" in card


def test_a_budget_of_tokens_and_the_same_command_again(
    program: Callable[..., Any], model: Path, texts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = (SIMCSE, "--model_name_or_path", model, "--train_name_or_path", texts, "--output_dir", tmp_path / "out",
             "--max_tokens", "600", *QUICK)  # fmt: skip
    assert program(*words).code == 0
    found = summary(tmp_path / "out")
    assert found["finished"]
    assert 600 <= found["tokens"] < 700  # both views of a text are read
    assert program(*words).code == 0
    assert "this training is finished" in caplog.text
    assert summary(tmp_path / "out")["tokens"] == found["tokens"]


def run(path: str, words: list[str], kill_after: int | None = None) -> None:
    """The command in a process of its own, killed when it has done so many steps."""
    import runpy

    import torch
    import transformers

    torch.set_num_threads(1)
    kept = transformers.Trainer._maybe_log_save_evaluate

    def kill(self: Any, *args: Any, **kwargs: Any) -> None:
        kept(self, *args, **kwargs)
        if kill_after is not None and self.state.global_step >= kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

    transformers.Trainer._maybe_log_save_evaluate = kill  # type: ignore[method-assign]
    sys.argv = [path, *words]
    try:
        runpy.run_path(str(REPO / path), run_name="__main__")
    except SystemExit as stopped:
        if stopped.code:
            raise


@pytest.mark.slow
@pytest.mark.parametrize("path", [SIMCSE, SUPERVISED])
def test_a_killed_command_goes_on_to_the_same_weights(
    path: str, model: Path, texts: Path, triplets: Path, tmp_path: Path
) -> None:
    """Dropout is drawn as in the run that was not killed; checkpoints come by time, at every step here."""
    from safetensors.numpy import load_file

    data = texts if path == SIMCSE else triplets
    words = ["--model_name_or_path", str(model), "--train_name_or_path", str(data), "--epochs", "2",
             "--save_minutes", "1e-9", "--save_total_limit", "9", "--learning_rate", "1e-3",
             "--warmup_steps", "0", *QUICK]  # fmt: skip
    whole, broken = (
        [*words, "--output_dir", str(tmp_path / "whole")],
        [*words, "--output_dir", str(tmp_path / "broken")],
    )
    assert run_processes(run, path, whole, folder=tmp_path) == [0]
    assert run_processes(run, path, broken, 8, folder=tmp_path) == [-signal.SIGKILL]
    assert not (tmp_path / "broken" / "training.json").exists()
    assert run_processes(run, path, broken, folder=tmp_path) == [0]
    assert "going on from" in (tmp_path / "log-0.txt").read_text()
    a, b = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "broken"))
    assert max(float(np.abs(a[key] - b[key]).max()) for key in a) <= 1e-7
    assert summary(tmp_path / "whole")["loss"] == summary(tmp_path / "broken")["loss"]


def test_a_folder_of_sets_trains(program: Callable[..., Any], model: Path, tmp_path: Path) -> None:
    data = tmp_path / "echo-data"
    data.mkdir()
    for name in ("allnli", "nq"):
        write_jsonl(data / f"{name}.jsonl", sentences()[:40])
    done = program(
        SUPERVISED, "--model_name_or_path", model, "--dataset_name", "E5", "--dataset_file_path", data,
        "--output_dir", tmp_path / "out", "--epochs", "1", "--warmup_steps", "0", *QUICK,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert summary(tmp_path / "out")["steps"] == 4  # two batches of 16 of each set
    assert summary(tmp_path / "out")["data"] == str(data)


def test_instructions_of_a_file_are_written_as_asked(
    program: Callable[..., Any], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llm2vec import fit

    rows = write_jsonl(tmp_path / "r.jsonl", [{**row, "instruction": "word"} for row in sentences()])
    seen: list[Any] = []
    monkeypatch.setattr(fit, "fit_shared", lambda encoder, rows, *others, **options: seen.append(rows))
    words = ["--model_name_or_path", model, "--train_name_or_path", rows, "--output_dir", tmp_path / "out"]
    assert program(SUPERVISED, *words).code == 0
    assert program(SUPERVISED, *words, "--train_instruction_format", "{instruction};").code == 0
    assert [rows.rows[0]["instruction"] for rows in seen] == ["word", "word;"]


# -- what is understood -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "given", "expected"),
    [
        (SIMCSE, RELEASED_SIMCSE, {
            "simcse_dropout": 0.3, "train_name_or_path": "cache/wiki1m_for_simcse.txt", "learning_rate": 3e-5,
            "loss_scale": 20.0, "batch_size": 128, "max_length": 128, "simcse_chat_template": False,
            "compat": ["llm2vec:simcse-pool-all"], "warmup_steps": 0.0,
        }),
        (SUPERVISED, RELEASED_SUPERVISED, {
            "train_name_or_path": "cache/echo-data", "learning_rate": 2e-4, "loss_scale": 50.0, "batch_size": 64,
            "max_length": 512, "warmup_steps": 300.0, "train_instruction_format": "{instruction};",
            "train_doc_instruction": "released",
        }),
    ],
)  # fmt: skip
def test_the_released_json_files_are_understood(
    program: Callable[..., Any], path: str, given: dict[str, Any], expected: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "Sheared-Llama.json").write_text(json.dumps(given))
    done = program(path, tmp_path / "Sheared-Llama.json", "--dry_run")
    assert done.code == 0, done.err
    found = recipe(done.out)
    expected = {
        **expected, "output_dir": "output/Sheared-LLaMA-1.3B", "epochs": 3.0, "stop_after_n_steps": 1000,
        "peft_model_name_or_path": ["McGill-NLP/LLM2Vec-Sheared-LLaMA-mntp"], "bidirectional": True,
        "lora_r": 16, "lora_alpha": 32, "lora_dropout": 0.05, "load_kbit": 16, "filter_duplicate": False,
        "attn_implementation": "flash_attention_2", "gradient_checkpointing": True, "save_steps": 200,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected


def test_a_released_json_relies_on_its_script(program: Callable[..., Any], tmp_path: Path) -> None:
    """What it leaves out is what run_simcse.py does, not what we would; a file of ours is not touched."""
    (tmp_path / "short.json").write_text(json.dumps({"model_name_or_path": "x", "dataset_name": "Wiki1M"}))
    found = recipe(program(SIMCSE, tmp_path / "short.json", "--dry_run").out)
    assert (found["lora_r"], found["lora_alpha"], found["simcse_dropout"], found["loss_scale"]) == (8, 16, 0.1, 50.0)
    assert (found["stop_after_n_steps"], found["learning_rate"], found["batch_size"]) == (10000, 5e-5, 8)
    found = recipe(program(SIMCSE, tmp_path / "short.json", "--lora_r", "4", "--dry_run").out)
    assert (found["lora_r"], found["lora_alpha"]) == (4, 8)
    (tmp_path / "ours.json").write_text(json.dumps({"model_name_or_path": "x"}))
    found = recipe(program(SIMCSE, tmp_path / "ours.json", "--dry_run").out)
    assert (found["lora_r"], found["simcse_dropout"], found["compat"]) == (16, 0.3, [])


def test_the_seed_command_is_understood(program: Callable[..., Any]) -> None:
    """github.com/khs0415p/training-LLM2VEC-PyTorch, "SimCSE"."""
    done = program(SIMCSE, "--model_name", "org/model", "--peft_model_name_or_path", "org/peft", "--dry_run")
    assert done.code == 0, done.err
    found = recipe(done.out)
    assert found["model_name_or_path"] == "org/model"
    assert found["peft_model_name_or_path"] == ["org/peft"]
    assert found["output_dir"] == "ckpts/simcse/model"


# Section 9 of papers/llm2vec.md: the scripts' own flags.
MODEL_FLAGS = ["--model_name_or_path", "m", "--peft_model_name_or_path", "p", "--bidirectional", "True",
               "--max_seq_length", "64", "--torch_dtype", "float32", "--attn_implementation", "sdpa",
               "--pooling_mode", "weighted_mean"]  # fmt: skip
DATA_FLAGS = ["--dataset_name", "E5", "--dataset_file_path", "d", "--max_train_samples", "7"]
OWN_FLAGS = ["--lora_dropout", "0.1", "--lora_r", "4", "--stop_after_n_steps", "9", "--experiment_id", "one",
             "--loss_class", "HardNegativeNLLLoss", "--loss_scale", "30"]  # fmt: skip


@pytest.mark.parametrize("path", [SIMCSE, SUPERVISED])
def test_the_released_flags_are_understood(program: Callable[..., Any], path: str) -> None:
    own = [*OWN_FLAGS, *(["--simcse_dropout", "0.2"] if path == SIMCSE else [])]
    done = program(path, *MODEL_FLAGS, *DATA_FLAGS, *own, "--output_dir", "out", "--dry_run")
    assert done.code == 0, done.err
    found = recipe(done.out)
    expected = {
        "max_length": 64, "load_kbit": 32, "attn_implementation": "sdpa", "pooling_mode": "weighted_mean",
        "train_name_or_path": "d", "limit": 7, "lora_dropout": 0.1, "lora_r": 4, "lora_alpha": 8,
        "stop_after_n_steps": 9, "output_dir": "out/one", "loss_scale": 30.0,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected


def test_dry_run_prints_a_recipe_that_reads_back(program: Callable[..., Any], tmp_path: Path) -> None:
    for path in (SIMCSE, SUPERVISED):
        first = program(path, "--model_name_or_path", "x", "--experiment_id", "e", "--lora_r", "4", "--dry_run")
        (tmp_path / "recipe.yaml").write_text(first.out)
        assert program(path, tmp_path / "recipe.yaml", "--dry_run").out == first.out


@pytest.mark.parametrize(
    ("path", "words", "message"),
    [
        (SIMCSE, [], "missing: --model_name_or_path"),
        (SUPERVISED, [], "missing: --model_name_or_path"),
        (SIMCSE, ["--simcse_drop", "0.1"], "(did you mean --simcse_dropout?)"),
        (SIMCSE, ["--loss_class", "Other"], "--loss_class"),
        (SIMCSE, ["--compat", "llm2vec:simcse-pool"], "did you mean 'llm2vec:simcse-pool-all'?"),
        (SIMCSE, ["--model_name", "x", "--train_name_or_path", "nowhere.txt"], "no file nowhere.txt"),
        (SUPERVISED, ["--model_name", "x", "--train_name_or_path", "nowhere.jsonl"], "no file nowhere.jsonl"),
        (SUPERVISED, ["--train_instruction_format", "; "], "needs {instruction} exactly once"),
        (
            SUPERVISED,
            [
                "--model_name",
                "x",
                "--train_name_or_path",
                "tests",
                "--data_dir",
                REPO,
                "--streaming",
                "--max_steps",
                "2",
            ],
            "--streaming: not with a folder of data sets",
        ),
    ],
)
def test_wrong_use_is_one_line_and_code_2(
    program: Callable[..., Any], path: str, words: list[str], message: str, tmp_path: Path
) -> None:
    done = program(path, "--output_dir", tmp_path / "out", *words)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()
