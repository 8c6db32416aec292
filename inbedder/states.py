"""The states of one layer from one forward pass, none of the others kept."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

from common.attention import num_layers
from common.attention_parts import find_parts
from common.layer_states import find_layers


def run_to_layer(trunk: nn.Module, layer: int, **inputs: Any) -> tuple[Tensor, Any]:
    """The states (B, T, D) at entry `layer` of transformers' `hidden_states`, and the trunk's output.

    0 is what the first layer takes (embeddings), l < L the output of layer l, L comes after the final norm.
    """
    if layer == num_layers(trunk):
        output = trunk(**inputs)
        return output.last_hidden_state, output
    caught: list[Tensor] = []
    layers = find_layers(trunk)

    def before(_: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        caught.append(args[0] if args else kwargs["hidden_states"])

    def after(_: nn.Module, __: tuple, output: Any) -> None:
        caught.append(output[0] if isinstance(output, tuple) else output)

    if layer == 0:
        handle = layers[0].register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = layers[layer - 1].register_forward_hook(after)
    try:
        output = trunk(**inputs)
    finally:
        handle.remove()
    return caught[0], output


def position_ids(trunk: nn.Module, mask: Tensor) -> dict[str, Tensor]:
    """The positions (B, T) of real tokens under a mask (B, T), as a keyword argument, where the trunk takes one.

    Families with learned positions that do not look at the mask (GPT-2) need it for rows padded on the left.
    """
    if "position_ids" not in inspect.signature(find_parts(trunk).trunk.forward).parameters:
        return {}
    return {"position_ids": (mask.cumsum(dim=1) - 1).clamp_(min=0)}
