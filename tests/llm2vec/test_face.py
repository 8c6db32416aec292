"""llm2vec.LLM2Vec: what users of the released package call, and what they get."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from core_texts import TEXTS, distance
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from common.errors import InputError
from llm2vec import LLM2Vec, load

SEPARATOR = "!@#$%^&*()"
SAID = "Find the topic:"
FP32 = {"torch_dtype": torch.float32, "device_map": "cpu"}


def in_memory(folder, **options):
    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    return LLM2Vec(model, AutoTokenizer.from_pretrained(folder), **options)


def quiet(model, sentences, **options):
    return model.encode(sentences, show_progress_bar=False, **options)


@pytest.fixture(scope="module")
def model(bos_llama_folder):
    return in_memory(bos_llama_folder)


# ------------------------------ encode


def test_texts_give_a_float32_tensor_on_the_cpu(model):
    vectors = quiet(model, TEXTS)
    assert isinstance(vectors, torch.Tensor)
    assert (vectors.shape, vectors.dtype, vectors.device.type) == ((len(TEXTS), 32), torch.float32, "cpu")
    assert not vectors.requires_grad
    assert not np.allclose(vectors.norm(dim=1), 1)
    assert torch.equal(quiet(model, TEXTS, convert_to_tensor=True), vectors)
    as_numpy = quiet(model, TEXTS, convert_to_numpy=True)
    assert isinstance(as_numpy, np.ndarray)
    assert np.array_equal(as_numpy, vectors.numpy())
    assert distance(quiet(model, TEXTS, batch_size=2, device="cpu"), vectors) < 1e-5
    assert isinstance(quiet(model, TEXTS, convert_to_numpy=True, convert_to_tensor=True), torch.Tensor)


def test_one_text_is_one_text_and_none_are_none(model):
    assert quiet(model, "w12").shape == (32,)
    assert distance(quiet(model, TEXTS[0]), quiet(model, TEXTS)[0]) < 1e-5
    assert quiet(model, []).shape == (0, 32)
    assert quiet(model, [], convert_to_numpy=True).dtype == np.float32


def test_pairs_texts_and_both_mixed(model, bos_llama_folder):
    encoder = load(str(bos_llama_folder), device="cpu", dtype="float32")
    plain, said = encoder.encode(TEXTS), encoder.encode(TEXTS, instruction=SAID)
    assert distance(plain, said) > 1e-3
    assert distance(quiet(model, [["", t] for t in TEXTS]), plain) < 1e-5
    assert distance(quiet(model, [[f" {SAID} ", t] for t in TEXTS]), said) < 1e-5
    mixed = [TEXTS[0], (SAID, TEXTS[1]), [SAID, TEXTS[0]], ["the place:", TEXTS[0]]]
    vectors = quiet(model, mixed)
    assert distance(vectors[:3], np.stack([plain[0], said[1], said[0]])) < 1e-5
    assert distance(vectors[3], encoder.encode(TEXTS[0], instruction="the place:")) < 1e-5


def test_a_text_is_never_split(model):
    """The released code splits at its separator, wherever it stands, and pools the second part alone."""
    text = f"the {SEPARATOR} cat"
    tokens = model.tokenize([text, [SAID, text]])
    decoded = [model.tokenizer.decode(ids[mask.bool()]) for ids, mask in zip(tokens["input_ids"], tokens["embed_mask"])]
    assert [d.strip() for d in decoded] == [text, text]
    assert distance(quiet(model, text), quiet(model, "cat")) > 1e-2


@pytest.mark.parametrize(
    ("sentences", "says"),
    [
        (None, "sentences: expected text, pairs or a list of them, got NoneType"),
        ({"text": "x"}, "got dict"),
        (["ok", None], r"sentences\[1\]: expected a text or an \[instruction, text\] pair, got None"),
        ([["a", "b", "c"]], r"sentences\[0\]"),
        ([["a", 3]], r"sentences\[0\]"),
        (["\ud800"], r"texts\[0\]: has a lone surrogate"),
    ],
)
def test_wrong_sentences_are_named(model, sentences, says):
    with pytest.raises(InputError, match=says):
        quiet(model, sentences)


def test_a_long_text_is_cut_to_doc_max_length(bos_llama_folder):
    model = in_memory(bos_llama_folder, max_length=40, doc_max_length=5)
    tokens = model.tokenize([[SAID, TEXTS[1]], TEXTS[1]])
    assert tokens["embed_mask"].sum(1).tolist() == [5, 5]
    assert tokens["attention_mask"].sum(1)[1] == 6
    with pytest.raises(InputError, match="max_length 3"):
        in_memory(bos_llama_folder, max_length=3).tokenize([[SAID, TEXTS[1]]])


# ------------------------------ the model inside


def test_it_makes_the_model_bidirectional(bos_llama_folder):
    model = in_memory(bos_llama_folder)
    assert model.config.is_causal is False
    ids = model.tokenize(["the cat sat on the mat", "the cat sat on the rain"])["input_ids"]
    with torch.no_grad():
        states = [model.model(row[None]).last_hidden_state[0, 0] for row in ids]
    assert (states[0] - states[1]).abs().max() > 1e-3  # the first token sees the last
    causal = in_memory(bos_llama_folder, enable_bidirectional=False)
    with torch.no_grad():
        states = [causal.model(row[None]).last_hidden_state[0, 0] for row in ids]
    assert torch.equal(*states)


def test_the_seed_stacks_peft_models(llama_folder, released):
    """Base with the MNTP adapter merged, the SimCSE one on top: the released README's block."""
    from peft import PeftModel

    mntp, simcse = released
    trunk = PeftModel.from_pretrained(AutoModel.from_pretrained(llama_folder, dtype=torch.float32), str(mntp))
    trunk = PeftModel.from_pretrained(trunk.merge_and_unload(), str(simcse))
    model = LLM2Vec(trunk, AutoTokenizer.from_pretrained(llama_folder))
    ours = LLM2Vec.from_pretrained(str(mntp), peft_model_name_or_path=str(simcse), **FP32)
    assert distance(quiet(model, TEXTS), quiet(ours, TEXTS)) < 1e-5
    merged = LLM2Vec.from_pretrained(str(mntp), str(simcse), merge_peft=True, **FP32)
    assert distance(quiet(model, TEXTS), quiet(merged, TEXTS)) < 1e-5
    assert not hasattr(merged.model, "peft_config")
    assert not hasattr(LLM2Vec.from_pretrained(str(mntp), **FP32).model, "peft_config")
    chain = LLM2Vec.from_pretrained(
        str(llama_folder), str(mntp), merge_peft=True, extra_model_name_or_path=str(simcse), **FP32
    )
    assert distance(quiet(model, TEXTS), quiet(chain, TEXTS)) < 1e-5
    alone = LLM2Vec.from_pretrained(str(llama_folder), str(simcse), **FP32)
    assert distance(quiet(model, TEXTS), quiet(alone, TEXTS)) > 1e-3


