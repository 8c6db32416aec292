"""scripts/llm2vec/steps.sh: all trainings and scores of the study, shortened, on a tiny model and the shipped data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
ROWS = {
    "1-causal": ("llm2vec", "causal"),
    "2-bidirectional": ("llm2vec", "bidirectional"),
    "3-mntp": ("llm2vec", "bidirectional"),
    "4-simcse": ("llm2vec", "bidirectional"),
    "5-llm2vec-supervised": ("llm2vec", "bidirectional"),
    "6-bellm-zero-shot": ("bellm", "{'bidirectional_from': 2}"),
    "7-bellm": ("bellm", "{'bidirectional_from': 2}"),
}


@pytest.mark.slow
def test_every_step_is_trained_scored_and_compared(llama_folder, tmp_path):
    settings = {"MODEL": str(llama_folder), "LIMIT": "12", "MNTP": "600", "SIMCSE": "600", "SUPERVISED": "600"}
    environment = {k: v for k, v in os.environ.items() if k not in ("DATA", "SUITE", "BiLLM_START_INDEX")}
    done = subprocess.run(
        ["bash", str(REPO / "scripts" / "llm2vec" / "steps.sh")],
        cwd=tmp_path,
        env={**environment, **settings, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    name = llama_folder.name
    adapters = {}
    for row, (method, attention) in ROWS.items():
        result = json.loads((tmp_path / "results" / "steps" / name / row / "ShippedPairs.json").read_text())
        assert (result["method"], result["encoder"]["attention"], result["n"]) == (method, attention, 12), row
        adapters[row] = result["encoder"]["adapter"]
    assert [len(adapters[row]) for row in ROWS] == [0, 0, 1, 2, 2, 0, 1]  # MNTP lies below SimCSE and supervised
    tokens = {
        step: json.loads((tmp_path / "ckpts" / "steps" / name / step / "training.json").read_text())["tokens"]
        for step in ("mntp", "simcse", "supervised", "bellm")
    }
    assert all(count >= 600 for count in tokens.values()), tokens
    assert "every step against the one before it" in done.stdout
    assert done.stdout.count("Difference to") == 5
