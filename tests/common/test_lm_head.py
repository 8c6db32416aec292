"""The head beside the trunk gives the logits of the causal model, tied or not, in every family; or says why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from common.backbone import load_backbone
from common.errors import InputError
from common.lm_head import load_lm_head

SIZE: dict[str, Any] = {
    "vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "head_dim": 8,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": False},
    "qwen2": {"tie_word_embeddings": True},
    "gemma2": {"final_logit_softcapping": 0.5, "tie_word_embeddings": True},
    "granite": {"logits_scaling": 3.0, "tie_word_embeddings": False},
    "cohere": {"logit_scale": 0.25, "tie_word_embeddings": True},
    "phi": {"tie_word_embeddings": False},  # its head has a bias
}


def save(family: str, folder: Path, llama_folder: Path, **changes: Any) -> Path:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **{**SIZE, **FAMILIES[family], **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(llama_folder).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_the_causal_model(family: str, llama_folder: Path, tmp_path: Path) -> None:
    folder = save(family, tmp_path, llama_folder)
    backbone = load_backbone(str(folder), dtype="float32", device="cpu", check=False)
    head = load_lm_head(backbone)
    ids = torch.arange(3, 15)[None]
    with torch.no_grad():
        expected = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(ids).logits[0]
        states = backbone.model(input_ids=ids).last_hidden_state[0]
        found = head(states, backbone.model)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)
    assert (head.linear is None) == FAMILIES[family]["tie_word_embeddings"]
    assert not any(parameter.requires_grad for parameter in head.parameters())


def test_a_head_has_the_precision_of_its_trunk(llama_folder: Path, tmp_path: Path) -> None:
    folder = save("phi", tmp_path, llama_folder)
    backbone = load_backbone(str(folder), dtype="bfloat16", device="cpu", check=False)
    head = load_lm_head(backbone)
    assert {parameter.dtype for parameter in head.parameters()} == {torch.bfloat16}
    states = torch.randn(3, 32, dtype=torch.bfloat16)
    assert head(states, backbone.model).dtype == torch.float32


def test_weights_without_a_head_are_refused(llama_folder: Path, tmp_path: Path) -> None:
    """transformers would make a random one up, with a warning."""
    folder = save("llama", tmp_path / "whole", llama_folder)
    backbone = load_backbone(str(folder), dtype="float32", device="cpu")
    backbone.model.save_pretrained(tmp_path / "trunk")  # type: ignore[operator]
    backbone.tokenizer.save_pretrained(tmp_path / "trunk")
    trunk = load_backbone(str(tmp_path / "trunk"), dtype="float32", device="cpu")
    with pytest.raises(InputError, match="its weights hold no language-model head; give the original causal model"):
        load_lm_head(trunk)


def test_an_encoder_has_no_head(bert_folder: Path) -> None:
    with pytest.raises(InputError, match="tiny-bert is no causal language model"):
        load_lm_head(load_backbone(str(bert_folder), device="cpu"))
