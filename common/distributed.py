"""Gather tensors over processes, with gradient, so that a batch loss sees the whole batch."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """The number of processes; 1 without torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _Gather(torch.autograd.Function):
    """Concatenate over processes; the gradient of every process's loss comes back to the process it belongs to.

    Each process computes the same loss of the whole batch, so the summed gradient is world_size times that of
    one. DDP then averages parameter gradients over processes: together, exactly the gradient of one process
    with the whole batch.
    """

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        ctx.rows = local.shape[0]
        parts = [torch.empty_like(local) for _ in range(world_size())]
        dist.all_gather(parts, local.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].contiguous()
        dist.all_reduce(gradient)
        start = dist.get_rank() * ctx.rows
        return gradient[start : start + ctx.rows]


def gather(local: Tensor) -> Tensor:
    """(n, ...) of each process -> (world_size * n, ...), in rank order; carries gradients of floating tensors.

    All processes must bring the same number of rows.
    """
    if world_size() == 1:
        return local
    if local.is_floating_point() and local.requires_grad:
        return _Gather.apply(local)
    parts = [torch.empty_like(local) for _ in range(world_size())]
    dist.all_gather(parts, local.contiguous())
    return torch.cat(parts)
