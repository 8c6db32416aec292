"""Causal, bidirectional, or bidirectional-from-layer-k attention for decoder-only models, and a check of it.

Three modes:

- `"causal"`: as the model was made.
- `"bidirectional"` (LLM2Vec, arXiv 2404.05961): `config.is_causal = False`. transformers reads this field by
  itself, in the masks (`create_causal_mask`) and in the attention call (`is_causal`), so a saved model stays
  bidirectional in plain transformers and sentence-transformers, without this module.
- `{"bidirectional_from": k}` (BeLLM, arXiv 2311.05296): layers `l >= k` (0-based) are bidirectional.
  transformers has no such field, so hooks do it, and `restore_attention` puts them back after a reload.

In a bidirectional layer every query sees every real key of its row and no padding. The mask and the
`is_causal` argument must change together: setting `self_attn.is_causal = False` alone, a common recipe, is
causal again as soon as a batch holds padding, because then an explicit causal mask is passed.
`check_attention` therefore looks at what the model does, not at its settings.

Sliding windows (Mistral, Gemma 2 and 3, Phi-3 ...), `sliding_window=`:

- `"keep"` (default): the window becomes symmetric, as transformers makes it for `is_causal=False`: a token
  sees keys at a distance of at most W = `config.sliding_window` on both sides (eager, sdpa, flex_attention);
  flash-attention counts the token itself, so its limit is W - 1.
- `"drop"`: bidirectional layers see everything, as in LLM2Vec's and BeLLM's released codes. It needs hooks,
  hence `restore_attention` after a reload, and is not possible with flash-attention, which takes its window
  from the module.

Positions: rotary positions are relative, and OPT counts real tokens in the mask, so the padding side does not
matter. Families with other learned positions (GPT-2) need `position_ids` for left-padded batches, in every
mode.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.masking_utils import (
    create_bidirectional_mask,
    create_bidirectional_sliding_window_mask,
    find_packed_sequence_indices,
)

from common.attention_check import check_attention
from common.attention_parts import (
    AttentionError,
    Mode,
    Parts,
    check_implementation,
    drops_window,
    find_parts,
    first_layer,
    recorded_mode,
    sliding_layers,
)
from common.errors import InputError

__all__ = [
    "AttentionError",
    "Mode",
    "check_attention",
    "get_attention",
    "num_layers",
    "restore_attention",
    "set_attention",
]

BATCH = "_bidirectional_batch"  # keyword argument that carries the batch's mask from the trunk to its layers


def num_layers(model: nn.Module) -> int:
    """The number of transformer layers of a trunk, a model with a head, or PEFT around either."""
    parts = find_parts(model)
    return len(parts.layers) or int(parts.config.get_text_config().num_hidden_layers)


def get_attention(model: nn.Module) -> Mode:
    """The mode that the model's configuration records; "bidirectional" for encoders.

    Raises:
        InputError: not a transformers model, an encoder-decoder, or a recorded layer that the model lacks.
    """
    return recorded_mode(find_parts(model))


def set_attention(
    model: nn.Module,
    mode: Mode | Mapping[str, int],
    *,
    sliding_window: Literal["keep", "drop"] = "keep",
    attend_padding: bool = False,
) -> None:
    """Make a decoder causal, bidirectional, or bidirectional from a layer on, in place. Can be called again.

    The mode is recorded in the configuration (`is_causal`, `bidirectional_from`, `bidirectional_window`), so
    that `save_pretrained` keeps it. A LoRA folder holds no model configuration: whoever saves one alone
    records `get_attention(model)` beside it. A model that is not causal gets `use_cache = False`, since
    cached keys never saw the later tokens.

    Args:
        model: an `AutoModel` trunk, a `...ForCausalLM`, or PEFT around either. Adapters may also come later.
        mode: "causal", "bidirectional", or `{"bidirectional_from": k}`: layers `l >= k` (0-based) are
            bidirectional; k = 0 is "bidirectional", k = number of layers is "causal".
        sliding_window: "keep" the window of sliding-window layers, on both sides, or "drop" it in
            bidirectional layers.
        attend_padding: let bidirectional layers see padding, too, so that a vector depends on its batch: what
            the released BeLLM does, and its numbers need. Never recorded in the configuration.

    Raises:
        InputError: unknown mode, k out of range, a family or an attention implementation for which it can't
            be right, or an encoder that is to be causal. The model is then unchanged.
    """
    parts = find_parts(model)
    first = first_layer(mode, parts)
    if sliding_window not in ("keep", "drop"):
        raise InputError(f'attention: sliding_window={sliding_window!r} is not "keep" or "drop"')
    if parts.encoder:
        if first != 0:
            raise InputError(f"attention: {parts.name} is an encoder: it is bidirectional and can't be {mode!r}")
        return
    causal = first == max(len(parts.layers), 1)
    if parts.problem:
        if mode == "causal":
            return  # it never was anything else
        raise InputError(f"attention: {parts.name} {parts.problem}, so it can only be causal, not {mode!r}")
    drop = sliding_window == "drop"
    dropped = [sliding and drop and i >= first for i, sliding in enumerate(sliding_layers(parts))]
    if not causal:
        check_implementation(parts.config, any(dropped))
    _remove_hooks(parts)
    _record(parts, first, causal, any(dropped))
    if not causal:
        _add_hooks(parts, first, dropped, attend_padding)


def restore_attention(model: nn.Module) -> None:
    """Apply what the configuration of a freshly loaded model says; nothing where it says nothing.

    Raises:
        InputError: as `set_attention`.
    """
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return
    parts = find_parts(model)
    mode = recorded_mode(parts)
    if mode != "causal":
        set_attention(model, mode, sliding_window="drop" if drops_window(parts.config) else "keep")


def _record(parts: Parts, first: int, causal: bool, drop: bool) -> None:
    was_causal = recorded_mode(parts) == "causal"
    for config in parts.configs:
        for field in ("is_causal", "bidirectional_from", "bidirectional_window"):
            config.__dict__.pop(field, None)
        if first == 0:
            config.is_causal = False
        elif not causal:
            config.bidirectional_from = first
        if drop:
            config.bidirectional_window = "drop"
    trunk = parts.trunk
    if was_causal and not causal:
        trunk._causal_use_cache = getattr(parts.config, "use_cache", None)  # type: ignore[assignment]
    use_cache = getattr(trunk, "_causal_use_cache", None) if causal else False
    if use_cache is not None:
        for config in parts.configs:
            config.use_cache = use_cache


class _Batch:
    """The padding mask of one forward pass, and the bidirectional masks made from it, each built once."""

    def __init__(self, config: PreTrainedConfig, padding: Tensor | None) -> None:
        self.config = config
        self.padding = padding
        self.masks: dict[Any, Any] = {}

    def mask(self, hidden: Tensor, sliding: bool) -> Any:
        """The mask for a layer with input hidden (B, T, D): tensor, BlockMask, or None: all is visible."""
        key = (sliding, hidden.device, hidden.dtype)
        if key not in self.masks:
            build = create_bidirectional_sliding_window_mask if sliding else create_bidirectional_mask
            self.masks[key] = build(self.config, hidden, self.padding)
        return self.masks[key]


# The hooks hold no state between calls and no reference to the model: the batch's mask travels in the keyword
# arguments. So they survive copies, pickling, threads (DataParallel) and recomputation in the backward pass.


@dataclass(frozen=True)
class _TrunkHook:
    """Before the trunk: take hold of the 2-D attention mask; refuse what can't be right without causality."""

    carry: bool  # some layer needs the mask
    attend_padding: bool = False

    def __call__(self, trunk: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        config: PreTrainedConfig = trunk.config  # type: ignore[assignment]
        check_implementation(config, drops_window(config))  # it may have been changed since
        kwargs = {**dict(zip(inspect.signature(trunk.forward).parameters, args)), **kwargs}
        if kwargs.get("past_key_values") is not None:
            raise InputError(
                "attention: past_key_values given, but the model is not causal: cached keys never saw later "
                'tokens; pass use_cache=False, or set_attention(model, "causal") to generate'
            )
        if kwargs.get("use_cache"):
            kwargs["use_cache"] = False
        if self.carry:
            padding = _padding(kwargs)
            kwargs[BATCH] = _Batch(config, None if self.attend_padding else padding)
        return (), kwargs


def _padding(kwargs: dict[str, Any]) -> Tensor | None:
    """The 2-D padding mask (B, T) among a trunk's arguments; None where all tokens are real."""
    padding, positions = kwargs.get("attention_mask"), kwargs.get("position_ids")
    if padding is not None and (not isinstance(padding, Tensor) or padding.ndim != 2):
        raise InputError("attention: bidirectional_from needs a 2-D attention_mask (1: real, 0: padding) or None")
    if padding is None and positions is not None and find_packed_sequence_indices(positions) is not None:
        raise InputError("attention: several texts in one row (position_ids start anew) and bidirectional_from")
    return padding


@dataclass(frozen=True)
class _LayerHook:
    """Before a layer: swap in the bidirectional mask; in a causal layer, only take the carried one away."""

    position: int  # of attention_mask among the layer's positional arguments
    bidirectional: bool
    sliding: bool

    def __call__(self, layer: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        kwargs = dict(kwargs)
        batch = kwargs.pop(BATCH, None)
        if not self.bidirectional:
            return args, kwargs
        if batch is None:
            name = type(layer).__name__
            raise AttentionError(f"attention: {name} is bidirectional and needs the forward of its whole model")
        mask = batch.mask(args[0] if args else kwargs["hidden_states"], self.sliding)
        if len(args) > self.position:
            args = (*args[: self.position], mask, *args[self.position + 1 :])
        else:
            kwargs["attention_mask"] = mask
        kwargs["is_causal"] = False
        return args, kwargs


def _add_hooks(parts: Parts, first: int, dropped: Sequence[bool], attend_padding: bool) -> None:
    # With first == 0 transformers makes all masks right by itself, except that it keeps windows.
    swapped = [i >= first and (first > 0 or drop or attend_padding) for i, drop in enumerate(dropped)]
    hook = _TrunkHook(any(swapped), attend_padding)
    handles = [parts.trunk.register_forward_pre_hook(hook, with_kwargs=True)]
    if any(swapped):
        for i, (layer, sliding) in enumerate(zip(parts.layers, sliding_layers(parts))):
            position = list(inspect.signature(layer.forward).parameters).index("attention_mask")
            before = _LayerHook(position, swapped[i], sliding and not dropped[i])
            handles.append(layer.register_forward_pre_hook(before, with_kwargs=True))
    parts.trunk._attention_hooks = handles  # type: ignore[assignment]


def _remove_hooks(parts: Parts) -> None:
    for handle in getattr(parts.trunk, "_attention_hooks", ()):
        handle.remove()
    parts.trunk._attention_hooks = []  # type: ignore[assignment]
