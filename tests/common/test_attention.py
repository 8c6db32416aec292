"""Attention modes over families, implementations and paddings: what every token can see, layer by layer."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from attention_families import (
    CASES,
    LAYERS,
    SLIDING,
    WINDOW,
    layer_states,
    layers_of,
    padded,
    real_texts,
    tiny_model,
)
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
)

import common.attention
from common.attention import (
    AttentionError,
    check_attention,
    get_attention,
    num_layers,
    restore_attention,
    set_attention,
)
from common.errors import InputError

MODES: list[Any] = [
    "causal",
    "bidirectional",
    *({"bidirectional_from": k} for k in (0, 1, LAYERS - 1, LAYERS)),
]
FROM_LAST: Any = {"bidirectional_from": LAYERS - 1}


def first_bidirectional(mode: Any) -> int:
    return {"causal": LAYERS, "bidirectional": 0}[mode] if isinstance(mode, str) else mode["bidirectional_from"]


def may_see(family: str, mode: Any, window: str, real: Tensor) -> list[Tensor]:
    """Per layer and for the final state, (T, T): whether the state at i depends on the token at j."""
    i, j = torch.meshgrid(torch.arange(len(real)), torch.arange(len(real)), indexing="ij")
    reach, result = torch.eye(len(real), dtype=torch.bool), []
    for layer in range(LAYERS):
        sliding = SLIDING.get(family, [False] * LAYERS)[layer]
        if layer >= first_bidirectional(mode):
            direct = (i - j).abs() <= WINDOW if sliding and window == "keep" else i == i
        else:
            direct = (j <= i) & (i - j < WINDOW) if sliding else j <= i
        direct = (direct & real) | torch.eye(len(real), dtype=torch.bool)
        reach = (direct.float() @ reach.float()) > 0
        result.append(reach)
    return [*result, reach]


@pytest.mark.parametrize("padding", ["none", "left", "right"])
@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize(("family", "how"), CASES)
def test_every_token_depends_on_exactly_the_tokens_it_may_see(family: str, how: str, mode: Any, padding: str) -> None:
    """The whole matrix of dependence. The runs differ in one token per row and are else equal bit by bit."""
    model = tiny_model(family, how)
    for window in ("keep", "drop") if family in SLIDING and mode != "causal" else ("keep",):
        set_attention(model, mode, sliding_window=window)
        ids, mask = padded([real_texts()[0]], padding, 7 if padding == "none" else 9)
        length = ids.shape[1]
        ids, other = ids.repeat(length, 1), ids.repeat(length, 1)
        other[range(length), range(length)] = (other[0] + 41) % 100  # row j: token j, be it real or padding
        given = {} if padding == "none" else {"attention_mask": mask.repeat(length, 1)}
        before = layer_states(model, layers_of(model), input_ids=ids, **given)
        after = layer_states(model, layers_of(model), input_ids=other, **given)
        real = mask[0].bool()
        expected = may_see(family, mode, window, real)
        for layer, (a, b, may) in enumerate(zip(before, after, expected, strict=True)):
            moved = (a != b).any(-1).T  # (i, j)
            wrong = (moved != may) & real[:, None]
            assert not wrong.any(), f"window {window}, layer {layer}: {wrong.nonzero().tolist()}"


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize(("family", "how"), CASES)
def test_a_padded_text_has_the_states_that_it_has_alone(family: str, how: str, mode: Any, side: str) -> None:
    model = tiny_model(family, how)
    set_attention(model, mode)
    texts = real_texts()
    ids, mask = padded(texts, side)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        batch = model(ids, mask)[0]
        placed = model(input_ids=ids, attention_mask=mask, position_ids=positions)[0]
        for row, text in enumerate(texts):
            real = mask[row].bool()
            alone = model(torch.tensor([text]))[0][0]
            ones = model(torch.tensor([text]), attention_mask=torch.ones(1, len(text), dtype=torch.long))[0][0]
            torch.testing.assert_close(batch[row][real], alone, atol=1e-5, rtol=0)
            torch.testing.assert_close(placed[row][real], alone, atol=1e-5, rtol=0)
            torch.testing.assert_close(ones, alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("family", "how"), CASES)
def test_check_passes_for_every_mode_precision_and_window(family: str, how: str) -> None:
    model = tiny_model(family, how)
    some: list[Any] = ["causal", "bidirectional", FROM_LAST]
    for dtype, modes in ((torch.float32, MODES), (torch.bfloat16, some)):
        model.to(dtype)
        for mode in modes:
            for window in ("keep", "drop") if family in SLIDING else ("keep",):
                set_attention(model, mode, sliding_window=window)
                check_attention(model)


@pytest.mark.parametrize("mode", ["bidirectional", FROM_LAST], ids=str)
def test_eager_and_sdpa_agree(mode: Any) -> None:
    ids, mask = padded(real_texts(), "left")
    outputs = []
    for how in ("eager", "sdpa"):
        model = tiny_model("llama", how)
        set_attention(model, mode)
        with torch.no_grad():
            outputs.append(model(ids, mask)[0][mask.bool()])
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-5, rtol=0)


def test_modes_are_recorded_and_can_be_set_again() -> None:
    model = tiny_model("llama")
    ids, mask = padded(real_texts(), "right")

    def final() -> Tensor:
        with torch.no_grad():
            return model(ids, mask)[0]

    plain = final()
    expected = {"causal": plain}
    for mode in [*MODES, FROM_LAST, FROM_LAST, "bidirectional", {"bidirectional_from": 1}, "causal"]:
        set_attention(model, mode)
        first = first_bidirectional(mode)
        recorded = "bidirectional" if first == 0 else "causal" if first == LAYERS else mode
        assert get_attention(model) == recorded
        assert getattr(model.config, "is_causal", True) == (recorded != "bidirectional")
        assert getattr(model.config, "bidirectional_from", None) == (first if 0 < first < LAYERS else None)
        assert model.config.use_cache == (recorded == "causal")
        hooks = sum(len(module._forward_pre_hooks) for module in model.modules())
        assert hooks == {"causal": 0, "bidirectional": 1}.get(str(recorded), 1 + LAYERS)
        torch.testing.assert_close(final(), expected.setdefault(str(recorded), final()), atol=0, rtol=0)
    assert len(expected) == 4
    assert torch.equal(final(), plain)
    assert num_layers(model) == LAYERS


WRONG_COUNTS = (-1, LAYERS + 1, 1.0, True, "1")
WRONG: list[Any] = [
    "bidirektional",
    {"from": 1},
    {},
    None,
    1,
    *({"bidirectional_from": k} for k in WRONG_COUNTS),
]


@pytest.mark.parametrize("mode", WRONG, ids=str)
def test_wrong_modes_are_refused_and_change_nothing(mode: Any) -> None:
    model = tiny_model("llama")
    set_attention(model, FROM_LAST)
    with pytest.raises(InputError, match="bidirectional_from"):
        set_attention(model, mode)
    assert get_attention(model) == FROM_LAST
    check_attention(model)


def test_a_wrong_window_is_refused() -> None:
    with pytest.raises(InputError, match="sliding_window='none'"):
        set_attention(tiny_model("mistral"), "bidirectional", sliding_window="none")  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["llama", "opt", "gpt_neox"])
def test_heads_and_adapters_are_looked_through(family: str) -> None:
    ids, mask = padded(real_texts(), "left")
    model = tiny_model(family, head=True)
    trunk = model.base_model
    set_attention(model, FROM_LAST)
    assert num_layers(model) == LAYERS
    assert get_attention(trunk) == FROM_LAST
    with torch.no_grad():
        expected = trunk(ids, mask)[0]
        torch.testing.assert_close(model(ids, mask, output_hidden_states=True).hidden_states[-1], expected)
    config = LoraConfig(r=4, target_modules="all-linear")
    lora = get_peft_model(model, config)
    assert get_attention(lora) == FROM_LAST
    check_attention(lora)
    set_attention(lora, "bidirectional")
    assert get_attention(trunk) == "bidirectional"
    merged = lora.merge_and_unload()
    stacked = get_peft_model(merged, config, adapter_name="second")
    check_attention(stacked)
    set_attention(stacked, FROM_LAST)
    check_attention(stacked)
    with torch.no_grad():  # fresh adapters add nothing
        torch.testing.assert_close(trunk(ids, mask)[0], expected, atol=1e-5, rtol=0)


def test_a_head_with_a_configuration_of_its_own_records_the_mode_too(tmp_path: Path) -> None:
    config = tiny_model("llama").config
    model = AutoModelForSequenceClassification.from_config(config)
    set_attention(model, "bidirectional")
    model.save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).is_causal is False


@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("family", ["llama", "mistral", "opt"])
def test_full_attention_survives_a_reload_in_plain_transformers(family: str, head: bool, tmp_path: Path) -> None:
    ids, mask = padded(real_texts(), "right")
    model = tiny_model(family, head=head)
    set_attention(model, "bidirectional")
    model.save_pretrained(tmp_path)
    factory = AutoModelForCausalLM if head else AutoModel
    again = factory.from_pretrained(tmp_path).eval()
    assert not any(module._forward_pre_hooks for module in again.modules())
    check_attention(again)
    with torch.no_grad():
        torch.testing.assert_close(again(ids, attention_mask=mask)[0], model(ids, attention_mask=mask)[0])
    restore_attention(again)
    assert get_attention(again) == "bidirectional"
    check_attention(again)


def test_from_a_layer_on_and_dropped_windows_survive_a_reload(tmp_path: Path) -> None:
    ids, mask = padded(real_texts(), "right")
    cases: list[Any] = [(FROM_LAST, "keep"), ({"bidirectional_from": 1}, "drop"), ("bidirectional", "drop")]
    for number, (mode, window) in enumerate(cases):
        model = tiny_model("mistral")
        set_attention(model, mode, sliding_window=window)
        folder = tmp_path / str(number)
        model.save_pretrained(folder)
        again = AutoModel.from_pretrained(folder).eval()
        with torch.no_grad():
            expected = model(ids, mask)[0]
            assert (again(ids, mask)[0] - expected).abs()[mask.bool()].max() > 1e-2  # transformers alone can't
            with pytest.raises(AttentionError):
                check_attention(again)
            restore_attention(again)
            torch.testing.assert_close(again(ids, mask)[0], expected)
        assert get_attention(again) == mode
        check_attention(again)
    model = tiny_model("llama")
    restore_attention(model)
    assert get_attention(model) == "causal"


def test_a_recorded_layer_that_does_not_exist_is_an_error() -> None:
    model = tiny_model("llama")
    model.config.bidirectional_from = 7
    for call in (get_attention, restore_attention, check_attention):
        with pytest.raises(InputError, match="bidirectional_from=7"):
            call(model)


def step_gradients(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Gradients of one loss over several forward passes, as in contrastive training."""
    model.zero_grad()
    vectors = [(model(ids, attention_mask=mask)[0] * mask[..., None]).sum(1) for ids, mask in batches]
    torch.cat(vectors).pow(2).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("mode", ["bidirectional", FROM_LAST], ids=str)
