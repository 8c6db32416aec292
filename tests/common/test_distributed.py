"""Two processes with half the batch each must train as one process with all of it does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_fixtures import labelled, run_processes, sentences, write_jsonl

from angle.encoder import load
from angle.fit import fit
from angle.recipe import AngleConfig
from common.data import load_rows
from common.distributed import gather, world_size

STEPS, BATCH = 4, 16
SGD: dict[str, Any] = {"optim": "sgd", "learning_rate": 0.05}
ADAMW: dict[str, Any] = {"optim": "adamw_torch", "learning_rate": 1e-3}
# name -> model, data, settings
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert-C-sgd": ("bert", "C", SGD),
    "bert-A-adamw": ("bert", "A", {**ADAMW, "cosine_w": 1.0}),
    "bert-A-sgd-cache": ("bert", "A", {**SGD, "cosine_w": 1.0, "grad_cache_tokens": 20}),
    "llama-C-adamw": ("llama", "C", ADAMW),
    "llama-C-adamw-cache": ("llama", "C", {**ADAMW, "grad_cache_tokens": 60}),
    "llama-C-sgd-cache-accumulated": (
        "llama", "C", {**SGD, "grad_cache_tokens": 60, "gradient_accumulation_steps": 2},
    ),
    "llama-C-adamw-checkpointing": ("llama", "C", {**ADAMW, "gradient_checkpointing": True}),
}  # fmt: skip
PER_DEVICE = {"per-device-C": ("bert", "C", SGD), "per-device-A": ("bert", "A", {**SGD, "cosine_w": 1.0})}


def train(name: str, folder: Path, processes: int, compat: tuple[str, ...] = ()) -> None:
    """Train one case; every process writes the parameters that it ends with."""
    kind, letter, settings = {**CASES, **PER_DEVICE}[name]
    config = AngleConfig(
        output_dir=folder / f"{name}-{processes}",
        batch_size=BATCH // processes,
        max_steps=STEPS,
        warmup_steps=0,
        logging_steps=1,
        lora_dropout=0.0,
        bf16=False,
        compat=list(compat),
        **settings,
    )
    torch.manual_seed(0)
    encoder = load(str(folder / kind), dtype="float32", pooling="mean", compat=compat)
    fit(encoder, load_rows(str(folder / f"{letter}.jsonl")), config)
    trained = {n: p.detach().numpy() for n, p in encoder.embedder.named_parameters() if p.requires_grad}
    rank = torch.distributed.get_rank() if processes > 1 else 0
    np.savez(folder / f"{name}-{processes}-{rank}.npz", **trained)


def train_all(folder: Path) -> None:
    """What each of two processes does."""
    for name in CASES:
        train(name, folder, 2)
    for name in PER_DEVICE:
        train(name, folder, 2, ("angle:per-device-negatives",))


def gather_some(folder: Path) -> None:
    """Gather rows of known values; the loss weighs every row by its square."""
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    x = torch.tensor([[1.0 + rank], [10.0 + rank]], requires_grad=True)
    together = gather(x)
    (together.squeeze(1) ** 2).sum().backward()
    assert x.grad is not None
    whole = gather(torch.tensor([rank, 7]))
    found = {
        "rows": together.tolist(),
        "gradient": x.grad.tolist(),
        "whole": whole.tolist(),
        "world": world_size(),
    }
    (folder / f"gather-{rank}.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path, tiny_bert_without_dropout: Path) -> Path:
    folder = tmp_path_factory.mktemp("two")
    (folder / "llama").symlink_to(tiny_llama)
    (folder / "bert").symlink_to(tiny_bert_without_dropout)
    write_jsonl(folder / "A.jsonl", labelled())
    write_jsonl(folder / "C.jsonl", sentences())
    run_processes(train_all, folder, folder=folder, count=2)
    return folder


def parameters(file: Path) -> dict[str, np.ndarray]:
    with np.load(file) as arrays:
        return dict(arrays)


def without_noise(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All but the key biases: softmax makes their gradient zero, so AdamW follows the sign of its rounding."""
    return {name: value for name, value in values.items() if not name.endswith("key.bias")}


def largest_difference(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    assert a.keys() == b.keys()
    assert a
    return max(float(np.abs(a[name] - b[name]).max()) for name in a)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_as_one(trained: Path, name: str) -> None:
    first, second = (parameters(trained / f"{name}-2-{rank}.npz") for rank in (0, 1))
    assert largest_difference(first, second) == 0.0
    train(name, trained, 1)
    alone = parameters(trained / f"{name}-1-0.npz")
    assert largest_difference(without_noise(first), without_noise(alone)) < (2e-5 if "adamw" in name else 1e-6)
    # and training did move them: the comparison is not one of two untrained models
    fresh = load(str(trained / CASES[name][0]), dtype="float32")
    start = {n: p.detach().numpy() for n, p in fresh.embedder.named_parameters()}
    moved = {n: v for n, v in alone.items() if "lora_B" in n or n in start}
    assert max(float(np.abs(v - start.get(n, np.zeros_like(v))).max()) for n, v in moved.items()) > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_log_what_one_does(trained: Path, name: str) -> None:
    if not (trained / f"{name}-1").exists():
        train(name, trained, 1)
    one, two = (json.loads((trained / f"{name}-{n}" / "training.json").read_text()) for n in (1, 2))
    assert len(one["loss"]) == STEPS
    assert [step for step, _ in one["loss"]] == [step for step, _ in two["loss"]]
    assert [loss for _, loss in two["loss"]] == pytest.approx([loss for _, loss in one["loss"]], abs=1e-4)
    assert (one["steps"], one["tokens"]) == (two["steps"], two["tokens"])


@pytest.mark.slow
@pytest.mark.parametrize("name", PER_DEVICE)
def test_per_device_negatives_train_otherwise(trained: Path, name: str) -> None:
    train(name, trained, 1)
    two, alone = (parameters(trained / f"{name}-{n}-0.npz") for n in (2, 1))
    assert largest_difference(two, alone) > 1e-4


@pytest.mark.slow
def test_the_first_process_alone_writes(trained: Path) -> None:
    folder = trained / "llama-C-adamw-2"
    assert (folder / "encoder.json").is_file()
    assert not list(folder.rglob(".*"))  # nothing half-written by a second writer
    assert "going on" not in (trained / "log-1.txt").read_text()
    assert len(list((folder / f"checkpoint-{STEPS}").glob("rng_state_*.pth"))) == 2


@pytest.mark.slow
def test_gathered_rows_and_their_gradient(tmp_path: Path) -> None:
    run_processes(gather_some, tmp_path, folder=tmp_path, count=2)
    for rank in (0, 1):
        found = json.loads((tmp_path / f"gather-{rank}.json").read_text())
        assert found["rows"] == [[1.0], [10.0], [2.0], [11.0]]
        assert found["whole"] == [0, 7, 1, 7]
        assert found["world"] == 2
        # the loss of both processes: DDP's mean over processes makes it the gradient of one
        assert found["gradient"] == [[2 * 2 * (1.0 + rank)], [2 * 2 * (10.0 + rank)]]


def test_alone_gather_is_the_identity() -> None:
    x = torch.ones(2, 3, requires_grad=True)
    assert world_size() == 1
    assert gather(x) is x
