"""inbedder/face.py: the released encoders' names, arguments and return types."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import inbedder
from common.errors import InputError
from inbedder import CausalLMEncoder, MaskededLMEncoder, MaskedLMEncoder, load

PATTERN = "### Input:\n{input}\n\n### Instruction:\n{instruction}\n\n### Response:"
QUESTION = "What is the animal mentioned here?"
TEXTS = ["The cat sat on the mat.", "Two men are playing chess.", "x"]
PROMPTS = [PATTERN.replace("{input}", s).replace("{instruction}", QUESTION) for s in TEXTS]


@pytest.fixture
def causal(llama_folder) -> CausalLMEncoder:
    return CausalLMEncoder(str(llama_folder), device="cpu", max_new_tokens=3)


@pytest.fixture
def masked(golden) -> MaskedLMEncoder:
    return MaskedLMEncoder(str(golden / "tiny_roberta"), device="cpu", mask_length=3)


def test_both_spellings_and_nothing_else():
    assert MaskededLMEncoder is MaskedLMEncoder
    with pytest.raises(AttributeError, match="it has CausalLMEncoder"):
        _ = inbedder.CausalEncoder


def test_whole_prompts_give_the_vectors_of_text_and_instruction(causal, masked, llama_folder, golden):
    for model, folder in ((causal, llama_folder), (masked, golden / "tiny_roberta")):
        want = load(str(folder), device="cpu", dtype="float32").encode(TEXTS, instruction=QUESTION)
        np.testing.assert_allclose(model.encode(PROMPTS), want, atol=1e-5)


def test_shapes_and_types(causal, masked):
    for model in (causal, masked):
        vectors = model.encode(PROMPTS, batch_size=32, cache_dir=None)
        assert (vectors.shape, vectors.dtype, type(vectors)) == ((3, 32), np.float32, np.ndarray)
        assert model.encode(PROMPTS[0]).shape == (32,)
        assert model.encode([]).shape == (0, 32)
        for options in ({"convert_to_tensor": True}, {"convert_to_numpy": False}):
            tensor = model.encode(PROMPTS, **options)
            assert isinstance(tensor, torch.Tensor)
            np.testing.assert_array_equal(tensor.numpy(), vectors)
        unit = model.encode(PROMPTS, normalize_embeddings=True)
        np.testing.assert_allclose(unit, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), atol=1e-6)
        pair = model.encode(PROMPTS, return_generations=True)
        assert isinstance(pair, tuple)
        np.testing.assert_allclose(pair[0], vectors, atol=1e-5)
        assert [type(text) for text in pair[1]] == [str, str, str]
        assert model.encode([], return_generations=True)[1] == []


def test_generations_are_prompt_and_answer(causal):
    _, texts = causal.encode(PROMPTS, return_generations=True)
    answers = causal.modes.answers(PROMPTS)
    assert texts == [prompt + answer for prompt, answer in zip(PROMPTS, answers)]
    (text,) = causal.encode(PROMPTS[0], return_generations=True)[1]
    assert text == texts[0]


def test_output_values(causal, masked):
    assert causal.output_value == "fst_gen_layer_3"
    assert masked.output_value == "avg_gen_layer_3"
    last = causal.encode(PROMPTS)
    causal.set_output_value("fst_gen_layer_2")
    assert np.abs(causal.encode(PROMPTS) - last).max() > 1e-2
    assert causal.get_last_output_values()[3] == "fst_gen_layer_3"
    assert len(causal.get_all_output_values()) == 5 * 4 + 1
    assert len(masked.get_all_output_values()) == 3 * 4 + 1
    with pytest.raises(InputError, match="0 to 3"):
        causal.set_output_value("fst_gen_layer_32")
    assert causal.output_value == "fst_gen_layer_2"
    with pytest.raises(InputError, match="a masked model has"):
        masked.set_output_value("fst_gen_layer_3")


def test_a_long_prompt_keeps_its_end(causal):
    short = CausalLMEncoder(str(causal.encoder.backbone.source.path), device="cpu", max_input_length=20)
    ids = causal.tokenizer(PROMPTS[0])["input_ids"]
    assert short.encoder.tokenize(PROMPTS[:1]) == [ids[-20:]]
    assert causal.encoder.tokenize(PROMPTS[:1]) == [ids]


def test_queries_and_corpus(causal):
    texts = ["title text", "text"]
    want = causal.encode(texts)
    np.testing.assert_array_equal(causal.encode_queries(texts, batch_size=2), want)
    rows = [{"title": "title", "text": "text"}, {"text": "text"}]
    columns = {"title": ["title", ""], "text": ["text", "text"]}
    for corpus in (texts, rows, columns):
        np.testing.assert_array_equal(causal.encode_corpus(corpus, batch_size=2), want)
    assert causal.encode_corpus({"text": ["text"]}).shape == (1, 32)


def test_released_arguments(llama_folder, golden):
    model = CausalLMEncoder(
        model_name_or_path=str(llama_folder),
        tokenizer_path=str(llama_folder),
        output_value="avg_all_layer_1",
        max_input_length=100,
        dtype="bfloat16",
        cache_embeddings=False,
        last_layer_only=True,
        temperature=0.6,
        top_p=0.9,
        max_new_tokens=3,
        do_sample=True,
        num_beams=1,
        device="cpu",
    ).cuda()
    assert model.encode(PROMPTS).dtype == np.float32
    assert model.modes.decoding.temperature == 0.6
    assert model.model.dtype == torch.bfloat16
    assert model.to("cpu").device.type == "cpu"


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("causal", {"max_tokens": 3}, r"max_tokens is not known; did you mean max_new_tokens"),
        ("causal", {"num_beams": 4}, "num_beams 4"),
        ("causal", {"mask_length": 3}, "mask_length is not known"),
        ("masked", {"do_sample": True}, "do_sample is not known"),
        ("masked", {"mask_length": 0}, "mask_length 0"),
        ("causal", {"output_value": "fst_gen_layer_9"}, "layer 9"),
        ("other-causal", {}, "use MaskedLMEncoder"),
        ("other-masked", {}, "a decoder"),
    ],
)
def test_wrong_use(kind, options, words, llama_folder, golden):
    roberta = golden / "tiny_roberta"
    factory, folder = {
        "causal": (CausalLMEncoder, llama_folder),
        "masked": (MaskedLMEncoder, roberta),
        "other-causal": (CausalLMEncoder, roberta),
        "other-masked": (MaskedLMEncoder, llama_folder),
    }[kind]
    with pytest.raises(InputError, match=words):
        factory(str(folder), device="cpu", **options)


def test_a_cache_folder(causal, tmp_path):
    causal.set_output_value("avg_gen_layer_3")
    first = causal.encode(PROMPTS, return_generations=True, cache_dir=str(tmp_path / "cache"))
    runs = causal.encoder.usage.sequences
    second = causal.encode(PROMPTS, return_generations=True, cache_dir=str(tmp_path / "cache"))
    assert causal.encoder.usage.sequences == runs
    np.testing.assert_array_equal(first[0], second[0])
    assert first[1] == second[1]
    (settings,) = tmp_path.rglob("settings.json")
    assert json.loads(settings.read_text())["mode"] == {"name": "answer_mean", "layer": 3}
    other = causal.encode(PROMPTS[::-1], cache_dir=str(tmp_path / "cache"))
    np.testing.assert_allclose(other, first[0][::-1], atol=1e-5)