@pytest.mark.parametrize(
    ("family", "how"),
    [("llama", "eager"), ("mistral", "sdpa"), ("gemma2", "eager"), ("opt", "sdpa"), ("gpt_neox", "sdpa")],
)
def test_gradient_checkpointing_gives_the_same_gradients(family: str, how: str, mode: Any, reentrant: bool) -> None:
    """Two batches with different padding before one backward pass: each recomputation needs its own mask."""
    model = tiny_model(family, how)
    set_attention(model, mode)
    model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)).train()
    texts = real_texts()
    batches = [padded(texts[:2], "right"), padded(texts[1:], "left", 7)]
    plain = step_gradients(model, batches)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    model.enable_input_require_grads()
    again = step_gradients(model, batches)
    assert plain
    assert plain.keys() == again.keys()
    for name in plain:
        torch.testing.assert_close(again[name], plain[name], atol=1e-5, rtol=1e-4)


def test_the_mask_is_built_once_per_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    for name in ("create_bidirectional_mask", "create_bidirectional_sliding_window_mask"):
        real = getattr(common.attention, name)

        def counted(*args: Any, _real: Any = real, _name: str = name, **kwargs: Any) -> Any:
            built.append(_name)
            return _real(*args, **kwargs)

        monkeypatch.setattr(common.attention, name, counted)
    ids, mask = padded(real_texts(), "left")
    model = tiny_model("llama", num_hidden_layers=6)
    set_attention(model, {"bidirectional_from": 1})
    model(ids, mask)
    assert built == ["create_bidirectional_mask"]
    built.clear()
    model = tiny_model("gemma2", "eager", num_hidden_layers=6)
    set_attention(model, {"bidirectional_from": 1})
    model(ids, mask)
    model(ids)
    assert sorted(built) == sorted(["create_bidirectional_mask", "create_bidirectional_sliding_window_mask"] * 2)


