"""A behavioural check that a model attends as its configuration says. Import it from `common.attention`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.utils.generic import is_flash_attention_requested

from common.attention_parts import (
    AttentionError,
    Mode,
    Parts,
    drops_window,
    find_parts,
    first_layer,
    recorded_mode,
    sliding_layers,
)

logger = logging.getLogger(__name__)

REAL = 3  # tokens of the probed text: few, so that small sliding windows hold it
PADS = 2
NOISE = 8.0  # a state moved if it moved more than this many times as far as a row that can't be concerned
# By whether all is computed in fp32: relative movement that is none in mixtures of experts, and relative distance
# between a text's states in a batch and alone.
EXPERTS = {True: 1e-4, False: 3e-2}
CLOSE = {True: 1e-2, False: 0.25}


def check_attention(model: nn.Module, *, sides: Sequence[str] | None = None) -> None:
    """Run a few tokens through the model and raise unless it attends as its configuration says.

    A text of 3 tokens is run without padding, with and without a mask, and padded beside a longer text. The
    output of every layer and the final state are compared:

    1. *Visibility.* The text's last token is exchanged. An earlier token's state must move if and only if
       some layer so far lets it see the last one: in no layer below k, and in every layer from k on. The two
       batches differ in nothing else and have the same shape, so "does not move" means equal to the last bit,
       in every precision. Exceptions: where the batch's other text moves too, which can't be concerned, 8
       times its relative movement counts as none; so does 1e-4 (fp32) or 3e-2 of the state's norm in mixtures
       of experts, whose matrix shapes depend on the tokens. In fp32 every token that may see the change must
       move; else one of them, since the huge state of an attention sink can swallow the change in rounding.
    2. *Padding.* The ids at padding positions are exchanged: no real token's state may move, measured alike.
    3. *Alone.* The final states in the padded batch are those of the text alone, within 1e-2 (fp32) or 0.25
       (lower precision) of their norm. This is coarse, since 2 is exact; it finds lost keys and wrong
       positions. Where `position_ids` mend a left-padded batch, that is a warning in the log, not an error.

    Sliding windows are too long to be probed; where one is recorded as dropped, the hooks must be there.

    It runs in evaluation mode without gradients, on the model's device, and leaves the model's modes as they
    were. It takes 6 forward passes of at most 15 tokens.

    Args:
        model: as for `set_attention`; families that it refuses are checked by their final states alone.
        sides: padding sides to try, of "left" and "right". Default: both for decoders; "right" for encoders,
            whose learned positions fit no other.

    Raises:
        AttentionError: the model does not attend as `get_attention(model)` says, or padding leaks.
        InputError: not a transformers model, or an encoder-decoder.
    """
    parts = find_parts(model)
    if sides is None:
        sides = ("right",) if parts.encoder else ("right", "left")
    training = {module: module.training for module in parts.trunk.modules()}
    parts.trunk.eval()
    try:
        with torch.no_grad(), _rows_apart(parts.trunk):
            _check(parts, recorded_mode(parts), list(sides))
    finally:
        for module, mode in training.items():
            module.training = mode


def _check(parts: Parts, mode: Mode, sides: list[str]) -> None:
    where = f"attention: {parts.name} with {parts.config._attn_implementation}, recorded as {mode!r}"
    if drops_window(parts.config) and not getattr(parts.trunk, "_attention_hooks", None):
        raise AttentionError(f"{where} without a sliding window, has it still; call restore_attention")
    config = parts.config.get_text_config()
    limits = _limits(parts, mode)
    pad = getattr(config, "pad_token_id", None)
    pad = pad if isinstance(pad, int) and 0 <= pad < config.vocab_size else 0
    # From the middle of the vocabulary, away from special and unused tokens.
    tokens = [t for t in (config.vocab_size * i // 16 for i in range(2, 14)) if t != pad]
    text, other = tokens[:REAL], [*tokens[: REAL - 1], tokens[REAL]]
    longer = tokens[REAL + 1 : 2 * REAL + 1 + PADS]

    def run(rows: list[list[int]], mask: list[list[int]] | None, **more: Tensor) -> list[Tensor]:
        states = _states(parts, rows, mask, **more)
        real = torch.tensor(mask or [[1] * len(row) for row in rows], dtype=torch.bool)
        if not all(state[real.to(state.device)].isfinite().all() for state in states):
            raise AttentionError(f"{where}: states are not finite; load the model in another precision")
        return states

    alone, changed = (run([t, longer[:REAL]], None) for t in (text, other))
    _check_visibility(alone, changed, 0, 0, limits, f"{where}: without padding")
    if not _same(alone, run([text, longer[:REAL]], [[1] * REAL] * 2), 0, 0, limits):
        raise AttentionError(f"{where}: a mask of ones changes the states")
    if not sides:
        return

    starts = [PADS if side == "left" else 0 for side in sides]
    mask = [[int(s <= i < s + REAL) for i in range(REAL + PADS)] for s in starts] + [[1] * (REAL + PADS)]

    def batch(real: list[int], filler: int) -> list[list[int]]:
        return [[filler] * s + real + [filler] * (PADS - s) for s in starts] + [longer]

    padded, changed = (run(batch(t, pad), mask) for t in (text, other))
    # RoBERTa and its like compute positions from the padding ids, so in encoders these must stay.
    refilled = padded if parts.encoder else run(batch(text, tokens[-1]), mask)
    for row, (side, start) in enumerate(zip(sides, starts)):
        here = f"{where}: padded on the {side}"
        _check_visibility(padded, changed, row, start, limits, here)
        for change, noise in (_moved(a, b, row, start, REAL) for a, b in zip(padded, refilled)):
            if (change > noise.clamp(min=limits.floor)).any():
                raise AttentionError(f"{here}, real tokens attend to padding; try another attn_implementation")
        if _same(alone, padded, row, start, limits):
            continue
        positions = (torch.tensor(mask).cumsum(-1) - 1).clamp(min=0)
        moved = padded if side == "right" else run(batch(text, pad), mask, position_ids=positions)
        if not _same(alone, moved, row, start, limits):
            raise AttentionError(f"{here}, a text's states are not those that it has alone")
        logger.warning("%s has learned positions: left-padded batches need position_ids", parts.name)


@dataclass(frozen=True)
class _Limits:
    """What counts as right: per compared state, how far to its right a token can have been informed from."""

    reach: list[int]
    precise: bool  # all is computed in fp32
    floor: float  # relative movement that counts as none


def _limits(parts: Parts, mode: Mode) -> _Limits:
    weight = next(parts.trunk.parameters())
    precise = (
        weight.dtype == torch.float32
        and getattr(parts.config, "quantization_config", None) is None
        and not torch.is_autocast_enabled(weight.device.type)
        and not (weight.is_cuda and torch.get_float32_matmul_precision() != "highest")
    )
    experts = hasattr(parts.config.get_text_config(), "num_experts_per_tok")
    return _Limits(_reach(parts, mode), precise, EXPERTS[precise] if experts else 0.0)


def _reach(parts: Parts, mode: Mode) -> list[int]:
    """`_Limits.reach`: 0 in causal layers; a bidirectional layer adds its window, or the whole text."""
    if parts.encoder or parts.problem:
        return [REAL if parts.encoder else 0]
    first, keep, reach = first_layer(mode, parts), not drops_window(parts.config), [0]
    for i, sliding in enumerate(sliding_layers(parts)):
        step = REAL
        if sliding and keep:  # flash-attention counts the token itself
            step = parts.config.sliding_window - is_flash_attention_requested(parts.config)
        reach.append(reach[-1] + (step if i >= first else 0))
    return [*reach[1:], reach[-1]]


def _states(parts: Parts, rows: list[list[int]], mask: list[list[int]] | None, **more: Tensor) -> list[Tensor]:
    """The output of every layer, where the layers are known, and the final state, each (B, T, D)."""
    device = next(parts.trunk.parameters()).device
    states: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: Tensor | tuple[Tensor, ...]) -> None:
        states.append(output[0] if isinstance(output, tuple) else output)

    handles = [layer.register_forward_hook(keep) for layer in (() if parts.problem else parts.layers)]
    try:
        inputs = {"input_ids": torch.tensor(rows), **more}
        if mask is not None:
            inputs["attention_mask"] = torch.tensor(mask)
        output = parts.trunk(**{name: tensor.to(device) for name, tensor in inputs.items()})
    finally:
        for handle in handles:
            handle.remove()
    return [*states, output[0]]


def _moved(a: Tensor, b: Tensor, row: int, start: int, count: int) -> tuple[Tensor, Tensor]:
    """Per position of a row, its relative movement between two runs, and how much movement counts as none."""
    change = (a.float() - b.float()).norm(dim=-1) / a.float().norm(dim=-1)
    return change[row, start : start + count], NOISE * change[-1].max()


@contextmanager
def _rows_apart(trunk: nn.Module) -> Iterator[None]:
    """Have bitsandbytes' 8-bit layers treat each token by itself.

    They keep columns in which any token of the batch exceeds a threshold in 16 bits, so every token moves a
    little with every other one. With threshold 0 there are none.
    """
    layers = [m for m in trunk.modules() if hasattr(getattr(m, "state", None), "threshold")]
    thresholds = [layer.state.threshold for layer in layers]  # type: ignore[union-attr]
    try:
        for layer in layers:
            layer.state.threshold = 0.0  # type: ignore[union-attr]
        yield
    finally:
        for layer, threshold in zip(layers, thresholds):
            layer.state.threshold = threshold  # type: ignore[union-attr]


def _check_visibility(
    before: list[Tensor],
    after: list[Tensor],
    row: int,
    start: int,
    limits: _Limits,
    where: str,
) -> None:
    change, noise = _moved(before[0], after[0], row, start + REAL - 1, 1)
    if change.item() <= noise:
        raise AttentionError(f"{where}, exchanging a token changes no more than noise does; nothing can be said")
    for index, (a, b) in enumerate(zip(before, after)):
        what = f"layer {index}" if index < len(before) - 1 else "the final state"
        change, noise = _moved(a, b, row, start, REAL - 1)
        visible = torch.tensor([REAL - 1 - i <= limits.reach[index] for i in range(REAL - 1)], device=change.device)
        if (change[~visible] > noise.clamp(min=limits.floor)).any():
            raise AttentionError(f"{where}, {what} lets a token see later ones; call set_attention")
        seen = change[visible] > noise
        if len(seen) and not (seen.all() if limits.precise else seen.any()):
            raise AttentionError(f"{where}, {what} hides later tokens; call set_attention")


def _same(alone: list[Tensor], batch: list[Tensor], row: int, start: int, limits: _Limits) -> bool:
    """Whether the final states of a text in a batch are, roughly, those that it has alone."""
    a, b = alone[-1][0].float(), batch[-1][row, start : start + REAL].float()
    return bool(((a - b).norm(dim=-1) <= CLOSE[limits.precise] * a.norm(dim=-1)).all())
