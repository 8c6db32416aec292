"""What a contrastive step starts from: base, merged adapters, and the one that goes on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.attention import get_attention
from common.encoder import Encoder
from common.errors import InputError
from llm2vec.encoder import load
from llm2vec.recipe import SimcseConfig, SupervisedConfig
from llm2vec.start import load_start, starting_point

TEXTS = ["The cat sat on the mat.", "Two men are playing chess in the park.", "rain"]


def config(**given: Any) -> SupervisedConfig:
    return SupervisedConfig(device="cpu", load_kbit=32, **given)


def trained(encoder: Encoder) -> Encoder:
    """A fresh adapter on top of what is there, moved away from zero."""
    from common.lora import prepare_for_training

    settings: dict[str, Any] = {"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": ["q_proj", "up_proj"]}
    prepare_for_training(encoder, apply_lora=True, **settings)
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in encoder.backbone.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    return encoder


@pytest.fixture(scope="module")
def simcse(llama_folder: Path, lora_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved SimCSE step: base, an MNTP adapter merged, one on top."""
    given = config(model_name_or_path=str(llama_folder), peft_model_name_or_path=[str(lora_folders["headed"])])
    folder = tmp_path_factory.mktemp("steps") / "simcse"
    trained(load_start(given)).save_pretrained(folder)
    return folder


def test_a_base_alone(llama_folder: Path) -> None:
    assert starting_point(config(model_name_or_path=str(llama_folder))) == (str(llama_folder), (), None)


def test_adapters_are_merged_in_order(llama_folder: Path, lora_folders: dict[str, Path]) -> None:
    stack = [str(lora_folders["headed"]), str(lora_folders["other"])]
    given = config(model_name_or_path=str(llama_folder), peft_model_name_or_path=stack)
    assert starting_point(given) == (str(llama_folder), tuple(stack), None)
    encoder = load_start(given)
    assert not any("lora" in name for name, _ in encoder.backbone.model.named_parameters())
    assert encoder.backbone.merged == tuple(stack)
    expected = load(str(llama_folder), adapter=stack, dtype="float32", device="cpu")
    np.testing.assert_allclose(encoder.encode(TEXTS), expected.encode(TEXTS), atol=1e-5)
    assert np.abs(encoder.encode(TEXTS) - load(str(llama_folder), dtype="float32").encode(TEXTS)).max() > 1e-2


def test_an_adapter_names_its_base(llama_folder: Path, lora_folders: dict[str, Path]) -> None:
    given = config(peft_model_name_or_path=[str(lora_folders["headed"])])
    assert starting_point(given) == (str(llama_folder), (str(lora_folders["headed"]),), None)


def test_a_saved_step_brings_base_and_adapters(llama_folder: Path, simcse: Path) -> None:
    below = str(simcse / "stacked" / "0")
    for named in ({"peft_model_name_or_path": [str(simcse)]}, {"model_name_or_path": str(simcse)}):
        assert starting_point(config(**named)) == (str(llama_folder), (below, str(simcse)), None)
    goes_on = starting_point(config(pretrained_lora_path=str(simcse)))
    assert goes_on == (str(llama_folder), (below,), str(simcse))


def test_an_adapter_is_never_merged_twice(llama_folder: Path, lora_folders: dict[str, Path], simcse: Path) -> None:
    """MNTP named beside a SimCSE step that has it below: its copy there is the same adapter."""
    mntp = str(lora_folders["headed"])
    given = config(model_name_or_path=str(llama_folder), peft_model_name_or_path=[mntp, str(simcse)])
    assert starting_point(given) == (str(llama_folder), (mntp, str(simcse)), None)


@pytest.mark.parametrize("kind", ["merged", "goes on"])
def test_a_step_starts_with_the_vectors_that_the_last_one_ended_with(simcse: Path, kind: str) -> None:
    before = Encoder.from_pretrained(simcse, dtype="float32", device="cpu")
    named: dict[str, Any] = {"peft_model_name_or_path": [str(simcse)]}
    encoder = load_start(config(**named if kind == "merged" else {"pretrained_lora_path": str(simcse)}))
    np.testing.assert_allclose(encoder.encode(TEXTS), before.encode(TEXTS), atol=1e-5)
    trainable = [name for name, p in encoder.backbone.model.named_parameters() if p.requires_grad and "lora_" in name]
    assert bool(trainable) is (kind == "goes on")


def test_a_folder_of_steps_can_be_moved(simcse: Path, tmp_path: Path) -> None:
    """The adapters below are kept inside; the base keeps its name."""
    before = Encoder.from_pretrained(simcse, dtype="float32", device="cpu").encode(TEXTS)
    moved = tmp_path / "elsewhere"
    shutil.copytree(simcse, moved)
    np.testing.assert_allclose(Encoder.from_pretrained(moved, dtype="float32").encode(TEXTS), before, atol=1e-6)
    supervised = trained(load_start(config(peft_model_name_or_path=[str(moved)])))
    supervised.save_pretrained(tmp_path / "supervised")
    expected = supervised.encode(TEXTS)
    assert np.abs(expected - before).max() > 1e-2
    shutil.rmtree(moved)
    again = Encoder.from_pretrained(tmp_path / "supervised", dtype="float32")
    np.testing.assert_allclose(again.encode(TEXTS), expected, atol=1e-5)
    assert len(again.backbone.adapters) == 3


def test_released_adapters_bring_theirs() -> None:
    mntp = "McGill-NLP/LLM2Vec-Mistral-7B-Instruct-v2-mntp"
    base = "mistralai/Mistral-7B-Instruct-v0.2"
    assert starting_point(config(model_name_or_path=mntp)) == (base, (mntp,), None)
    assert starting_point(config(model_name_or_path=base, peft_model_name_or_path=[mntp])) == (base, (mntp,), None)
    assert starting_point(config(model_name_or_path=mntp, peft_model_name_or_path=[mntp])) == (base, (mntp,), None)


def test_nothing_to_start_from_is_said() -> None:
    with pytest.raises(InputError, match="missing: --model_name_or_path"):
        starting_point(config())


def test_settings_reach_the_encoder(llama_folder: Path) -> None:
    given = SimcseConfig(
        model_name_or_path=str(llama_folder), device="cpu", load_kbit=32, pooling_mode="weighted_mean",
        bidirectional=False, chat_template="mistral", max_length=77,
    )  # fmt: skip
    encoder = load_start(given)
    assert get_attention(encoder.backbone.model) == "causal"
    assert encoder.pooling == "weighted_mean"
    assert encoder.max_length == 77
    assert "[INST]" in encoder.info.template
    assert encoder.backbone.config._attn_implementation == "eager"  # on CPUs (common.lora)
    encoder = load_start(SimcseConfig(model_name_or_path=str(llama_folder), device="cpu"))
    assert get_attention(encoder.backbone.model) == "bidirectional"
