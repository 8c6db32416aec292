"""What attention modes can't do is refused: caches, odd inputs, implementations and families."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attention_families import COMMON, LAYERS, SLIDING, WINDOW, padded, real_texts, tiny_model
from torch import Tensor, nn
from torch.nn.attention.flex_attention import flex_attention
from transformers import AutoConfig, AutoModel, DynamicCache, masking_utils
from transformers.integrations import flex_attention as flex
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from common.attention import AttentionError, check_attention, get_attention, restore_attention, set_attention
from common.errors import InputError

MODES: list[Any] = ["causal", "bidirectional", *({"bidirectional_from": k} for k in range(LAYERS + 1))]
FROM_LAST: Any = {"bidirectional_from": LAYERS - 1}


def first_bidirectional(mode: Any) -> int:
    return {"causal": LAYERS, "bidirectional": 0}[mode] if isinstance(mode, str) else mode["bidirectional_from"]


@pytest.mark.parametrize("mode", ["bidirectional", FROM_LAST], ids=str)
def test_the_cache_is_ignored_or_refused(mode: Any) -> None:
    ids, mask = padded(real_texts(), "left")
    model = tiny_model("llama", head=True)
    set_attention(model, mode)
    assert model(ids, mask).past_key_values is None
    assert model(ids, mask, use_cache=True).past_key_values is None
    with pytest.raises(InputError, match="past_key_values"):
        model(ids, mask, past_key_values=DynamicCache())
    with pytest.raises(InputError, match="past_key_values"):
        model.generate(ids, attention_mask=mask, max_new_tokens=2)
    set_attention(model, "causal")
    assert model(ids, mask).past_key_values is not None
    assert model.generate(ids, attention_mask=mask, max_new_tokens=2).shape == (4, 9)


def test_inputs_that_can_not_be_right_are_refused() -> None:
    model = tiny_model("llama")
    set_attention(model, FROM_LAST)
    ids, mask = padded(real_texts(), "left")
    with pytest.raises(InputError, match="2-D attention_mask"):
        model(ids, mask[:, None, None, :].bool().expand(-1, 1, 7, 7))
    with pytest.raises(InputError, match="several texts in one row"):
        model(ids[:1], position_ids=torch.tensor([[0, 1, 2, 0, 1, 2, 3]]))
    with pytest.raises(AttentionError, match="forward of its whole model"):
        model.layers[-1](torch.zeros(1, 2, 32))


def flash_like(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> Any:
    """What flash-attention does with its arguments, by sdpa: a 2-D mask, `is_causal`, and a window."""
    length = query.shape[2]
    distance = torch.arange(length)[:, None] - torch.arange(length)
    seen = torch.ones(1, 1, length, length, dtype=torch.bool)
    causal = kwargs["is_causal"] if kwargs.get("is_causal") is not None else module.is_causal
    if causal:
        seen = seen & (distance >= 0)
    if kwargs.get("sliding_window") is not None:
        seen = seen & (distance.abs() < kwargs["sliding_window"])
    if attention_mask is not None:
        assert attention_mask.ndim == 2
        seen = seen & attention_mask[:, None, None, :].bool()
    kwargs["is_causal"] = False
    kwargs.pop("sliding_window", None)
    return ALL_ATTENTION_FUNCTIONS["sdpa"](module, query, key, value, seen, **kwargs)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "gemma3_text", "opt", "phi3"])
def test_flash_attention_gets_the_right_arguments(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not flash-attention itself, which needs a GPU: a stand-in that reads the arguments as it does."""
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._local_mapping, "flash_attention_2", flash_like)
    model = tiny_model(family)
    for mode in MODES:
        model.config._attn_implementation = "sdpa"
        set_attention(model, mode)
        outputs = []
        # flash-attention counts the token itself in the window, in bidirectional layers too.
        for how, window in (
            ("sdpa", WINDOW),
            ("flash_attention_2", WINDOW + (first_bidirectional(mode) == 0)),
        ):
            model.config._attn_implementation = how
            if family in SLIDING and 0 < first_bidirectional(mode) < LAYERS:
                check_attention(model)  # windows of two sizes: no comparison
                continue
            if family in SLIDING:
                model.config.sliding_window = window
                for module in model.modules():
                    if getattr(module, "sliding_window", None):
                        module.sliding_window = window
            check_attention(model)
            for side in ("left", "right"):
                ids, mask = padded(real_texts(), side)
                with torch.no_grad():
                    outputs.append(model(ids, mask)[0][mask.bool()])
        for a, b in zip(outputs[: len(outputs) // 2], outputs[len(outputs) // 2 :]):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", ["bidirectional", FROM_LAST], ids=str)
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_flex_attention_agrees_with_eager(family: str, mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uncompiled, since compiling takes minutes on a CPU."""
    monkeypatch.setattr(flex, "WrappedFlexAttention", lambda training: lambda: flex_attention)
    compiled = masking_utils.create_block_mask
    monkeypatch.setattr(
        masking_utils, "create_block_mask", lambda **settings: compiled(**settings | {"_compile": False})
    )
    ids, mask = padded(real_texts()[1:], "left")
    outputs = []
    for how in ("eager", "flex_attention"):
        model = tiny_model(family, how)
        set_attention(model, mode)
        with torch.no_grad():
            outputs.append(model(ids, mask)[0][mask.bool()])
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=0)


def test_implementations_that_can_not_be_right_are_refused() -> None:
    model = tiny_model("mistral")
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(InputError, match='"drop" is not possible with flash_attention_2'):
        set_attention(model, "bidirectional", sliding_window="drop")
    model.config._attn_implementation = "paged|sdpa"
    with pytest.raises(InputError, match="paged"):
        set_attention(model, FROM_LAST)
    model.config._attn_implementation = "sdpa"
    set_attention(model, "bidirectional", sliding_window="drop")
    model.config._attn_implementation = "flash_attention_2"  # changed afterwards
    with pytest.raises(InputError, match="flash_attention_2"):
        model(torch.tensor([[5, 6]]))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "mamba": ({}, "mask utilities"),
    "falcon": ({}, "mask utilities"),
    "bloom": ({"n_layer": 2, "n_head": 4}, "mask utilities"),
    "stablelm": ({}, "is_causal"),
    "falcon_h1": ({"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8}, "layers of other kinds"),
}


@pytest.mark.parametrize("family", REFUSED)
def test_families_that_can_not_be_done_are_refused_by_name(family: str) -> None:
    changes, reason = REFUSED[family]
    model = tiny_model(family, "eager", **changes)
    for mode in ("bidirectional", FROM_LAST, {"bidirectional_from": 1}):
        with pytest.raises(InputError, match=reason) as error:
            set_attention(model, mode)
        assert family in str(error.value)
    set_attention(model, "causal")
    assert get_attention(model) == "causal"
    check_attention(model)


def test_the_text_part_of_a_multimodal_model_must_be_loaded_alone() -> None:
    text = {**COMMON, "head_dim": 8, "sliding_window": 3, "layer_types": ["sliding_attention"] * LAYERS}
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 28, "patch_size": 14}
    model = AutoModel.from_config(AutoConfig.for_model("gemma3", text_config=text, vision_config=vision)).eval()
    with pytest.raises(InputError, match=r"gemma3.*text part"):
        set_attention(model, "bidirectional")
    set_attention(model.language_model, "bidirectional")
    check_attention(model.language_model)


def test_other_things_are_refused_by_name() -> None:
    bart = AutoModel.from_config(
        AutoConfig.for_model("bart", vocab_size=50, d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16)
    )
    for call in (get_attention, check_attention, lambda model: set_attention(model, "bidirectional")):
        with pytest.raises(InputError, match="BartModel is an encoder-decoder"):
            call(bart)
        with pytest.raises(InputError, match="Linear is not a transformers model"):
            call(nn.Linear(2, 2))
    restore_attention(bart)

    def forward(self: Any, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> Any:
        return (self.embed_tokens(input_ids),)

    model = tiny_model("llama")
    model.__class__ = type("OwnLlama", (type(model),), {"forward": forward})
    with pytest.raises(InputError, match=r"OwnLlama.*mask utilities"):
        set_attention(model, "bidirectional")
