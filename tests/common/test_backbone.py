"""Loading: adapters of both layouts, precision, device, quantisation; real weights where they are at hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from core_texts import PROMPT, TEXTS, distance
from safetensors.torch import load_file, save_file

from common import backbone as backbone_module
from common.attention import check_attention, get_attention
from common.backbone import has_native_bf16, is_causal_lm, load_backbone, pick_device, pick_dtype
from common.encoder import Encoder
from common.errors import InputError
from common.prompts import Template
from common.registry import load

Make = Callable[..., Encoder]
CPU = torch.device("cpu")


def with_adapter(make: Make, *adapters: Path, kind: str = "llama", **options: Any) -> Encoder:
    return make(kind, backbone={"adapter": [str(a) for a in adapters], **options}, pooling="last")


# ------------------------------ adapters


def test_both_key_layouts_give_the_same_vectors(make_encoder: Make, lora_folders: dict[str, Path]) -> None:
    headed, trunk = (load_file(lora_folders[n] / "adapter_model.safetensors") for n in ("headed", "trunk"))
    assert all(key.startswith("base_model.model.model.layers.") for key in headed)
    assert all(key.startswith("base_model.model.layers.") for key in trunk)
    vectors = [with_adapter(make_encoder, lora_folders[name]).encode(TEXTS) for name in ("headed", "trunk")]
    np.testing.assert_array_equal(*vectors)
    assert distance(vectors[0], make_encoder("llama", pooling="last").encode(TEXTS)) > 1e-2


@pytest.mark.parametrize("layout", ["headed", "trunk"])
def test_the_vectors_are_those_of_plain_peft(
    make_encoder: Make, llama_folder: Path, lora_folders: dict[str, Path], layout: str
) -> None:
    from peft import PeftModel
    from transformers import AutoModel, AutoModelForCausalLM

    factory: Any = AutoModelForCausalLM if layout == "headed" else AutoModel
    base = factory.from_pretrained(llama_folder, dtype=torch.float32)
    plain = PeftModel.from_pretrained(base, str(lora_folders[layout])).eval()
    encoder = with_adapter(make_encoder, lora_folders[layout])
    for text in TEXTS[:3]:
        batch = encoder.backbone.tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            output = plain(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                output_hidden_states=True,
            )
        assert distance(encoder.encode(text), output.hidden_states[-1][0, -1]) < 1e-5


def test_an_adapter_folder_as_the_model_brings_its_base(
    make_encoder: Make, lora_folders: dict[str, Path], llama_folder: Path
) -> None:
    encoder = make_encoder(lora_folders["headed"], pooling="last")
    expected = with_adapter(make_encoder, lora_folders["headed"])
    np.testing.assert_array_equal(encoder.encode(TEXTS), expected.encode(TEXTS))
    assert encoder.backbone.source.path == str(llama_folder)
    assert encoder.backbone.adapters == (str(lora_folders["headed"]),)


def test_stacking_merges_all_but_the_last(make_encoder: Make, lora_folders: dict[str, Path]) -> None:
    headed, other = lora_folders["headed"], lora_folders["other"]
    stacked = with_adapter(make_encoder, headed, other)
    merged = with_adapter(make_encoder, headed, other, merge_adapter=True)
    assert type(stacked.backbone.model).__name__.startswith("Peft")
    assert not any("lora_" in name for name, _ in merged.backbone.model.named_parameters())
    assert (stacked.backbone.merged, merged.backbone.merged) == ((str(headed),), (str(headed), str(other)))
    # Adapters of the same layers add up, whatever their order.
    swapped = with_adapter(make_encoder, other, headed)
    for encoder in (merged, swapped):
        assert distance(encoder.encode(TEXTS), stacked.encode(TEXTS)) < 1e-5
    assert distance(stacked.encode(TEXTS), with_adapter(make_encoder, other).encode(TEXTS)) > 1e-2


def test_only_a_trainable_adapter_is_trainable(make_encoder: Make, lora_folders: dict[str, Path]) -> None:
    def trainable(**options: Any) -> set[str]:
        encoder = with_adapter(make_encoder, lora_folders["other"], lora_folders["headed"], **options)
        assert not encoder.backbone.model.training
        return {n for n, p in encoder.backbone.model.named_parameters() if p.requires_grad}

    assert trainable() == set()
    names = trainable(trainable_adapter=True)
    assert names
    assert all("lora_" in name for name in names)


def changed(folder: Path, target: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> Path:
    shutil.copytree(folder, target)
    tensors = load_file(target / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, target / "adapter_model.safetensors")
    return target


def first(tensors: dict[str, torch.Tensor], part: str) -> str:
    return next(key for key in sorted(tensors) if part in key)


@pytest.mark.parametrize("layout", ["headed", "trunk"])
def test_an_adapter_with_a_missing_tensor_is_refused(
    make_encoder: Make, lora_folders: dict[str, Path], tmp_path: Path, layout: str
) -> None:
    folder = changed(lora_folders[layout], tmp_path / "a", lambda t: t.pop(first(t, "v_proj.lora_B")))
    with pytest.raises(InputError, match=r"no weights for 1 modules, first .*layers\.0\.self_attn\.v_proj\.lora_B"):
        with_adapter(make_encoder, folder)


def test_an_adapter_with_a_foreign_tensor_is_refused(
    make_encoder: Make, lora_folders: dict[str, Path], tmp_path: Path
) -> None:
    key = "base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight"
    folder = changed(lora_folders["headed"], tmp_path / "a", lambda t: t.update({key: torch.zeros(4, 32)}))
    with pytest.raises(InputError, match=r"tensor .*layers\.9.* does not fit the model LlamaModel"):
        with_adapter(make_encoder, folder)


def test_an_adapter_of_a_larger_model_is_refused(
    make_encoder: Make, lora_folders: dict[str, Path], tmp_path: Path
) -> None:
    def wider(tensors: dict[str, torch.Tensor]) -> None:
        tensors[first(tensors, "q_proj.lora_A")] = torch.zeros(4, 64)

    folder = changed(lora_folders["headed"], tmp_path / "a", wider)
    with pytest.raises(InputError, match=r"q_proj.lora_A.weight is \(4, 64\), the model LlamaModel takes \(4, 32\)"):
        with_adapter(make_encoder, folder)


def test_an_adapter_for_another_architecture_is_refused(make_encoder: Make, lora_folders: dict[str, Path]) -> None:
    with pytest.raises(InputError) as caught:
        with_adapter(make_encoder, lora_folders["headed"], kind="bert")
    assert str(lora_folders["headed"]) in str(caught.value)
    assert "does not fit BertModel" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_adapter_is_refused(make_encoder: Make, bert_folder: Path) -> None:
    with pytest.raises(InputError, match="can't be loaded") as caught:
        with_adapter(make_encoder, bert_folder)
    assert "\n" not in str(caught.value)


# ------------------------------ what is loaded


def test_what_kind_of_model_it_is(llama_folder: Path, bert_folder: Path) -> None:
    llama = load_backbone(str(llama_folder), dtype="float32", device="cpu")
    bert = load_backbone(str(bert_folder), dtype="float32", device="cpu")
    assert (llama.is_decoder, bert.is_decoder) == (True, False)
    assert type(llama.model).__name__ == "LlamaModel"  # without the head
    assert (llama.hidden_size, llama.device, llama.dtype) == (32, CPU, torch.float32)
    assert llama.source.title == "tiny-llama"
    assert not llama.config.use_cache
    assert is_causal_lm(llama.config)
    assert not is_causal_lm(bert.config)


def test_a_tokenizer_without_padding_gets_one(llama_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    shutil.copytree(llama_folder, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path / "model")
    loaded = load_backbone(str(tmp_path / "model"), dtype="float32", device="cpu")
    assert loaded.tokenizer.pad_token == "<|end|>"


def test_attention_is_checked_once_at_load(
    llama_folder: Path, bert_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []

    def note(model: torch.nn.Module) -> None:
        checked.append(type(model).__name__)
        check_attention(model)

    monkeypatch.setattr(backbone_module, "check_attention", note)
    load_backbone(str(llama_folder), dtype="float32", device="cpu")
    load_backbone(str(bert_folder), dtype="float32", device="cpu")
    load_backbone(str(llama_folder), dtype="float32", device="cpu", check=False)
    assert checked == ["LlamaModel"]


def test_configuration_overrides(llama_folder: Path) -> None:
    loaded = load_backbone(str(llama_folder), dtype="float32", device="cpu", attention_dropout=0.25)
    assert loaded.config.attention_dropout == 0.25
    with pytest.raises(InputError, match="no field 'atention_dropout'"):
        load_backbone(str(llama_folder), dtype="float32", device="cpu", atention_dropout=0.25)


def test_precision() -> None:
    assert pick_dtype("auto", CPU, False) is torch.float32
    assert pick_dtype("auto", CPU, True) is (torch.bfloat16 if has_native_bf16(CPU) else torch.float32)
    assert pick_dtype("bf16", CPU, False) is torch.bfloat16
    assert pick_dtype(torch.float16, CPU, True) is torch.float16
    assert not has_native_bf16(torch.device("mps"))
    with pytest.raises(InputError, match="dtype 'float8' is not one of auto, float32"):
        pick_dtype("float8", CPU, True)


def test_device() -> None:
    assert pick_device("cpu") == CPU
    assert pick_device(None) == pick_device("auto")
    with pytest.raises(InputError, match="device 'gpu'"):
        pick_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="'cuda:0': no CUDA device here"):
            pick_device("cuda:0")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_lower_precision_is_close_and_pooled_in_fp32(make_encoder: Make, dtype: str) -> None:
    low = make_encoder("llama", backbone={"dtype": dtype})
    assert low.info.dtype == dtype
    vectors, exact = low.encode(TEXTS), make_encoder("llama").encode(TEXTS)
    assert vectors.dtype == np.float32
    assert low.similarity_pairwise(vectors, exact).min() > 0.99
    rounded = torch.from_numpy(vectors).to(getattr(torch, dtype)).float().numpy()
    assert (rounded != vectors).any()  # the mean was not taken in half precision


@pytest.mark.slow
@pytest.mark.parametrize("quantize", ["8bit", "4bit"])
def test_quantised_on_the_cpu(make_encoder: Make, wide_llama: Path, quantize: str) -> None:
    pytest.importorskip("bitsandbytes")
    encoder = make_encoder(wide_llama, backbone={"quantize": quantize})
    exact = make_encoder(wide_llama)
    assert encoder.info.quantize == quantize
    kinds = {type(module).__name__ for module in encoder.backbone.model.modules()}
    assert ("Linear8bitLt" if quantize == "8bit" else "Linear4bit") in kinds
    cosine = encoder.similarity_pairwise(encoder.encode(TEXTS), exact.encode(TEXTS))
    assert cosine.min() > (0.95 if quantize == "8bit" else 0.6)  # random weights have no room for 4 bits
    assert cosine.min() < 1 - 1e-6


def test_an_unknown_quantisation_is_refused(make_encoder: Make) -> None:
    with pytest.raises(InputError, match="quantize '2bit' is not one of 8bit, 4bit"):
        make_encoder("llama", backbone={"quantize": "2bit"})


# ------------------------------ real weights


@pytest.mark.weights
def test_smollm2(weights: tuple[str, str]) -> None:
    options: dict[str, Any] = {"template": Template(PROMPT).pattern, "device": "cpu"}
    exact = load("angle", weights[0], dtype="float32", **options)
    assert exact.info.title == "SmolLM2-135M-Instruct, dequantised from Q4_1"
    assert (exact.info.model, exact.dim, exact.info.attention) == ("smollm2-135m", 576, "causal")
    check_attention(exact.backbone.model)
    assert get_attention(exact.backbone.model) == "causal"
    pairs = ["A man is playing a guitar.", "Someone plays the guitar.", "The stock market fell sharply."]
    vectors = exact.encode(pairs)
    assert np.isfinite(vectors).all()
    near, far = exact.similarity(vectors[:1], vectors[1:])[0].tolist()
    assert near > far  # it knows English, zero-shot
    low = load("angle", weights[0], dtype="bfloat16", **options)
    assert low.info.dtype == "bfloat16"
    assert low.similarity_pairwise(low.encode(TEXTS), exact.encode(TEXTS)).min() > 0.99
