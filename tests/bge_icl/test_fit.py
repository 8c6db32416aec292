"""bge_icl/fit.py and special_tokens.py: it learns, two processes train as one, token rows are saved and come back."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_fixtures import run_processes, save_tiny, sentences

from bge_icl.encoder import load
from bge_icl.fit import fit
from bge_icl.prompts import SPECIAL_TOKENS
from bge_icl.recipe import IclConfig
from bge_icl.special_tokens import missing_tokens
from bge_icl.train_data import checked_row
from common.data import RowList
from common.encoder import Encoder
from common.errors import InputError
from common.io import read_json
from common.recipe import TrainConfig

OPTIONS: dict[str, Any] = {"device": "cpu", "dtype": "float32"}
TRAINED, HELD_OUT = sentences()[:72], sentences()[72:]


def rows(kind: str = "normal", name: str = "words", count: int = 72) -> list[dict[str, Any]]:
    raw = [{"query": r["query"], "pos": [r["positive"]], "neg": [r["negative"]], "type": kind, "prompt": "translate",
            "category": r["query"].split()[1]} for r in TRAINED[:count]]  # fmt: skip
    return [checked_row(one, f"f:{i}", name) for i, one in enumerate(raw)]


def config(folder: Path, **changes: Any) -> IclConfig:
    settings: dict[str, Any] = {
        "max_steps": 4, "batch_size": 8, "learning_rate": 2e-3, "warmup_steps": 0, "logging_steps": 1,
        "lora_r": 8, "lora_alpha": 16, "lora_dropout": 0.0, "max_examples": 2, "query_max_len": 128,
        "bf16": False, "save_strategy": "no",
    }  # fmt: skip
    return IclConfig(output_dir=folder, **{**settings, **changes})


def recall(encoder: Encoder) -> float:
    """How often the nearest of all held-out translations is the right one."""
    queries = encoder.encode([r["query"] for r in HELD_OUT], instruction="translate")
    documents = encoder.encode([r["positive"] for r in HELD_OUT])
    return float(np.mean((queries @ documents.T).argmax(axis=1) == np.arange(len(HELD_OUT))))


@pytest.mark.slow
def test_it_learns_and_shuffled_positives_do_not(tmp_path: Path) -> None:
    words = save_tiny(tmp_path / "llama", "llama", max_position_embeddings=256)
    found = {}
    for shuffled in (False, True):
        encoder = load(str(words), **OPTIONS)
        before = recall(encoder)
        settings: dict[str, Any] = {"max_steps": 60, "batch_size": 24, "learning_rate": 5e-3, "max_examples": 1}
        fit(encoder, RowList(rows(), "words"), config(tmp_path / str(shuffled), **settings, apply_lora=False,
                                                      shuffle_positives=shuffled))  # fmt: skip
        found[shuffled] = recall(encoder)
        losses = [loss for _, loss in read_json(tmp_path / str(shuffled) / "training.json")["loss"]]
        assert losses[-1] < losses[0]
    assert before < 0.3
    assert found[False] > found[True] + 0.3
    assert found[False] > 0.6


@pytest.mark.parametrize("choice", ["frozen", "trained"])
def test_token_rows_are_saved_with_the_adapter(llama_folder: Path, tmp_path: Path, choice: str) -> None:
    encoder = load(str(llama_folder), **OPTIONS)
    assert missing_tokens(encoder.backbone.tokenizer) == list(SPECIAL_TOKENS)
    fit(encoder, RowList(rows(), "words"), config(tmp_path, special_tokens=choice, merge=False))
    weights = load_file(tmp_path / "adapter_model.safetensors")
    (saved,) = (value for key, value in weights.items() if "trainable_tokens" in key)
    assert saved.shape == (3, 32)
    assert not any("embed_tokens.weight" in key for key in weights)  # three rows, not the table
    expected = encoder.encode(["the cat"], instruction="translate")
    again = Encoder.from_pretrained(tmp_path, **OPTIONS)
    assert missing_tokens(again.backbone.tokenizer) == []
    assert np.abs(again.encode(["the cat"], instruction="translate") - expected).max() < 1e-6
    by_name = load(str(llama_folder), adapter=str(tmp_path), **OPTIONS)
    assert np.abs(by_name.encode(["the cat"], instruction="translate") - expected).max() < 1e-6
    again.save_pretrained(tmp_path / "merged", merge=True)
    merged = Encoder.from_pretrained(tmp_path / "merged", **OPTIONS)
    assert np.abs(merged.encode(["the cat"], instruction="translate") - expected).max() < 1e-5
    # what they were before: drawn by the seed, told apart from each other, and moved by training alone
    other = load(str(llama_folder), **OPTIONS)
    fit(other, RowList(rows(), "words"), config(tmp_path / "one", special_tokens="frozen", max_steps=1))
    (start,) = (v for k, v in load_file(tmp_path / "one" / "adapter_model.safetensors").items() if "tokens_d" in k)
    assert torch.pdist(start).min() > 0.01
    assert torch.equal(saved, start) == (choice == "frozen")


def test_plain_prompt_and_text_tokens_add_nothing(llama_folder: Path, tmp_path: Path) -> None:
    encoder = load(str(llama_folder), **OPTIONS)
    before = len(encoder.backbone.tokenizer)
    fit(encoder, RowList(rows(), "words"), config(tmp_path, special_tokens="text", max_steps=1))
    assert len(encoder.backbone.tokenizer) == before
    assert not any("tokens" in key for key in load_file(tmp_path / "adapter_model.safetensors"))


def test_tokens_that_a_base_has_stay_its_own(golden: Any, tmp_path: Path) -> None:
    for choice in ("frozen", "trained"):
        encoder = load(str(golden.model), **OPTIONS)
        fit(encoder, RowList(rows(), "words"), config(tmp_path / choice, special_tokens=choice, max_steps=2))
        keys = load_file(tmp_path / choice / "adapter_model.safetensors")
        assert any("trainable_tokens" in key for key in keys) == (choice == "trained")


def test_sets_of_every_kind_with_batches_of_their_own(llama_folder: Path, tmp_path: Path) -> None:
    """Every step is of one data set; the sizes of batches differ; cached gradients are those of the plain loss."""
    mixed = [*rows(count=16), *rows("symmetric_sts", "sts", 16), *rows("symmetric_class", "class", 16),
             *rows("symmetric_clustering", "clusters", 16), *rows("only_1neg", "nli", 16)]  # fmt: skip
    logs = []
    for cache in (None, 200):
        encoder = load(str(llama_folder), **OPTIONS)
        made = config(tmp_path / str(cache), max_steps=-1, symmetric_batch_size=16, grad_cache_tokens=cache)
        fit(encoder, RowList(mixed, "mixed"), made, valid=RowList(mixed, "mixed"))
        logs.append(read_json(tmp_path / str(cache) / "training.json"))
    assert logs[0]["steps"] == 2 + 1 + 1 + 1 + 2
    assert logs[0]["tokens"] == logs[1]["tokens"]
    plain, cached = ([loss for _, loss in log["loss"]] for log in logs)
    assert cached == pytest.approx(plain, abs=1e-3)


def test_pairs_and_triplets_of_other_methods(llama_folder: Path, tmp_path: Path) -> None:
    """What quickstart and the studies call: rows without instruction, settings that know nothing of BGE-ICL."""
    encoder = load(str(llama_folder), **OPTIONS)
    made = TrainConfig(output_dir=tmp_path / "a", batch_size=8, max_tokens=3000, bf16=False, save_strategy="no",
                       lora_dropout=0.0, warmup_steps=0.0)  # fmt: skip
    fit(encoder, RowList(TRAINED, "triplets"), made)
    assert read_json(tmp_path / "a" / "training.json")["tokens"] >= 3000
    pairs = [{"text1": r["query"], "text2": r["positive"], "label": float(i % 2)} for i, r in enumerate(TRAINED)]
    again = load(str(llama_folder), **OPTIONS)
    fit(again, RowList(pairs, "pairs"), TrainConfig(output_dir=tmp_path / "b", batch_size=8, max_steps=1, bf16=False))
    with pytest.raises(InputError, match="stream"):
        fit(again, object.__new__(_Stream), TrainConfig(output_dir=tmp_path / "c"))


class _Stream:
    source = "hub"


# ------------------------------ two processes


def train_half(folder: Path, compat: tuple[str, ...] = ()) -> None:
    """Train with the processes there are; each writes the parameters that it ends with."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    torch.manual_seed(0)
    encoder = load(str(folder / "llama"), **OPTIONS)
    both = [*rows(count=24), *rows("symmetric_class", "class", 24)]
    name = f"{'-'.join(compat) or 'right'}-{count}"
    # no examples: they are drawn among the rows of a process, so two have others to draw from than one
    made = config(folder / name, batch_size=8 // count, max_examples=0, compat=list(compat), optim="sgd",
                  learning_rate=0.02, special_tokens="trained", max_grad_norm=1e9)  # fmt: skip
    fit(encoder, RowList(both, "both"), made)
    trained = {n: p.detach().numpy() for n, p in encoder.embedder.named_parameters() if p.requires_grad}
    rank = torch.distributed.get_rank() if count > 1 else 0
    np.savez(folder / f"{name}-{rank}.npz", **trained)


@pytest.mark.slow
def test_two_processes_train_as_one(llama_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "llama").symlink_to(llama_folder)
    run_processes(train_half, tmp_path, folder=tmp_path, count=2)
    train_half(tmp_path)
    first, second, alone = (dict(np.load(tmp_path / f"right-{n}.npz")) for n in ("2-0", "2-1", "1-0"))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert max(float(np.abs(first[name] - alone[name]).max()) for name in first) < 1e-5
    assert any("trainable_tokens" in name for name in alone)
    moved = max(float(np.abs(value).max()) for name, value in alone.items() if "lora_B" in name)
    assert moved > 1e-3
    losses = [json.loads((tmp_path / f"right-{n}" / "training.json").read_text())["loss"] for n in (1, 2)]
    assert [x for _, x in losses[1]] == pytest.approx([x for _, x in losses[0]], abs=1e-3)
