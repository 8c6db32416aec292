"""check_attention finds every way of attending wrongly that we know, and nothing where all is right."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from attention_families import LAYERS, padded, real_texts, tiny_model
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, BitsAndBytesConfig
from transformers.masking_utils import create_bidirectional_mask

from common.attention import AttentionError, check_attention, set_attention
from common.errors import InputError

LAST: Any = {"bidirectional_from": LAYERS - 1}
MODES: list[Any] = ["causal", "bidirectional", LAST]


def hook_layers(model: Any, layers: slice, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change the keyword arguments of some layers, after our own hooks."""
    for layer in model.layers[layers]:
        layer.register_forward_pre_hook(lambda _, args, kwargs: (args, kwargs | change(kwargs)), with_kwargs=True)


def folk_recipe(model: Any, layers: slice = slice(None)) -> None:
    for layer in model.layers[layers]:
        layer.self_attn.is_causal = False


def blind_to_padding(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {"attention_mask": None, "is_causal": False}


def break_folk_causal(model: Any) -> None:
    """The folk recipe on a model that says it is causal."""
    folk_recipe(model)


def break_folk_from_last(model: Any) -> None:
    """The folk recipe instead of hooks: right without padding, causal with it."""
    model.config.bidirectional_from = LAYERS - 1
    folk_recipe(model, slice(LAYERS - 1, None))


def break_folk_full(model: Any) -> None:
    """Every layer by the folk recipe, recorded as bidirectional from layer 1."""
    model.config.bidirectional_from = 1
    folk_recipe(model)


def break_padding_attended(model: Any) -> None:
    """BeLLM's released code: bidirectional layers attend to padding."""
    set_attention(model, LAST)
    hook_layers(model, slice(LAYERS - 1, None), blind_to_padding)


def break_padding_attended_full(model: Any) -> None:
    set_attention(model, "bidirectional")
    hook_layers(model, slice(0, 1), blind_to_padding)


def break_one_layer_late(model: Any) -> None:
    """An index that is off by one."""
    set_attention(model, {"bidirectional_from": 2})
    model.config.bidirectional_from = 1


def break_one_layer_early(model: Any) -> None:
    set_attention(model, {"bidirectional_from": 1})
    model.config.bidirectional_from = 2


def break_unpadded_causal(model: Any) -> None:
    """billm's Mistral and Qwen2: causal wherever a batch has no padding."""
    set_attention(model, LAST)
    hook_layers(model, slice(None), lambda kwargs: {"is_causal": True})


def break_mask_of_ones(model: Any) -> None:
    """Bidirectional without a mask and with padding, but not with a mask that is all ones."""
    set_attention(model, "bidirectional")

    def causal_if_all_ones(_: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        mask = kwargs.get("attention_mask")
        return args, kwargs | ({"is_causal": True} if mask is not None and mask.all() else {})

    model.register_forward_pre_hook(causal_if_all_ones, with_kwargs=True)


def break_lost_keys(model: Any) -> None:
    """A mask that also hides the first real token of padded batches from all."""
    set_attention(model, "bidirectional")

    def hide(kwargs: dict[str, Any]) -> dict[str, Any]:
        mask = kwargs["attention_mask"]
        if mask is None:
            return {}
        first = mask.int().argmax(-1, keepdim=True)
        return {"attention_mask": mask.scatter(-1, first, False)}

    hook_layers(model, slice(0, 1), hide)


def break_mask_of_another_batch(model: Any) -> None:
    """A mask that is kept from the first forward pass and never built again."""
    kept: dict[str, Any] = {}

    def first_mask(_: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        if kwargs.get("attention_mask") is not None and "mask" not in kept:
            hidden = torch.zeros(*kwargs["attention_mask"].shape, 1)
            kept["mask"] = create_bidirectional_mask(model.config, hidden, kwargs["attention_mask"])

    set_attention(model, LAST)
    model.register_forward_pre_hook(first_mask, with_kwargs=True)
    hook_layers(model, slice(LAYERS - 1, None), lambda kwargs: {"attention_mask": kept.get("mask")})


BREAKS: dict[Callable[[Any], None], tuple[str, str]] = {
    break_folk_causal: ("causal", "lets a token see later"),
    break_folk_from_last: ("bidirectional_from", "padded on the right, layer 2 hides"),
    break_folk_full: ("bidirectional_from", "layer 0 lets a token see later"),
    break_padding_attended: ("bidirectional_from", "attend to padding"),
    break_padding_attended_full: ("bidirectional", "attend to padding"),
    break_one_layer_late: ("bidirectional_from", "layer 1 hides later"),
    break_one_layer_early: ("bidirectional_from", "layer 1 lets a token see later"),
    break_unpadded_causal: ("bidirectional_from", "without padding, layer 2 hides"),
    break_mask_of_ones: ("bidirectional", "mask of ones"),
    break_lost_keys: ("bidirectional", "not those that it has alone"),
    break_mask_of_another_batch: ("bidirectional_from", "attend to padding|not those"),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.__name__)
def test_broken_attention_is_found(broken: Callable[[Any], None], dtype: torch.dtype) -> None:
    mode, message = BREAKS[broken]
    model = tiny_model("llama", "sdpa", dtype=dtype)
    check_attention(model)
    broken(model)
    with pytest.raises(AttentionError, match=message) as error:
        check_attention(model)
    assert "LlamaModel (model_type 'llama') with sdpa" in str(error.value)
    assert mode in str(error.value)
    assert "\n" not in str(error.value)


def test_the_folk_recipe_is_causal_again_with_padding() -> None:
    """Why it is wrong, shown on the states themselves."""
    model = tiny_model("llama")
    folk_recipe(model)
    text, other = [5, 6, 7], [5, 6, 90]
    with torch.no_grad():
        assert (model(torch.tensor([text]))[0] != model(torch.tensor([other]))[0])[0, 0].any()
        ids, mask = padded([text, real_texts()[0]], "right")
        changed, _ = padded([other, real_texts()[0]], "right")
        assert torch.equal(model(ids, mask)[0][0, 0], model(changed, mask)[0][0, 0])


def test_one_layer_and_tiny_windows() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        for mode in MODES[:2]:
            model = tiny_model("llama", "eager", dtype=dtype, num_hidden_layers=1)
            set_attention(model, mode)
            check_attention(model)
    for window in (1, 2):
        model = tiny_model("mistral", sliding_window=window)
        for mode in [*MODES, {"bidirectional_from": 1}]:
            set_attention(model, mode)
            check_attention(model)


def test_a_window_that_is_recorded_as_dropped_needs_its_hooks(tmp_path: Path) -> None:
    model = tiny_model("mistral")
    set_attention(model, "bidirectional", sliding_window="drop")
    model.save_pretrained(tmp_path)
    with pytest.raises(AttentionError, match="restore_attention"):
        check_attention(AutoModel.from_pretrained(tmp_path))


def test_experts_batch_tokens_together_and_that_is_no_leak() -> None:
    """Their matrices have as many rows as tokens chose them, so the last bits depend on the whole batch."""

    def jitter(_: nn.Module, __: object, output: Tensor) -> Tensor:
        output = output.clone()
        output[0] *= 1 + 1e-6 * torch.sin(1e3 * output.sum())
        return output

    for family in ("mixtral", "llama"):
        model = tiny_model(family)
        model.layers[0].register_forward_hook(jitter)
        for mode in MODES:
            set_attention(model, mode)
            if family == "mixtral":
                check_attention(model)
        if family == "llama":
            with pytest.raises(AttentionError):
                check_attention(model)
    model = tiny_model("mixtral", dtype=torch.bfloat16)
    check_attention(model)
    set_attention(model.float(), LAST)
    hook_layers(model, slice(LAYERS - 1, None), blind_to_padding)
    with pytest.raises(AttentionError, match="attend to padding"):
        check_attention(model)


def test_it_leaves_the_model_as_it_was() -> None:
    model = tiny_model("llama", attention_dropout=0.5).train()
    model.layers[0].eval()
    set_attention(model, LAST)
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    check_attention(model)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_hooks for module in model.modules())
    assert all(p.grad is None for p in model.parameters())
    model.config.bidirectional_from = 1
    with pytest.raises(AttentionError):
        check_attention(model)
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks for module in model.modules())


def test_learned_positions_are_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    model = tiny_model("gpt2", n_embd=32, n_layer=3, n_head=4)
    for mode in MODES:
        set_attention(model, mode)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            check_attention(model)
        assert "GPT2Model" in caplog.text
        assert "position_ids" in caplog.text
    caplog.clear()
    check_attention(model, sides=("right",))
    assert not caplog.text


def test_states_that_are_not_finite_are_an_error() -> None:
    model = tiny_model("llama")
    model.layers[1].mlp.down_proj.weight.data[:] = torch.inf
    with pytest.raises(AttentionError, match="not finite"):
        check_attention(model)


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert"])
def test_encoders_are_bidirectional_and_stay_so(family: str) -> None:
    model = tiny_model(family, num_key_value_heads=4, cls_token_id=1, sep_token_id=2)
    before = model.config.to_dict()
    set_attention(model, "bidirectional")
    set_attention(model, {"bidirectional_from": 0})
    assert model.config.to_dict() == before
    check_attention(model)
    for mode in ("causal", {"bidirectional_from": 1}):
        with pytest.raises(InputError, match=f"{family}.*encoder"):
            set_attention(model, mode)


@pytest.mark.parametrize("bits", [4, 8])
def test_quantised_models(bits: int, tmp_path: Path) -> None:
    """8-bit layers share their outlier columns over a batch, which must not look like attention."""
    pytest.importorskip("bitsandbytes")
    tiny_model("llama", hidden_size=64, intermediate_size=128).save_pretrained(tmp_path)
    settings = {"load_in_4bit": True} if bits == 4 else {"load_in_8bit": True, "llm_int8_threshold": 2.5}
    model = AutoModel.from_pretrained(
        tmp_path, quantization_config=BitsAndBytesConfig(**settings), dtype=torch.bfloat16, device_map="cpu"
    )
    ids, mask = padded(real_texts(), "left")
    with torch.no_grad():
        before = model(ids, mask)[0]
        seen = set()
        linear = model.layers[0].mlp.up_proj
        linear.register_forward_pre_hook(lambda *_: seen.add(linear.state.threshold if bits == 8 else 0.0))
        for mode in MODES:
            set_attention(model, mode)
            check_attention(model)
        assert seen == {0.0}
        set_attention(model, "causal")
        assert torch.equal(model(ids, mask)[0], before)  # the outlier threshold is back
        model.config.bidirectional_from = 1
        with pytest.raises(AttentionError, match="hides"):
            check_attention(model)


def test_a_real_model(shared: Path) -> None:
    """A small trained Llama: its first token draws most attention, and its states there are huge."""
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        model = AutoModel.from_pretrained(shared / "models" / "stories15M", dtype=dtype)
        layers = AutoConfig.from_pretrained(shared / "models" / "stories15M").num_hidden_layers
        for mode in (
            "causal",
            "bidirectional",
            {"bidirectional_from": 2},
            {"bidirectional_from": layers - 1},
        ):
            set_attention(model, mode)
            check_attention(model)
