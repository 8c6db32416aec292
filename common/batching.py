"""Which sequences go through the model together: token budgets, longest first, each distinct text once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T", bound=Hashable)

ALIKE = 0.75


def distinct(items: Sequence[T]) -> tuple[list[T], list[int]]:
    """The distinct items in order of first appearance, and for each item the position of its like there."""
    position: dict[T, int] = {}
    index = [position.setdefault(item, len(position)) for item in items]
    return list(position), index


def plan(
    lengths: Sequence[int], max_tokens: int, max_rows: int | None = None, *, worth: int | None = None
) -> list[list[int]]:
    """Group sequences into batches of at most `max_tokens` padded tokens, longest first.

    Sorting makes the padding small, longest first makes an out-of-memory show at once and the progress bar
    pessimistic instead of optimistic. A sequence longer than the budget gets a batch of its own.

    Args:
        lengths: tokens per sequence.
        max_tokens: rows x longest row, at most.
        max_rows: rows per batch, at most.
        worth: for few sequences of very different lengths: a batch of so many padded tokens, which is worth a
            pass of its own, ends where a sequence is shorter than `ALIKE` of its longest. (Batches that only the
            budget ended were 23% to 66% padding for the documents of a few blocks of Wikipedia and Brown text.)

    Returns:
        lists of positions in `lengths`, every position once.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches: list[list[int]] = []
    current: list[int] = []
    for i in order:
        longest = lengths[current[0]] if current else lengths[i]
        full = (len(current) + 1) * longest > max_tokens or (max_rows is not None and len(current) >= max_rows)
        shorter = worth is not None and lengths[i] < ALIKE * longest and len(current) * longest >= worth
        if current and (full or shorter):
            batches.append(current)
            current = []
        current.append(i)
    if current:
        batches.append(current)
    return batches


def pad(
    sequences: Sequence[Sequence[int]], pad_id: int, *, side: str = "right", device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Token ids (B, T) and attention mask (B, T), 1 = real token, of ragged sequences."""
    width = max(len(s) for s in sequences)
    ids = torch.full((len(sequences), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(sequences), width), dtype=torch.long)
    for row, sequence in enumerate(sequences):
        span = slice(0, len(sequence)) if side == "right" else slice(width - len(sequence), width)
        ids[row, span] = torch.tensor(sequence, dtype=torch.long)
        mask[row, span] = 1
    if device is not None and device.type != "cpu":
        return ids.to(device, non_blocking=True), mask.to(device, non_blocking=True)
    return ids, mask


def span_mask(spans: Sequence[tuple[int, int]], width: int, *, device: torch.device | None = None) -> Tensor:
    """A mask (B, width), 1 from the first to before the second position of each span, of rows padded on the right."""
    starts, ends = torch.tensor(list(spans), dtype=torch.long).reshape(-1, 2, 1).unbind(1)
    positions = torch.arange(width)
    mask = ((starts <= positions) & (positions < ends)).long()
    return mask.to(device, non_blocking=True) if device is not None and device.type != "cpu" else mask
