"""Every mode and layer against the arrays of the original encoders (tests/golden/inbedder/README.md)."""

from __future__ import annotations

import re

import numpy as np
import pytest

from common.batching import pad
from inbedder import InBedder
from inbedder.generation import left_padded
from inbedder.modes import CAUSAL, MASKED

CAUSAL_MODELS = ("llama", "llama_eos", "opt", "opt_eos")
LAYERS = range(4)
TOLERANCE = {"rtol": 0, "atol": 5e-5}
# An answer without a usable token: recorded as the state of its first token. Ours has a name for that.
AS_RELEASED = ("inbedder:g1-fallback",)


def prefixes(names) -> list[str]:
    return [v.removesuffix("_layer_") for v in names.values() if v != "re_encode"]


@pytest.mark.parametrize("name", ["llama", "opt", "roberta"])
def test_token_ids(name, face, inputs, arrays):
    encoder = face(name).encoder
    ids, mask = pad(encoder.tokenize(inputs["sentences"]), encoder.backbone.tokenizer.pad_token_id)
    if name != "roberta":
        ids, mask = left_padded(ids, mask)
    np.testing.assert_array_equal(ids.numpy(), arrays[f"{name}/input_ids"])
    np.testing.assert_array_equal(mask.numpy(), arrays[f"{name}/attention_mask"])


@pytest.mark.parametrize("name", CAUSAL_MODELS)
def test_modes_of_causal_models(name, face, inputs, arrays):
    model = face(name, compat=AS_RELEASED)
    for prefix in prefixes(CAUSAL):
        # What needs no answer does not depend on how answers end.
        key = name.removesuffix("_eos") if prefix in ("fst_gen", "avg_ppt") else name
        for layer in LAYERS:
            model.set_output_value(f"{prefix}_layer_{layer}")
            got = model.encode(inputs["sentences"])
            np.testing.assert_allclose(got, arrays[f"{key}/{prefix}"][layer], **TOLERANCE, err_msg=f"{prefix} {layer}")


@pytest.mark.parametrize("name", CAUSAL_MODELS)
def test_answers(name, face, inputs, arrays):
    model = face(name, "re_encode")
    got, texts = model.encode(inputs["sentences"], return_generations=True)
    np.testing.assert_array_equal(got, arrays[f"{name}/re_encode"])
    if name in ("llama", "opt"):
        np.testing.assert_array_equal(got, arrays[f"{name}/multiple_re_encode"])
    assert texts == inputs["generations"][name]
    answers = model.modes.run(inputs["sentences"], answers=True).answers
    padded = [[*answer, *[1] * (3 - len(answer))] for answer in answers]
    np.testing.assert_array_equal(padded, arrays[f"{name}/decoded_ids"])


@pytest.mark.parametrize("name", ["llama", "opt"])
def test_filter_words_normalised_and_truncated(name, face, inputs, arrays):
    model = face(name, compat=AS_RELEASED)
    for prefix in ("avg_gen", "last_gen", "avg_all", "re_encode"):
        model.set_output_value(prefix if prefix == "re_encode" else f"{prefix}_layer_3")
        got = model.encode(inputs["sentences"], filter_words=inputs["filter_words"])
        np.testing.assert_allclose(got, arrays[f"{name}/filter/{prefix}"], **TOLERANCE)
    model.set_output_value("fst_gen_layer_3")
    got = model.encode(inputs["sentences"], normalize_embeddings=True)
    np.testing.assert_allclose(got, arrays[f"{name}/normalized/fst_gen"], **TOLERANCE)
    short = face(name, compat=AS_RELEASED, max_input_length=inputs["max_input_length_trunc"])
    for prefix in prefixes(CAUSAL):
        short.set_output_value(f"{prefix}_layer_3")
        got, texts = short.encode(inputs["sentences"], return_generations=True)
        np.testing.assert_allclose(got, arrays[f"{name}/trunc/{prefix}"], **TOLERANCE)
        assert texts == inputs["generations"][f"{name}/trunc"]


@pytest.mark.parametrize("name", ["llama_eos", "opt_eos"])
def test_small_batches(name, face, inputs, arrays):
    model = face(name, "avg_gen_layer_3", compat=AS_RELEASED)
    got = model.encode(inputs["sentences"], batch_size=2)
    np.testing.assert_allclose(got, arrays[f"{name}/batch2/avg_gen"], **TOLERANCE)


def test_modes_of_the_masked_model(face, inputs, arrays):
    model = face("roberta")
    for prefix in prefixes(MASKED):
        for layer in LAYERS:
            model.set_output_value(f"{prefix}_layer_{layer}")
            got = model.encode(inputs["sentences"])
            want = arrays[f"roberta/{prefix}"][layer]
            np.testing.assert_allclose(got, want, **TOLERANCE, err_msg=f"{prefix} {layer}")
    one = face("roberta", mask_length=1)
    short = face("roberta", max_input_length=inputs["max_input_length_trunc"])
    for model, case in ((one, "mask1"), (short, "trunc")):
        for prefix in prefixes(MASKED):
            model.set_output_value(f"{prefix}_layer_3")
            got = model.encode(inputs["sentences"])
            np.testing.assert_allclose(got, arrays[f"roberta/{case}/{prefix}"], **TOLERANCE)


def test_answers_of_the_masked_model(face, inputs, arrays):
    model = face("roberta", "re_encode")
    got, texts = model.encode(inputs["sentences"], return_generations=True)
    np.testing.assert_array_equal(got, arrays["roberta/re_encode"])
    # The original reads at the padding, too; ours stops at the text's end, maybe within a character.
    for text, whole in zip(texts, inputs["generations"]["roberta"], strict=True):
        assert len(text) > 30
        assert whole.startswith(text.rstrip("\ufffd"))


def test_the_notebooks_convention(folders, inputs, arrays):
    model = InBedder(str(folders["roberta"]), device="cpu")
    got = model.encode(inputs["inputs"][:3], inputs["instruction"], 3)
    np.testing.assert_allclose(got.numpy(), arrays["roberta/usecase_notebook"], **TOLERANCE)
    encoder = next(iter(model._encoders.values()))
    ids, _ = pad(encoder.tokenize(inputs["inputs"][:3], instruction=inputs["instruction"]), 1)
    np.testing.assert_array_equal(ids.numpy(), arrays["roberta/usecase_input_ids"])


def test_every_array_is_compared(arrays):
    kinds = "|".join(prefixes(CAUSAL))
    compared = re.compile(
        r"(llama|opt|roberta)/(input_ids|attention_mask)"
        rf"|(llama|opt)(_eos)?/({kinds}|decoded_ids|re_encode)|(llama|opt)/multiple_re_encode"
        rf"|(llama|opt)/(filter|trunc)/({kinds}|re_encode)|(llama|opt)/normalized/fst_gen|(llama|opt)_eos/batch2/avg_gen"
        r"|roberta/((mask1|trunc)/)?(avg_gen|avg_ppt|avg_all)|roberta/(re_encode|usecase_input_ids|usecase_notebook)"
        r"|(llama|opt)_eos/lm_head_row_2"  # a part of the models' weights
    )
    assert not [name for name in arrays if not compared.fullmatch(name)]
