"""Pooling against what the original computed, where it is right and, under its switch, where it is not."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from common.batching import pad
from common.embedder import Embedder
from common.pooling import POOL_EVERYTHING, pool
from llm2vec.encoder import load

EVERYTHING = frozenset({POOL_EVERYTHING})


def close(got, expected, atol):
    torch.testing.assert_close(got, torch.tensor(expected), rtol=0, atol=atol)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("mode", ["mean", "weighted_mean", "eos_token", "last_token", "bos_token"])
@pytest.mark.parametrize("skip_instruction", [0, 1])
def test_every_mode(golden, side, mode, skip_instruction):
    arrays = np.load(golden / "pooling.npz")
    hidden, mask, embed = (
        torch.tensor(arrays[f"{side}/{name}"]) for name in ("hidden", "attention_mask", "embed_mask")
    )
    kind = "correct" if skip_instruction and mode in ("mean", "weighted_mean") else "original"
    out = pool(hidden, mask, mode, pool_mask=embed if skip_instruction else None)
    if mode in ("eos_token", "last_token") and skip_instruction and side == "left":
        assert (embed[:3, -1] == 1).all()  # the pooled text ends the row, so both readings of "last" agree
    close(out, arrays[f"{mode}/{kind}_skip{skip_instruction}"], 2e-6)


def test_the_original_takes_the_mean_over_padding_where_no_token_is_to_be_pooled(golden):
    arrays = np.load(golden / "pooling.npz")
    hidden, mask, embed = (torch.tensor(arrays[f"left/{n}"]) for n in ("hidden", "attention_mask", "embed_mask"))
    empty = ~embed.any(dim=1)
    assert empty.tolist() == [False, False, False, True]
    original = torch.tensor(arrays["mean/original_skip1"])
    out = pool(hidden, mask, "mean", pool_mask=embed)
    close(out[~empty], original[~empty].numpy(), 2e-6)
    assert (out[empty] - original[empty]).abs().max() > 0.01
    close(pool(hidden, mask, "mean", pool_mask=embed, compat=EVERYTHING)[empty], original[empty].numpy(), 2e-6)


def test_simcse_training_pools_over_bos_and_padding_under_its_switch(golden):
    """`llm2vec:simcse-pool-all`, end to end: texts without separator, padded on the left."""
    arrays = np.load(golden / "simcse_noseparator.npz")
    assert not arrays["embed_mask"].any()
    encoder = load(str(golden / "tiny_llama"), device="cpu", dtype="float32", skip_instruction=False)
    texts = json.loads((golden / "simcse_texts.json").read_text())
    ids, mask = pad(encoder.tokenize(texts), encoder.backbone.tokenizer.pad_token_id, side="left")
    assert np.array_equal(ids.numpy(), arrays["input_ids"])
    assert np.array_equal(mask.numpy(), arrays["attention_mask"])
    assert np.abs(arrays["llama/mean_original"] - arrays["llama/mean_correct"]).max() > 0.1
    trunk = encoder.backbone.model
    with torch.no_grad():
        close(Embedder(trunk, "mean").train()(ids, mask), arrays["llama/mean_correct"], 2e-5)
        close(Embedder(trunk, "mean", EVERYTHING).train()(ids, mask), arrays["llama/mean_original"], 2e-5)
        # Texts are never pooled so when they are encoded, whatever the switch.
        close(Embedder(trunk, "mean", EVERYTHING).eval()(ids, mask), arrays["llama/mean_correct"], 2e-5)
    close(encoder.encode(texts, convert_to_tensor=True), arrays["llama/mean_correct"], 2e-5)