@pytest.mark.parametrize("how", ["eager", "sdpa"])
def test_autocast(how: str) -> None:
    model = tiny_model("llama", how)
    set_attention(model, FROM_LAST)
    ids, mask = padded(real_texts(), "left")
    with torch.no_grad():
        expected = model(ids, mask)[0][mask.bool()]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            check_attention(model)
            got = model(ids, mask)[0][mask.bool()].float()
    assert ((got - expected).norm(dim=-1) / expected.norm(dim=-1)).max() < 0.1


def test_embeddings_and_positional_arguments_work() -> None:
    model = tiny_model("llama")
    set_attention(model, FROM_LAST)
    ids, mask = padded(real_texts(), "left")
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask)[0]
        torch.testing.assert_close(model(ids, mask, None)[0], expected)
        torch.testing.assert_close(
            model(inputs_embeds=model.embed_tokens(ids), attention_mask=mask.bool())[0], expected
        )


@pytest.mark.parametrize("mode", ["bidirectional", FROM_LAST], ids=str)
def test_copies_are_independent(mode: Any) -> None:
    ids, mask = padded(real_texts(), "right")
    model = tiny_model("mistral")
    set_attention(model, mode, sliding_window="drop")
    with torch.no_grad():
        expected = model(ids, mask)[0]
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            torch.testing.assert_close(twin(ids, mask)[0], expected)
            set_attention(twin, "causal")
            check_attention(twin)
            assert not any(module._forward_pre_hooks for module in twin.modules())
            torch.testing.assert_close(model(ids, mask)[0], expected)
    check_attention(model)


def test_threads_do_not_mix_their_masks() -> None:
    model = tiny_model("llama")
    set_attention(model, {"bidirectional_from": 1})
    texts = real_texts()
    batches = [padded(texts[i : i + 2], side, 12) for i in range(3) for side in ("left", "right")] * 8

    def run(batch: tuple[Tensor, Tensor]) -> Tensor:
        with torch.no_grad():
            return model(*batch)[0]

    expected = [run(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for got, want in zip(pool.map(run, batches), expected):
            torch.testing.assert_close(got, want, atol=1e-6, rtol=0)
