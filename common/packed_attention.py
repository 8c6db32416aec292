"""Attention of rows that hold a prefix and several rests (`common.many_instructions`).

Each row is columns [prefix | rest 1 | rest 2 | ...]. The prefix sees itself, causally; a rest sees the prefix and,
causally, itself. One call under a block mask would compute, and throw away, the scores between rests (in bf16 on a CPU
that held four questions about 200 tokens at 82% of their bound). So the parts are given one by one to the attention
function that the model would have called; whatever a family does with its scores is done as ever.

transformers calls `attend` under the name `PACKED`; the layout travels in the keyword arguments of the trunk.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

PACKED = "packed_rests"
CARRIED = "_packed_rests"
IMPLEMENTATIONS = ("eager", "sdpa")


@dataclass(frozen=True)
class Layout:
    """How the columns of a batch are to be read.

    Attributes:
        widths: columns of the prefix (maybe 0), then of each rest; the same in all rows.
        masks: of the prefix, (1, 1, P, P) or None (causal), and of each rest (B, 1, R, P + R); added to the scores.
        implementation: the attention of the model.
    """

    widths: list[int]
    masks: list[Tensor | None]
    implementation: str


def layout_of(lengths: Tensor, widths: list[int], implementation: str, dtype: torch.dtype) -> Layout:
    """The layout of rows with parts of these lengths (B, 1 + rests), each at the start of its columns."""
    device = lengths.device
    lowest = torch.finfo(dtype).min

    def blocked(visible: Tensor) -> Tensor:
        return torch.zeros(visible.shape, dtype=dtype, device=device).masked_fill_(~visible, lowest)

    def causal(width: int) -> Tensor:
        return torch.ones(width, width, dtype=torch.bool, device=device).tril()

    prefix = widths[0]
    # What is real in the prefix stands before its padding, so causality alone hides that.
    masks: list[Tensor | None] = [None if implementation == "sdpa" else blocked(causal(prefix)[None, None])]
    real = torch.arange(prefix, device=device) < lengths[:, :1]
    for width in widths[1:]:
        ahead = real[:, None, None].expand(-1, 1, width, prefix)
        own = causal(width)[None, None].expand(len(lengths), 1, width, width)
        masks.append(blocked(torch.cat([ahead, own], dim=3)))
    return Layout(widths, masks, implementation)


@contextlib.contextmanager
def packed_attention(config: PreTrainedConfig, layout: Layout) -> Iterator[dict[str, Any]]:
    """Within this context the trunk of `config` calls `attend`, and builds no mask; the keyword arguments it needs."""
    before = config._attn_implementation
    config._attn_implementation = PACKED
    try:
        yield {CARRIED: layout}
    finally:
        config._attn_implementation = before


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **arguments: Any
) -> tuple[Tensor, None]:
    """Attention of packed rows; the signature is that of transformers' attention functions.

    Args:
        module: the layer's attention.
        query: (B, H, T, D). key, value: (B, KV heads, T, D).
        attention_mask: None.
        arguments: among them the `Layout`; the rest is handed on.

    Returns:
        (B, T, H, D), None.
    """
    layout: Layout = arguments.pop(CARRIED)
    function = attention_function(module, layout.implementation)
    prefix = layout.widths[0]
    parts, start = [], 0
    for width, mask in zip(layout.widths, layout.masks, strict=True):
        own = slice(start, start + width)
        keys, values = key[:, :, own], value[:, :, own]
        if start:
            keys = torch.cat([key[:, :, :prefix], keys], dim=2)
            values = torch.cat([value[:, :, :prefix], values], dim=2)
        if width:
            parts.append(function(module, query[:, :, own], keys, values, mask, **arguments)[0])
        start += width
    return torch.cat(parts, dim=1), None


def attention_function(module: nn.Module, implementation: str) -> Callable[..., Any]:
    """The function that a module of transformers (a layer's attention, or a trunk) calls for an implementation.

    Raises:
        LookupError: none is known.
    """
    if implementation != "eager":
        return ALL_ATTENTION_FUNCTIONS[implementation]
    function = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if function is None:
        raise LookupError(f"{type(module).__name__} computes its attention by itself")
    return function


AttentionInterface.register(PACKED, attend)
