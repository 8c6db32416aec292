"""GradCache (Gao et al. 2021, arXiv 2101.06983): large contrastive batches in the memory of a small one.

First every chunk is embedded without a graph; the loss of the whole batch gives the gradient of each embedding;
then each chunk is embedded again, with the random state it had the first time, and back-propagates its share.
The gradients are those of the plain loss.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from common.batching import plan


@dataclass
class RandomState:
    """The state of the random generators, to be replayed; dropout must be the same in both passes."""

    cpu: Tensor = field(default_factory=torch.get_rng_state)
    cuda: list[Tensor] = field(
        default_factory=lambda: torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    )

    @contextlib.contextmanager
    def replay(self) -> Iterator[None]:
        """Within this context random numbers come as they did after this state was taken."""
        devices = list(range(len(self.cuda)))
        with torch.random.fork_rng(devices=devices):
            torch.set_rng_state(self.cpu)
            if self.cuda:
                torch.cuda.set_rng_state_all(self.cuda)
            yield


def backward_in_chunks(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor,
    lengths: Sequence[int],
    pool_mask: Tensor | None = None,
    *,
    loss_of: Callable[[Tensor], Tensor],
    chunk_tokens: int,
    autocast: Callable[[], contextlib.AbstractContextManager],
    backward: Callable[[Tensor], None],
    loss_scale: float = 1.0,
) -> Tensor:
    """Accumulate into the parameters the gradients of `loss_scale * loss_of(model(batch))`.

    Args:
        model: (ids, mask, pool mask) -> vectors (R, D); may be wrapped by DDP.
        input_ids, attention_mask: (R, T), padded on the right.
        lengths: real tokens per row; padding is cut away per chunk.
        pool_mask: (R, T), the tokens that are pooled; None: all real ones.
        loss_of: the loss, a scalar, of all vectors (R, D) of this process.
        chunk_tokens: padded tokens per chunk.
        autocast: the context that forward passes and loss run in.
        backward: `Accelerator.backward` or `Tensor.backward`.
        loss_scale: 1 / accumulation steps.

    Returns:
        the loss, detached, not scaled.
    """
    chunks = plan(lengths, chunk_tokens)
    states: list[RandomState] = []
    parts: list[Tensor] = []
    with torch.no_grad():
        for rows in chunks:
            states.append(RandomState())
            with autocast():
                parts.append(model(*_cut(input_ids, attention_mask, pool_mask, lengths, rows)))
    order = torch.tensor([row for rows in chunks for row in rows], device=parts[0].device)
    vectors = torch.empty_like(torch.cat(parts))
    vectors[order] = torch.cat(parts)
    vectors.requires_grad_()
    with autocast():
        loss = loss_of(vectors)
    (gradient,) = torch.autograd.grad(loss * loss_scale, vectors)
    for k, (rows, state) in enumerate(zip(chunks, states)):
        last = k == len(chunks) - 1
        # DDP averages gradients once, with the last chunk.
        no_sync: Any = contextlib.nullcontext if last else getattr(model, "no_sync", contextlib.nullcontext)
        with no_sync(), state.replay():
            with autocast():
                again = model(*_cut(input_ids, attention_mask, pool_mask, lengths, rows))
            backward((again.float() * gradient[rows]).sum())
    return loss.detach()


def _cut(
    ids: Tensor, mask: Tensor, pool_mask: Tensor | None, lengths: Sequence[int], rows: list[int]
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Some rows, as wide as the longest of them."""
    width = max(lengths[i] for i in rows)
    return ids[rows, :width], mask[rows, :width], None if pool_mask is None else pool_mask[rows, :width]
