from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from angle.encoder import load
from common.encoder import Encoder
from common.errors import InputError
from common.lora import parameter_counts, prepare_for_training, training_attention

TEXTS = ["the cat sleeps", "le chat dort", "the dog"]


def prepared(folder: Path, apply_lora: bool | None = None, **changes: Any) -> Encoder:
    encoder = load(str(folder), dtype="float32")
    settings: dict[str, Any] = {"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": None, **changes}
    prepare_for_training(encoder, apply_lora=apply_lora, **settings)
    return encoder


def trainable(encoder: Encoder) -> set[str]:
    return {n for n, p in encoder.embedder.named_parameters() if p.requires_grad}


def test_an_llm_gets_lora_on_all_linear_layers_by_default(tiny_llama: Path) -> None:
    names = trainable(prepared(tiny_llama))
    assert names
    assert all("lora_" in n for n in names)
    for layer in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"):
        assert sum(layer in n for n in names) == 2 * 2  # A and B, two layers


def test_a_bert_is_trained_whole_by_default(tiny_bert: Path) -> None:
    encoder = prepared(tiny_bert)
    counted, total = parameter_counts(encoder.embedder)
    assert counted == total == sum(p.numel() for p in encoder.backbone.model.parameters())


def test_each_default_can_be_turned_round(tiny_bert: Path, tiny_llama: Path) -> None:
    assert all("lora_" in n for n in trainable(prepared(tiny_bert, True)))
    counted, total = parameter_counts(prepared(tiny_llama, False).embedder)
    assert counted == total


def test_a_fresh_adapter_changes_no_vector(tiny_llama: Path) -> None:
    before = load(str(tiny_llama), dtype="float32").encode(TEXTS, convert_to_tensor=True)
    after = prepared(tiny_llama).encode(TEXTS, convert_to_tensor=True)
    assert torch.allclose(before, after, atol=1e-6)


def test_target_modules(tiny_llama: Path) -> None:
    names = trainable(prepared(tiny_llama, target_modules=["q_proj"]))
    assert len(names) == 4
    assert all("q_proj" in n for n in names)
    with pytest.raises(InputError, match=r"--lora_target_modules: .*nothing_of_the_sort"):
        prepared(tiny_llama, target_modules=["nothing_of_the_sort"])


def test_a_trainable_adapter_is_gone_on_with(tiny_llama: Path, tmp_path: Path) -> None:
    first = prepared(tiny_llama)
    with torch.no_grad():
        for name, parameter in first.embedder.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.02)
    first.save_pretrained(tmp_path / "adapter")
    again = load(str(tiny_llama), adapter=str(tmp_path / "adapter"), trainable_adapter=True, dtype="float32")
    prepare_for_training(again, apply_lora=None, r=9, alpha=9, dropout=0.0, target_modules=None)
    assert trainable(again) == trainable(first)
    shapes = {p.shape[0] for n, p in again.embedder.named_parameters() if "lora_A" in n}
    assert shapes == {4}  # the adapter's own rank, not a new one of 9
    a, b = (e.encode(TEXTS, convert_to_tensor=True) for e in (first, again))
    assert torch.allclose(a, b, atol=1e-6)


def test_the_embedder_runs_the_adapted_trunk(tiny_llama: Path) -> None:
    encoder = prepared(tiny_llama)
    assert encoder.embedder.trunk is encoder.backbone.model


def test_cpus_train_with_plain_attention() -> None:
    assert training_attention("cpu") == "eager"
