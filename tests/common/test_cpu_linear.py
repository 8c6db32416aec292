from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from core_texts import distance
from torch import nn

from common import cpu_linear
from common.batching import pad
from common.cpu_linear import fast_linears, onednn_is_faster
from common.encoder import Encoder

SEQUENCES = [[5, 17, 33, 90], [7], [64, 22, 9, 41, 30, 12]]


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the fast path whatever this machine measures."""
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this torch has no oneDNN linear")
    monkeypatch.setattr(cpu_linear, "onednn_is_faster", lambda: True)


def replaced(model: nn.Module) -> int:
    return sum("forward" in m.__dict__ for m in model.modules() if isinstance(m, nn.Linear))


@pytest.mark.usefixtures("forced")
@pytest.mark.parametrize("kind", ["llama", "bert", "lora"])
def test_the_fast_path_equals_the_plain_one_and_leaves_no_trace(
    make_encoder: Callable[..., Encoder], lora_folders: dict[str, Any], kind: str
) -> None:
    adapter = {"backbone": {"adapter": str(lora_folders["trunk"]), "trainable_adapter": True}} if kind == "lora" else {}
    embedder = make_encoder("llama" if kind == "lora" else kind, **adapter).embedder
    batch = pad(SEQUENCES, 0)
    with torch.inference_mode():
        plain = embedder(*batch)
        with fast_linears(embedder):
            assert replaced(embedder) > 10
            fast = embedder(*batch)
        assert replaced(embedder) == 0
        assert torch.equal(embedder(*batch), plain)
    assert distance(fast, plain) < 1e-5
    embedder(*batch).sum().backward()  # the gradient is there again


@pytest.mark.usefixtures("forced")
def test_modules_are_restored_after_an_error() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    seen: list[int] = []

    def fail() -> None:
        with torch.inference_mode(), fast_linears(model):
            seen.append(replaced(model))
            model(torch.zeros(2, 5))

    with pytest.raises(RuntimeError):
        fail()
    assert seen == [2]
    assert replaced(model) == 0


@pytest.mark.usefixtures("forced")
def test_other_precisions_and_other_kinds_of_linear_are_left_alone() -> None:
    class Scaled(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    model = nn.Sequential(nn.Linear(4, 4).bfloat16(), Scaled(4, 4))
    with fast_linears(model):
        assert replaced(model) == 0
    plain = nn.Linear(4, 4)
    x = torch.randn(3, 4)
    with torch.inference_mode(), fast_linears(plain), torch.autocast("cpu", torch.bfloat16):
        assert plain(x).dtype == torch.bfloat16  # autocast keeps its say


def test_nothing_happens_where_it_is_not_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_linear, "onednn_is_faster", lambda: False)
    model = nn.Linear(4, 4)
    with fast_linears(model):
        assert replaced(model) == 0


def test_the_measurement_answers_once() -> None:
    assert onednn_is_faster() in (True, False)
    assert onednn_is_faster.cache_info().currsize == 1
