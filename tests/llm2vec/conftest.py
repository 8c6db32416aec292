"""Fixtures of LLM2Vec's tests: the golden folder, and adapters in the layout of the released ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def golden() -> Path:
    """What the original computed, and the tiny models that it ran."""
    return Path(__file__).resolve().parents[1] / "golden" / "llm2vec"


@pytest.fixture(scope="session")
def released(
    llama_folder: Path, lora_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Two folders as released: an MNTP model (adapter and the base's config.json together), a SimCSE adapter.

    Their keys are those of an adapter trained on the trunk: `base_model.model.layers.N...`, no second "model".
    """
    from safetensors.torch import load_file, save_file

    parent = tmp_path_factory.mktemp("released")
    mntp, simcse = parent / "tiny-mntp", parent / "tiny-mntp-unsup-simcse"
    for source, target in (("headed", mntp), ("other", simcse)):
        shutil.copytree(lora_folders[source], target)
        weights = load_file(target / "adapter_model.safetensors")
        weights = {k.replace("base_model.model.model.", "base_model.model."): v for k, v in weights.items()}
        assert all(k.startswith("base_model.model.layers.") for k in weights)
        save_file(weights, target / "adapter_model.safetensors")
        config = json.loads((target / "adapter_config.json").read_text())
        (target / "adapter_config.json").write_text(json.dumps({**config, "task_type": None}))
    shutil.copyfile(llama_folder / "config.json", mntp / "config.json")
    return mntp, simcse
