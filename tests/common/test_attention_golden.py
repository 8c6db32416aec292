"""Hidden states against those recorded from BeLLM's and LLM2Vec's code, at the tolerances given with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModel, AutoModelForCausalLM

from common.attention import Mode, check_attention, set_attention

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
BELLM_LAST, BELLM_INNER, LLM2VEC = 5e-5, 1e-4, 2e-5
LAYERS = {"llama": 4, "mistral": 3}


def arrays(folder: Path) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in np.load(folder / "hidden.npz").items()}


def load(folder: Path, family: str, how: str, factory: Any = AutoModel) -> Any:
    return factory.from_pretrained(folder / f"tiny_{family}", dtype=torch.float32, attn_implementation=how).eval()


def mode_of(start: int) -> Mode:
    """billm's start index: -1 switches bidirectional layers off."""
    return "causal" if start < 0 else {"bidirectional_from": start}


def states(model: Any, ids: Tensor, mask: Tensor, layout: Tensor) -> Tensor:
    """All hidden states (L + 1, B, T, D), the real tokens moved to right padding, zeros elsewhere."""
    with torch.no_grad():
        hidden = torch.stack(model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states)
    result = torch.zeros_like(hidden)
    result[:, layout.bool()] = hidden[:, mask.bool()]
    return result


@pytest.mark.parametrize("how", ["eager", "sdpa"])
@pytest.mark.parametrize(
    ("family", "start"), [(family, start) for family, n in LAYERS.items() for start in range(-1, n + 1)]
)
def test_bellm_from_every_layer(family: str, start: int, how: str) -> None:
    folder = GOLDEN / "bellm"
    golden = arrays(folder)
    model = load(folder, family, how)
    set_attention(model, mode_of(start))
    check_attention(model)
    key, right = f"{family}/start{start}", golden["right/attention_mask"]
    inner = golden.get(f"{key}/hidden_correct")
    last = golden[f"{key}/last_hidden_correct"] if inner is None else inner[-1]
    for side in ("right", "left"):
        ids, mask = golden[f"{side}/input_ids"], golden[f"{side}/attention_mask"]
        got = states(model, ids, mask, right)
        torch.testing.assert_close(got[-1][right.bool()], last[right.bool()], atol=BELLM_LAST, rtol=0)
        if inner is not None:
            torch.testing.assert_close(got[:, right.bool()], inner[:, right.bool()], atol=BELLM_INNER, rtol=0)
        original = golden.get(f"{key}/{side}/last_hidden_original")
        if original is None:
            original = golden[f"{key}/{side}/hidden_original"][-1]
        difference = (got[-1][right.bool()] - original[mask.bool()]).abs().max()
        assert (difference > 0.1) == (0 <= start < LAYERS[family])  # the original attends to padding
    expected = [0 <= start <= layer for layer in range(LAYERS[family])]
    assert golden[f"{key}/bidirectional_layers"].tolist() == expected
    for row in range(len(right)):  # each text alone, without a mask
        length = int(right[row].sum())
        with torch.no_grad():
            alone = model(golden["right/input_ids"][row : row + 1, :length])[0][0]
        torch.testing.assert_close(alone, last[row, :length], atol=BELLM_LAST, rtol=0)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    ("family", "start"), [(family, start) for family, n in LAYERS.items() for start in range(-1, n + 1)]
)
def test_bellm_as_released_attends_to_padding(family: str, start: int, side: str) -> None:
    """`bellm:unmask-padding`: bidirectional layers see padding keys, and a vector depends on its batch."""
    golden = arrays(GOLDEN / "bellm")
    model = load(GOLDEN / "bellm", family, "eager")
    set_attention(model, mode_of(start), attend_padding=True)
    ids, mask = golden[f"{side}/input_ids"], golden[f"{side}/attention_mask"]
    with torch.no_grad():
        got = model(input_ids=ids, attention_mask=mask)[0]
    key = f"{family}/start{start}/{side}"
    original = golden.get(f"{key}/last_hidden_original")
    if original is None:
        original = golden[f"{key}/hidden_original"][-1]
    real = mask.bool()
    torch.testing.assert_close(got[real], original[real], atol=BELLM_LAST, rtol=0)
    set_attention(model, mode_of(start))
    check_attention(model)


def test_bellm_logits() -> None:
    golden = arrays(GOLDEN / "bellm")
    model = load(GOLDEN / "bellm", "llama", "sdpa", AutoModelForCausalLM)
    set_attention(model, {"bidirectional_from": 3})
    ids, mask = golden["right/input_ids"], golden["right/attention_mask"]
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask).logits
    expected = golden["llama/start3/logits_correct"][mask.bool()]
    torch.testing.assert_close(logits[mask.bool()], expected, atol=BELLM_LAST, rtol=0)


@pytest.mark.parametrize("how", ["eager", "sdpa"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", ["llama", "mistral", "gemma", "qwen2"])
def test_llm2vec_bidirectional(family: str, side: str, how: str) -> None:
    folder = GOLDEN / "llm2vec"
    golden = arrays(folder)
    model = load(folder, family, how)
    ids, mask = golden[f"{side}/input_ids"], golden[f"{side}/attention_mask"]
    real = mask.bool()

    def compare(name: str) -> None:
        expected = golden[name]
        recorded = golden[f"{name.split('/')[1]}/attention_mask"]
        got = states(model, ids, mask, recorded)[:, recorded.bool()]
        got = got if expected.ndim == 4 else got[-1]
        torch.testing.assert_close(got, expected[..., recorded.bool(), :], atol=LLM2VEC, rtol=0)

    causal = states(model, ids, mask, mask)[-1][real]
    if f"{family}/{side}/causal" in golden:
        compare(f"{family}/{side}/causal")
    set_attention(model, "bidirectional")
    check_attention(model)
    # The original's Qwen2 stays causal; its README gives the right states under another name.
    compare("qwen2/left/bi_correct" if family == "qwen2" else f"{family}/{side}/bi_original")
    if (family, side) == ("llama", "left"):
        compare("llama/left/bi_all_layers")
    if (family, side) == ("qwen2", "left"):
        torch.testing.assert_close(causal, golden["qwen2/left/bi_original"][real], atol=LLM2VEC, rtol=0)


@pytest.mark.parametrize("how", ["eager", "sdpa"])
def test_llm2vec_sliding_window(how: str) -> None:
    """The original drops the window. Kept, it is transformers' |i - j| <= W; the recorded variant has < W."""
    folder = GOLDEN / "llm2vec"
    golden = arrays(folder)
    window = int(golden["mistral_sw/sliding_window"])
    ids, mask = golden["left/input_ids"], golden["left/attention_mask"]
    dropped = load(folder, "mistral", how)
    dropped.config.sliding_window = window
    set_attention(dropped, "bidirectional", sliding_window="drop")
    kept = load(folder, "mistral", how)
    kept.config.sliding_window = window - 1
    set_attention(kept, "bidirectional")
    for model, name in ((dropped, "bi_original"), (kept, "window_variant")):
        check_attention(model)
        got = states(model, ids, mask, mask)[-1][mask.bool()]
        torch.testing.assert_close(got, golden[f"mistral_sw/left/{name}"][mask.bool()], atol=LLM2VEC, rtol=0)
