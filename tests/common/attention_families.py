"""Tiny random models of every decoder family that the attention tests cover."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

PAD, LAYERS, WINDOW = 0, 3, 3

COMMON: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "pad_token_id": PAD,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# What a family needs beyond COMMON. The windows are smaller than the tests' texts.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": WINDOW},
    "qwen2": {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
    "qwen3": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "sliding_window": WINDOW, "query_pre_attn_scalar": 8},
    "gemma3_text": {
        "head_dim": 8,
        "sliding_window": WINDOW,
        "query_pre_attn_scalar": 8,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.0},
    "gpt_neox": {},
    "phi3": {"sliding_window": WINDOW},
}
SLIDING: dict[str, list[bool]] = {
    "mistral": [True, True, True],
    "qwen2": [False, True, True],
    "gemma2": [True, False, True],
    "gemma3_text": [True, False, True],
    "phi3": [True, True, True],
}
# Gemma 2 soft-caps its scores, which transformers offers no sdpa for.
CASES = [(f, how) for f in FAMILIES for how in ("eager", "sdpa") if (f, how) != ("gemma2", "sdpa")]


def tiny_model(
    family: str,
    attention: str = "sdpa",
    *,
    dtype: torch.dtype = torch.float32,
    head: bool = False,
    **changes: Any,
) -> Any:
    """A random model in evaluation mode, drawn with weights so large that attention is far from uniform."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **{**COMMON, **FAMILIES.get(family, {}), **changes})
    factory = AutoModelForCausalLM if head else AutoModel
    model = factory.from_config(config, attn_implementation=attention)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                module.weight.normal_(std=0.15)
    return model.to(dtype).eval()


def real_texts() -> list[list[int]]:
    """Token ids of four texts of 7, 5, 3 and 1 tokens."""
    draw = torch.Generator().manual_seed(1)
    return [torch.randint(3, 100, (length,), generator=draw).tolist() for length in (7, 5, 3, 1)]


def padded(texts: list[list[int]], side: str, length: int = 0) -> tuple[Tensor, Tensor]:
    """Token ids and mask, both (B, T), padded on a side to the longest text or to a length."""
    length = max(length, *(len(text) for text in texts))
    ids, mask = [], []
    for text in texts:
        pads = [PAD] * (length - len(text))
        ids.append(pads + text if side == "left" else text + pads)
        ones, zeros = [1] * len(text), [0] * len(pads)
        mask.append(zeros + ones if side == "left" else ones + zeros)
    return torch.tensor(ids), torch.tensor(mask)


def layer_states(model: nn.Module, layers: list[nn.Module], *args: Any, **kwargs: Any) -> list[Tensor]:
    """The output of every layer and the final state, (B, T, D) each."""
    states: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: Any) -> None:
        states.append(output[0] if isinstance(output, tuple) else output)

    handles = [layer.register_forward_hook(keep) for layer in layers]
    with torch.no_grad():
        final = model(*args, **kwargs)[0]
    for handle in handles:
        handle.remove()
    return [*states, final]


def layers_of(model: Any) -> list[nn.Module]:
    """The layers of a trunk, OPT's included."""
    return list(getattr(model, "decoder", model).layers)