def test_from_pretrained_takes_the_released_arguments(llama_folder, bos_llama_folder):
    model = LLM2Vec.from_pretrained(
        str(bos_llama_folder), enable_bidirectional=False, pooling_mode="weighted_mean", max_length=50,
        doc_max_length=20, skip_instruction=False, torch_dtype="float32", device_map={"": "cpu"},
        attn_implementation="eager", trust_remote_code=True,
    )  # fmt: skip
    info = model.encoder.info
    assert (info.attention, info.pooling, info.pooled) == ("causal", "weighted_mean", "all")
    assert (info.max_length, info.max_text_length) == (50, 20)
    assert model.config._attn_implementation == "eager"
    assert not model.skip_instruction
    twin = in_memory(bos_llama_folder, enable_bidirectional=False, pooling_mode="weighted_mean", skip_instruction=False)
    assert distance(quiet(model, [TEXTS[0], "rain"]), quiet(twin, [TEXTS[0], "rain"])) < 1e-5
    with pytest.raises(InputError, match="no field 'colour'"):
        LLM2Vec.from_pretrained(str(llama_folder), colour="red")
    with pytest.raises(InputError, match="device_map: one device"):
        LLM2Vec.from_pretrained(str(llama_folder), device_map={"a": 0, "b": 1})
    with pytest.raises(InputError, match="give merge_peft=True"):
        LLM2Vec.from_pretrained(str(llama_folder), extra_model_name_or_path="x")


def test_a_model_with_a_head_or_none_at_all_is_refused(llama_folder, bert_folder):
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    with pytest.raises(InputError, match="LlamaForCausalLM has an LM head; load it with AutoModel"):
        LLM2Vec(AutoModelForCausalLM.from_pretrained(llama_folder), tokenizer)
    with pytest.raises(InputError, match="Linear is not a transformers model"):
        LLM2Vec(torch.nn.Linear(2, 2), tokenizer)
    with pytest.raises(InputError, match="LLM2Vec is for decoders"):
        in_memory(bert_folder)


