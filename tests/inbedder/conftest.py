"""Fixtures of InBedder's tests: what the original encoders computed, and the tiny models that they ran."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest


class Bytes:
    """The stub re-encoder of the golden README: counts of bytes by value mod 16, then the length."""

    def encode(self, sentences: list[str], *, show_progress_bar: bool | None = None) -> np.ndarray:
        rows = []
        for text in sentences:
            counts = np.bincount([b % 16 for b in text.encode("utf-8")], minlength=16)
            rows.append([*counts.tolist(), len(text)])
        return np.array(rows, dtype=np.float32).reshape(-1, 17)


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of recorded outputs and tiny models."""
    return Path(__file__).resolve().parents[1] / "golden" / "inbedder"


@pytest.fixture(scope="session")
def inputs(golden: Path) -> dict[str, Any]:
    """Texts, instruction, pattern, prompts, generations."""
    return json.loads((golden / "inputs.json").read_text("utf-8"))


@pytest.fixture(scope="session")
def arrays(golden: Path) -> Mapping[str, np.ndarray]:
    """The recorded arrays by name."""
    with np.load(golden / "encoders.npz") as loaded:
        return dict(loaded)


@pytest.fixture(scope="session")
def folders(golden: Path, arrays: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """llama, opt, roberta, and llama_eos, opt_eos: the same models with another EOS row of the head."""
    from safetensors.torch import load_file, save_file
    from torch import from_numpy

    found = {name: golden / f"tiny_{name}" for name in ("llama", "opt", "roberta")}
    for name in ("llama", "opt"):
        folder = tmp_path_factory.mktemp("eos") / f"tiny_{name}"
        shutil.copytree(found[name], folder)
        weights = load_file(folder / "model.safetensors")
        weights["lm_head.weight"][2] = from_numpy(arrays[f"{name}_eos/lm_head_row_2"])
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        found[f"{name}_eos"] = folder
    return found


@pytest.fixture
def face(folders: dict[str, Path]) -> Callable[..., Any]:
    """`face("llama_eos", "avg_gen_layer_2", ...)`: the released encoder of a golden model, fp32."""
    from inbedder import CausalLMEncoder, MaskedLMEncoder

    def make(name: str, output_value: str | None = None, **options: Any) -> Any:
        masked = name == "roberta"
        settings = {"mask_length": 3} if masked else {"max_new_tokens": 3, "do_sample": False}
        kind = MaskedLMEncoder if masked else CausalLMEncoder
        return kind(
            str(folders[name]),
            output_value=output_value,
            dtype="float32",
            device="cpu",
            reencoder=Bytes(),
            **{**settings, **options},
        )

    return make
