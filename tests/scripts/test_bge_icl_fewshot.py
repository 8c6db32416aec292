"""scripts/bge_icl/fewshot.sh: rows, two trainings and the study, shortened, on a tiny model and made-up sets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_retrieval import make_sets

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "bge_icl" / "fewshot.sh"


@pytest.mark.slow
def test_before_and_after_stand_in_one_table(llama_folder: Path, tmp_path: Path) -> None:
    settings = {"DATA": str(make_sets(tmp_path / "data")), "MODEL": str(llama_folder), "SETS": "scifact squad"}
    settings |= {
        "TESTS": "scifact",
        "EASY": "200",
        "ALL": "500",
        "BATCH": "4",
        "SHOTS": "0 1",
        "PYTHON": sys.executable,
    }
    done = subprocess.run(
        ["bash", str(SCRIPT)], cwd=tmp_path, env={**os.environ, **settings}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    trained = tmp_path / "ckpts" / "fewshot" / llama_folder.name
    easy, both = (json.loads((trained / name / "training.json").read_text()) for name in ("easy", "all"))
    assert easy["data"].endswith("rows/squad.jsonl")
    assert both["data"].endswith("rows")
    assert easy["tokens"] >= 200
    assert both["tokens"] >= 500
    table = json.loads((tmp_path / "results" / "fewshot" / llama_folder.name / "table.json").read_text())
    rows = [(row["model"], row["shots"]) for row in table["rows"]]
    assert rows == [(model, shots) for model in ("before", "after") for shots in (0, 1)]
    assert (tmp_path / "results" / "fewshot" / llama_folder.name / "study.png").is_file()


def test_data_is_asked_for() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "DATA"}
    done = subprocess.run(["bash", str(SCRIPT)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "set DATA to the folder of the data" in done.stderr
