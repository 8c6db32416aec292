"""What the MNTP tests share: a bidirectional encoder of a folder, small recipes, and the golden arrays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.encoder import Encoder
from llm2vec.corpus import Texts
from llm2vec.encoder import load
from llm2vec.mntp import blocks_of, fit_mntp
from llm2vec.mntp_recipe import MntpConfig

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "llm2vec"


def bidirectional(folder: str | Path, **options: Any) -> Encoder:
    """LLM2Vec's encoder on a folder, fp32, on the CPU."""
    return load(str(folder), **{"dtype": "float32", "device": "cpu", **options})


def recipe(out: Path, **changes: Any) -> MntpConfig:
    """A quick recipe: fp32, no warm-up, no reports."""
    settings: dict[str, Any] = {
        "train_name_or_path": "texts", "batch_size": 4, "epochs": 1, "learning_rate": 5e-3, "logging_steps": 1,
        "bf16": False, "report_to": ["none"], "max_length": 24, "save_strategy": "no", "lora_r": 4,
        "eval_steps": 1000,
    }  # fmt: skip
    return MntpConfig(output_dir=out, **{**settings, **changes})


# Documents of 1 to 17 words in no order, so that batches hold different numbers of labels.
TEXTS = Texts([" ".join(f"w{(5 * i + 3 * j) % 90}" for j in range(1 + (7 * i) % 17)) for i in range(40)], "texts")
VALID = Texts([" ".join(f"w{(11 * i + j) % 90}" for j in range(12)) for i in range(6)], "held out")
# All tokens are masked, so that nothing is random; plain SGD shows the size of a gradient.
EXACT: dict[str, Any] = {
    "mlm_probability": 1.0, "data_collator_type": "all_mask", "line_by_line": True, "lora_dropout": 0.0,
    "optim": "sgd", "learning_rate": 0.5, "max_grad_norm": 0.0,
}  # fmt: skip


def run(
    out: Path, *, valid: bool = False, model: str | Path = GOLDEN / "tiny_llama", texts: Texts = TEXTS, **changes: Any
) -> Encoder:
    """Train on texts, in this process."""
    config = recipe(out, **changes)
    torch.manual_seed(0)
    encoder = bidirectional(model)
    held_out = blocks_of(VALID, encoder, config) if valid else None
    return fit_mntp(encoder, blocks_of(texts, encoder, config), config, valid=held_out)


def run_of_several(out: Path, changes: dict[str, Any]) -> None:
    """`run`, as one of several processes calls it."""
    run(out, valid=True, **changes)


def summary(out: Path) -> dict[str, Any]:
    """`training.json` of a training."""
    return json.loads((out / "training.json").read_text(encoding="utf-8"))


def recorded(name: str) -> dict[str, torch.Tensor]:
    """A golden file's arrays."""
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}
