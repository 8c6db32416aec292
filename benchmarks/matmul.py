"""What a machine's matrix units can do, and how much of that a model asks for per token."""

from __future__ import annotations

import time

import torch
from torch import nn

from common.cpu_linear import fast_linears

LIMIT_ROWS = 1024  # token rows of the matrix product that gives the machine's limit
LIMIT_SECONDS = 0.5


def working_parameters(model: nn.Module) -> int:
    """The number of parameters outside embedding tables: those that every token is multiplied with."""
    tables = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    return sum(p.numel() for p in model.parameters() if id(p) not in tables)


def limit_shape(model: nn.Module) -> tuple[int, int, int] | None:
    """(rows, in, out) of the product with the model's largest linear layer; None if it has no such layer."""
    linears = [m for m in model.modules() if isinstance(m, nn.Linear)]
    if not linears:
        return None
    largest = max(linears, key=lambda m: m.in_features * m.out_features)
    return LIMIT_ROWS, largest.in_features, largest.out_features


def matmul_limit(shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> float:
    """GFLOP/s of one matrix product of `shape` (rows, in, out), by its fastest run of about half a second.

    Through the faster of the CPU's libraries, as encode does it, and with nothing else in between.
    """
    rows, inner, outer = shape
    linear = nn.Linear(inner, outer, bias=False, device=device, dtype=dtype)
    x = torch.randn(rows, inner, device=device, dtype=dtype)
    best = float("inf")
    with torch.inference_mode(), fast_linears(linear):
        linear(x)
        end = time.perf_counter() + LIMIT_SECONDS
        while time.perf_counter() < end:
            _wait(device)
            started = time.perf_counter()
            linear(x)
            _wait(device)
            best = min(best, time.perf_counter() - started)
    return 2 * rows * inner * outer / best / 1e9


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
