"""Pooling: from token states (B, T, D) to one vector per text (B, D), whatever side the padding is on."""

from __future__ import annotations

import difflib
from collections.abc import Set

import torch
from torch import Tensor

from common.errors import InputError

STRATEGIES = ("cls", "cls_avg", "cls_max", "mean", "weighted_mean", "last", "max")

ALIASES = {
    "avg": "mean",
    "average": "mean",
    "first": "cls",
    "bos": "cls",
    "bos_token": "cls",
    "eos": "last",
    "eos_token": "last",
    "last_token": "last",
    "lasttoken": "last",
    "weightedmean": "weighted_mean",
}

# The released quirks that pooling knows; angle/compat.py and llm2vec/compat.py say what each does.
POOL_EVERYTHING = "llm2vec:simcse-pool-all"
COMPAT = ("angle:pool-pad-mean", "angle:pool-batch-mask-sum", "angle:max-pooling")


def canonical_strategy(strategy: str) -> str:
    """The name in `STRATEGIES` that `strategy` (a name or an alias, any case, `-` or `_`) stands for.

    Raises InputError for an unknown name, with the nearest known one.
    """
    name = str(strategy).lower().replace("-", "_")
    name = ALIASES.get(name, name)
    if name in STRATEGIES:
        return name
    near = difflib.get_close_matches(name, [*STRATEGIES, *ALIASES], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise InputError(f"unknown pooling strategy {strategy!r}{hint} (known: {', '.join(STRATEGIES)})")


def pool(
    hidden: Tensor,
    attention_mask: Tensor,
    strategy: str,
    *,
    pool_mask: Tensor | None = None,
    compat: Set[str] = frozenset(),
) -> Tensor:
    """One vector per text, (B, D), from the states `hidden` (B, T, D) of its real tokens.

    `attention_mask` (B, T) is non-zero at real tokens; it may be padded left, right or not at all.
    `pool_mask` (B, T) restricts which of the real tokens are pooled (LLM2Vec leaves the instruction out);
    a row in which it leaves nothing falls back to all real tokens of that row. With h_1 .. h_n the states
    of the pooled tokens in order and h_0 the state of the row's first real token:

    ================= ========================================================================
    cls               h_0. `pool_mask` has no say: BOS or [CLS] is never part of the text
    mean              (h_1 + ... + h_n) / n
    weighted_mean     (1 h_1 + 2 h_2 + ... + n h_n) / (1 + 2 + ... + n)
    last              h_n
    max               the maximum over h_1 .. h_n, per dimension
    cls_avg, cls_max  (cls + mean) / 2, (cls + max) / 2
    ================= ========================================================================

    Aliases are in `ALIASES` (avg, eos_token, bos_token ...). fp16 and bf16 states are summed in fp32 and give
    fp32; fp32 and fp64 stay. States at padding are never read, so they may be NaN. Differentiable.

    `compat` is the run's set of compat names; those in `COMPAT`, and `POOL_EVERYTHING`, bring back what the
    releases of AnglE and LLM2Vec did, all others are ignored.

    A row without any real token raises InputError if `attention_mask` lies on the CPU. On an accelerator
    looking would stop the queue, so there such a row comes out as NaN, which the encoder reports by index.
    """
    strategy = canonical_strategy(strategy)
    real = _real_tokens(hidden, attention_mask)
    pooled = _pooled_tokens(real, pool_mask)
    if strategy == "cls":
        out = _first(hidden, real)
    elif strategy == "last":
        out = _last(hidden, pooled)
    elif strategy == "mean":
        out = _mean(hidden, pooled, compat)
    elif strategy == "weighted_mean":
        out = _weighted_mean(hidden, pooled)
    elif strategy == "max":
        out = _max(hidden, pooled, compat)
    elif strategy == "cls_avg":
        out = (_first(hidden, real) + _mean(hidden, pooled, compat)) / 2
    else:
        out = (_first(hidden, real) + _max(hidden, pooled, compat)) / 2
    return out.masked_fill(~real.any(dim=1, keepdim=True), float("nan"))


def _real_tokens(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """The attention mask as booleans on the states' device, checked."""
    if hidden.ndim != 3 or not hidden.is_floating_point():
        raise InputError(f"pool: hidden must be a floating (B, T, D) tensor, got {tuple(hidden.shape)} {hidden.dtype}")
    if attention_mask.shape != hidden.shape[:2]:
        raise InputError(
            f"pool: attention_mask is {tuple(attention_mask.shape)}, hidden {tuple(hidden.shape)}; "
            f"the mask must be {tuple(hidden.shape[:2])}"
        )
    real = attention_mask != 0
    if real.device.type == "cpu" and not real.any(dim=1).all():
        rows = (~real.any(dim=1)).nonzero().flatten().tolist()
        raise InputError(
            f"pool: no real token in row {', '.join(map(str, rows[:10]))} of the batch "
            "(attention_mask is all 0); give every text at least one token"
        )
    return real.to(hidden.device)


def _pooled_tokens(real: Tensor, pool_mask: Tensor | None) -> Tensor:
    """Which tokens are pooled: `pool_mask` within the real tokens, or all of these where that is empty."""
    if pool_mask is None:
        return real
    if pool_mask.shape != real.shape:
        raise InputError(
            f"pool: pool_mask is {tuple(pool_mask.shape)}; it must be {tuple(real.shape)}, as attention_mask"
        )
    pooled = (pool_mask != 0).to(real.device) & real
    return torch.where(pooled.any(dim=1, keepdim=True), pooled, real)


def _wide(dtype: torch.dtype) -> torch.dtype:
    """fp32 for half types, else the type itself."""
    return torch.promote_types(dtype, torch.float32)


def _at(hidden: Tensor, index: Tensor) -> Tensor:
    """The state at position index[b] of every row b: (B, D), at least fp32."""
    index = index[:, None, None].expand(-1, 1, hidden.shape[2])
    return hidden.gather(1, index).squeeze(1).to(_wide(hidden.dtype))


def _first(hidden: Tensor, mask: Tensor) -> Tensor:
    # argmax gives the first of equal values, and a legal index (0) for an empty row.
    return _at(hidden, mask.int().argmax(dim=1))


def _last(hidden: Tensor, mask: Tensor) -> Tensor:
    positions = torch.arange(mask.shape[1], device=mask.device)
    return _at(hidden, (mask * positions).argmax(dim=1))


def _sum(hidden: Tensor, mask: Tensor) -> Tensor:
    # One copy in the states' own type; the sum itself runs in fp32 without a copy.
    return hidden.masked_fill(~mask[:, :, None], 0).sum(dim=1, dtype=_wide(hidden.dtype))


def _mean(hidden: Tensor, mask: Tensor, compat: Set[str]) -> Tensor:
    over_padding = "angle:pool-pad-mean" in compat or POOL_EVERYTHING in compat
    over_batch = "angle:pool-batch-mask-sum" in compat
    if over_padding and over_batch:
        raise InputError("compat names angle:pool-pad-mean and angle:pool-batch-mask-sum exclude each other; give one")
    if over_padding:
        return hidden.mean(dim=1, dtype=_wide(hidden.dtype))
    return _sum(hidden, mask) / (mask.sum() if over_batch else mask.sum(dim=1, keepdim=True))


def _weighted_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    wide = _wide(hidden.dtype)
    weights = (mask.cumsum(dim=1) * mask).to(wide)
    weights = weights / weights.sum(dim=1, keepdim=True)
    # A product by element, in place on our own copy: a matrix product would run in half under autocast.
    return hidden.masked_fill(~mask[:, :, None], 0).to(wide).mul_(weights[:, :, None]).sum(dim=1)


def _max(hidden: Tensor, mask: Tensor, compat: Set[str]) -> Tensor:
    padding = 0.0 if "angle:max-pooling" in compat else float("-inf")
    return hidden.masked_fill(~mask[:, :, None], padding).amax(dim=1).to(_wide(hidden.dtype))