def test_a_tokenizer_without_padding_pads_with_its_end(golden):
    tokenizer = AutoTokenizer.from_pretrained(golden / "tiny_llama")
    assert tokenizer.pad_token is None
    model = LLM2Vec(AutoModel.from_pretrained(golden / "tiny_llama", dtype=torch.float32), tokenizer)
    assert tokenizer.pad_token == "</s>"
    assert quiet(model, ["w1", "w1 w2 w3"]).isfinite().all()


def test_the_template_of_a_released_base_goes_by_its_hub_id(llama_folder):
    model = AutoModel.from_pretrained(llama_folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    assert LLM2Vec(model, tokenizer).encoder.info.template == "{instruction} {text}"
    model.config._name_or_path = "meta-llama/Llama-2-7b-chat-hf"
    assert LLM2Vec(model, tokenizer).encoder.info.template == "[INST] {instruction} {text} [/INST]"
    chosen = LLM2Vec(model, tokenizer, chat_template="llama-3").encoder.info.template
    assert chosen.startswith("<|start_header_id|>user")


def test_it_is_a_module(bos_llama_folder, caplog):
    model = in_memory(bos_llama_folder)
    assert not model.training
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in model.model.parameters())
    assert model.to("cpu") is model
    assert model.device.type == "cpu"
    if not torch.cuda.is_available():
        assert model.cuda() is model
        assert "no CUDA device here" in caplog.text


# ------------------------------ tokenize and forward


@pytest.mark.parametrize("skip_instruction", [True, False])
def test_forward_of_tokens_is_encode_with_a_graph(bos_llama_folder, skip_instruction):
    model = in_memory(bos_llama_folder, skip_instruction=skip_instruction)
    sentences = [[SAID, TEXTS[0]], TEXTS[1], ["a:", "rain"]]
    features = model.tokenize(sentences)
    assert set(features) == {"input_ids", "attention_mask", "embed_mask"}
    assert features["attention_mask"][:, -1].all()  # padded on the left
    assert torch.equal(features["attention_mask"], features["embed_mask"]) != skip_instruction
    vectors = model(features)
    assert distance(vectors.detach(), quiet(model, sentences)) < 1e-5
    vectors.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    del features["embed_mask"]
    everything = in_memory(bos_llama_folder, skip_instruction=False)
    assert distance(model(features).detach(), quiet(everything, sentences)) < 1e-5


# ------------------------------ saving


@pytest.mark.parametrize("merge", [False, True])
def test_saved_and_loaded_again(llama_folder, released, tmp_path, merge):
    first = LLM2Vec.from_pretrained(
        str(llama_folder), str(released[1]), pooling_mode="eos_token", max_length=60, doc_max_length=30,
        chat_template="qwen2", **FP32,
    )  # fmt: skip
    first.save(tmp_path / "saved", merge_before_save=merge)
    assert (tmp_path / "saved" / "model.safetensors").is_file() is merge
    written = json.loads((tmp_path / "saved" / "llm2vec_config.json").read_text())
    assert written == {"pooling_mode": "eos_token", "max_length": 60, "doc_max_length": 30, "skip_instruction": True}
    again = LLM2Vec.from_pretrained(str(tmp_path / "saved"), **FP32)
    assert again.encoder.templates == first.encoder.templates
    assert (again.encoder.max_length, again.encoder.max_text_length) == (60, 30)
    sentences = [[SAID, TEXTS[0]], TEXTS[1]]
    assert distance(quiet(again, sentences), quiet(first, sentences)) < 1e-5
    through = load(str(tmp_path / "saved"), device="cpu", dtype="float32")
    assert distance(through.encode(TEXTS), quiet(first, TEXTS)) < 1e-5
    assert again.save(tmp_path / "without", save_config=False) is None
    assert not (tmp_path / "without" / "llm2vec_config.json").exists()


def test_settings_of_the_released_package_are_read_from_a_local_folder(llama_folder, released):
    settings = {"pooling_mode": "weighted_mean", "max_length": 33, "doc_max_length": 22, "skip_instruction": False}
    file = released[1] / "llm2vec_config.json"
    file.write_text(json.dumps(settings))
    try:
        encoder = LLM2Vec.from_pretrained(str(llama_folder), str(released[1]), max_length=44, **FP32).encoder
    finally:
        file.unlink()
    assert (encoder.pooling, encoder.pooled) == ("weighted_mean", "all")
    assert (encoder.max_length, encoder.max_text_length) == (44, 22)  # what is given wins
