"""Faster fp32 matrix products for inference on CPUs whose default BLAS is not tuned for them.

torch's CPU builds hand fp32 `Linear` to MKL, which runs a slower code path on CPUs of other makers; oneDNN, in
the same build, does not (docs/lab-notes.md: 2.1 times on an AMD EPYC with AVX-512). Which one is faster here is
measured once, in milliseconds. The results differ by rounding only.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def fast_linears(model: nn.Module) -> Iterator[None]:
    """Within this context the fp32 CPU `nn.Linear` modules of `model` compute through oneDNN, where that is faster.

    For inference only: oneDNN's operator has no gradient. The modules are as before afterwards.
    """
    parameter = next(model.parameters(), None)
    if parameter is None or parameter.device.type != "cpu" or not onednn_is_faster():
        yield
        return
    linears = [
        m
        for m in model.modules()
        if type(m) is nn.Linear and m.weight.dtype == torch.float32 and "forward" not in m.__dict__
    ]
    try:
        for linear in linears:
            linear.forward = functools.partial(_onednn, linear)  # type: ignore[method-assign]
        yield
    finally:
        for linear in linears:
            linear.__dict__.pop("forward", None)


@functools.cache
def onednn_is_faster() -> bool:
    """Whether oneDNN beats `torch.nn.functional.linear` by over 10% on a typical fp32 product on this CPU."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    linear = nn.Linear(768, 768, bias=False)
    x = torch.randn(256, 768)
    try:
        with torch.inference_mode():
            ratio = _median_seconds(lambda: nn.functional.linear(x, linear.weight)) / _median_seconds(
                lambda: _onednn(linear, x)
            )
    except RuntimeError:
        return False
    return ratio > 1.1


def _onednn(linear: nn.Linear, x: Tensor) -> Tensor:
    if x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return nn.functional.linear(x, linear.weight, linear.bias)
    return torch.ops.mkldnn._linear_pointwise(x, linear.weight, linear.bias, "none", [], "")


def _median_seconds(run: Callable[[], object], repeats: int = 7) -> float:
    run()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)[repeats // 2]
