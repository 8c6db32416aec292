"""encode() of pairs against the original's: families, attention, pooling modes, token ids."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from llm2vec import LLM2Vec

CASES = [
    (family, attention, mode)
    for family in ("llama", "mistral")
    for attention in ("bi", "uni")
    for mode in ("mean", "weighted_mean", "eos_token", "bos_token")
    if (family, attention) != ("mistral", "uni")
]


def face(golden, family, mode="mean", **options):
    folder = golden / f"tiny_{family}"
    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    settings = json.loads((golden / "encode.json").read_text())
    lengths = {name: settings[name] for name in ("max_length", "doc_max_length")}
    return LLM2Vec(model, AutoTokenizer.from_pretrained(folder), mode, **lengths, **options), settings["pairs"]


def test_every_array_is_compared(golden):
    names = {name for name in np.load(golden / "encode.npz").files if "/pairs" in name}
    assert names == {
        f"{family}/{attention}/{mode}/pairs{skip}"
        for family, attention, mode in CASES
        for skip in ("", *(["_skip0"] if mode in ("mean", "weighted_mean") else []))
    }


@pytest.mark.parametrize(("family", "attention", "mode"), CASES)
def test_pairs(golden, family, attention, mode):
    arrays = np.load(golden / "encode.npz")
    for skip, suffix in ((True, ""), (False, "_skip0")):
        if f"{family}/{attention}/{mode}/pairs{suffix}" not in arrays:
            continue
        model, pairs = face(golden, family, mode, skip_instruction=skip, enable_bidirectional=attention == "bi")
        got = model.encode(pairs, batch_size=2, show_progress_bar=False)
        expected = arrays[f"{family}/{attention}/{mode}/pairs{suffix}"]
        np.testing.assert_allclose(got.numpy(), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize(("mode", "name"), [("mean", "tokens"), ("last_token", "tokens"), ("eos_token", "tokens_eos")])
def test_token_ids_and_what_is_pooled(golden, mode, name):
    model, pairs = face(golden, "llama", mode)
    arrays = np.load(golden / "encode.npz")
    for key, got in model.tokenize(pairs).items():
        np.testing.assert_array_equal(got.numpy(), arrays[f"{name}/{key}"], key)


@pytest.mark.parametrize("compat", ["llm2vec:embed-mask", "llm2vec:word-truncation"])
def test_the_released_ways_agree_here(golden, compat):
    """Words are tokens in these models, so counting tokens and words, alone or in place, is the same."""
    model, pairs = face(golden, "llama")
    arrays = np.load(golden / "encode.npz")
    model.encoder.compat = frozenset({compat})
    for key, got in model.tokenize(pairs).items():
        np.testing.assert_array_equal(got.numpy(), arrays[f"tokens/{key}"], key)
