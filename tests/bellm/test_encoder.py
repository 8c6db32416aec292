"""bellm/encoder.py: prompt, pooling, layers; saved and loaded with the layer they were made with."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from bellm.compat import COMPAT
from bellm.encoder import CHECKPOINTS, load
from bellm.prompts import PROMPT
from common import registry
from common.attention import get_attention
from common.checkpoints import known_model
from common.errors import InputError

REPO = Path(__file__).resolve().parents[2]
TEXTS = ["A man is playing the flute.", "Two dogs run through a field of tall grass.", "Rain."]


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch):
    monkeypatch.delenv("BiLLM_START_INDEX", raising=False)


def bellm(folder, **options):
    return load(str(folder), device="cpu", dtype="float32", **options)


def test_defaults_are_the_papers(llama_folder):
    info = bellm(llama_folder).info
    assert (info.template, info.pooling, info.attention) == (PROMPT, "last", "{'bidirectional_from': 2}")
    assert info.method == "bellm"
    assert PROMPT == 'The representative word for sentence {text} is:"'


def test_each_layer_index_gives_its_own_vectors(llama_folder):
    vectors = [bellm(llama_folder, bidirectional_from=k, pooling="mean").encode(TEXTS) for k in (0, 1, 2, 3)]
    for i, a in enumerate(vectors):
        for b in vectors[i + 1 :]:
            assert np.abs(a - b).max() > 1e-3
    causal = load(str(llama_folder), device="cpu", dtype="float32", bidirectional_from=-1, pooling="mean")
    np.testing.assert_array_equal(causal.encode(TEXTS), vectors[3])


def test_the_last_layer_alone_does_not_change_the_last_token(llama_folder):
    """The last token sees every other in a causal layer, too: as published, BeLLM is causal but for its padding.

    Other tokens do change, so another pooling, or an earlier layer, brings the method back.
    """
    causal = bellm(llama_folder, bidirectional_from=-1).encode(TEXTS)
    np.testing.assert_allclose(bellm(llama_folder).encode(TEXTS), causal, atol=1e-5)
    assert np.abs(bellm(llama_folder, bidirectional_from=1).encode(TEXTS) - causal).max() > 1e-3
    means = [bellm(llama_folder, bidirectional_from=k, pooling="mean").encode(TEXTS) for k in (-1, 2)]
    assert np.abs(means[0] - means[1]).max() > 1e-3


def test_a_released_adapter_brings_its_layer():
    for model, adapter in (
        ("SeanLee97/bellm-llama-7b-nli", None),
        ("NousResearch/Llama-2-7b-hf", "SeanLee97/bellm-llama-7b-nli"),
    ):
        known = known_model(CHECKPOINTS, model, adapter)
        assert known.base == "NousResearch/Llama-2-7b-hf"
        assert known.options == {"template": PROMPT, "pooling": "last", "attention": {"bidirectional_from": 31}}


@pytest.mark.parametrize("how", ["folder", "adapter"])
def test_a_saved_adapter_is_never_loaded_with_another_layer(how, llama_folder, lora_folders, tmp_path, monkeypatch):
    first = bellm(llama_folder, adapter=str(lora_folders["headed"]), bidirectional_from=1)
    want = first.encode(TEXTS)
    first.save_pretrained(tmp_path / "saved")

    def again(**options):
        if how == "folder":
            return registry.load("bellm", str(tmp_path / "saved"), device="cpu", dtype="float32", **options)
        return bellm(llama_folder, adapter=str(tmp_path / "saved"), **options)

    for encoder in (again(), again(bidirectional_from=1)):
        assert get_attention(encoder.backbone.model) == {"bidirectional_from": 1}
        np.testing.assert_array_equal(encoder.encode(TEXTS), want)
    with pytest.raises(InputError, match="were trained with"):
        again(bidirectional_from=2)
    if how == "adapter":
        monkeypatch.setenv("BiLLM_START_INDEX", "0")
        with pytest.raises(InputError, match="were trained with"):
            again()


def test_the_variable_counts_at_the_call(llama_folder, monkeypatch):
    monkeypatch.setenv("BiLLM_START_INDEX", "1")
    assert bellm(llama_folder).info.attention == "{'bidirectional_from': 1}"
    assert bellm(llama_folder, bidirectional_from=2).info.attention == "{'bidirectional_from': 2}"


def test_encoders_are_refused(bert_folder):
    with pytest.raises(InputError, match="BeLLM is for decoders"):
        load(str(bert_folder), device="cpu")


def test_batches_do_not_matter_unless_padding_is_attended(llama_folder):
    right = bellm(llama_folder)
    alone = np.stack([right.encode(t) for t in TEXTS])
    np.testing.assert_allclose(right.encode(TEXTS), alone, atol=1e-5)
    released = bellm(llama_folder, compat="bellm:unmask-padding")
    assert released.info.compat == ("bellm:unmask-padding",)
    together = released.encode(TEXTS)
    np.testing.assert_allclose(np.stack([released.encode(t) for t in TEXTS]), alone, atol=1e-5)
    assert np.abs(together - alone)[1:].max() > 1e-2  # the shorter ones are padded
    longest = max(range(3), key=lambda i: len(TEXTS[i]))
    np.testing.assert_allclose(together[longest], alone[longest], atol=1e-5)


def test_a_saved_quirk_comes_back(llama_folder, tmp_path):
    released = bellm(llama_folder, compat="bellm:unmask-padding")
    released.save_pretrained(tmp_path / "saved")
    again = registry.load("bellm", str(tmp_path / "saved"), device="cpu", dtype="float32")
    np.testing.assert_array_equal(again.encode(TEXTS), released.encode(TEXTS))


def test_every_quirk_in_the_code_is_described():
    named = set()
    for folder in ("common", "bellm", "benchmarks"):
        for file in (REPO / folder).rglob("*.py"):
            if file != REPO / "bellm" / "compat.py":
                named |= set(re.findall(r'"(bellm:[a-z-]+)"', file.read_text("utf-8")))
    assert named == set(COMPAT)
