"""scripts/PAPER: one command per published row and training, from any folder, with further flags passed on."""

from __future__ import annotations

import importlib
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import published
from common import cli
from common.checkpoints import known_model

REPO = Path(__file__).resolve().parents[2]
# Paper -> the published table of its own rows, and the text edits of its released evaluation.
TABLES = {"angle": ("angle-sts", "one-word-prompt"), "bellm": ("bellm-sts", "end-marks")}
ROWS = [(paper, row) for paper, (table, _) in TABLES.items() for row in published.load(table).rows if row.is_target]
SCRIPTS = [script for paper in TABLES for script in sorted((REPO / "scripts" / paper).glob("*.sh"))]
TRAININGS = [script for script in SCRIPTS if script.name.startswith("train-")]


def paper_of(script: Path) -> str:
    return script.parent.name


def command(script: Path, folder: Path, *words: str, **environment: str) -> list[str]:
    """What the script would run: its Python is replaced by a program that writes its words down."""
    fake = folder / "python"
    fake.write_text('#!/usr/bin/env bash\nprintf "%q " "$@"\n')
    fake.chmod(0o755)
    done = subprocess.run(
        ["bash", str(script), *words],
        cwd=folder,
        env={**os.environ, "PYTHON": str(fake), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return shlex.split(done.stdout)


def parsed(paper: str, program: str, words: list[str]) -> Any:
    """The configuration that a paper's program makes of a command line."""
    module = importlib.import_module(f"{paper}.{program}")
    return cli.parse(module.EvalConfig if program == "eval" else module.CONFIG, words, **module.OPTIONS)


@pytest.mark.parametrize(("paper", "row"), ROWS, ids=lambda value: getattr(value, "id", value))
def test_every_own_row_has_its_command(paper, row, tmp_path):
    script = REPO / "scripts" / paper / f"{row.id}.sh"
    assert row.command == f"bash scripts/{paper}/{row.id}.sh"
    program, *words = command(script, tmp_path, "--limit", "5")
    assert program == str(REPO / paper / "eval.py")
    config = parsed(paper, "eval", words)
    table, edits = TABLES[paper]
    assert config.output == REPO / "results" / table / row.id
    assert config.limit == 5
    assert config.suite == "sts"
    config.resolve()
    known = known_model(REPO / paper / "checkpoints.yaml", config.model_name_or_path, list(config.lora_name_or_path))
    assert known.options, "a released model, with its settings"
    assert config.prompt == known.options["template"]
    assert config.text_edits == ("none" if config.prompt == "{text}" else edits)


@pytest.mark.parametrize("script", TRAININGS, ids=lambda s: s.stem)
def test_every_training_has_its_command(script, tmp_path):
    paper, run = paper_of(script), script.stem.removeprefix("train-")
    launcher, *words = command(script, tmp_path, "--epochs", "3")
    assert (launcher, words[0]) == ("-m", "torch.distributed.run")
    assert words[2].startswith("--nproc_per_node=")
    program, *words = command(script, tmp_path, "--epochs", "3", GPUS="1")
    assert program == str(REPO / paper / "train.py")
    config = parsed(paper, "train", words)
    assert config.output_dir == REPO / "ckpts" / run
    assert config.epochs == 3
    assert command(script, tmp_path, "--dry_run")[0] == program  # one process is enough for that


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.stem)
def test_a_script_says_what_it_needs(script):
    text = script.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert "\nset -euo pipefail\n" in text
    assert "\n# Needs: " in text
    assert "# Data: " in text or " Data: " in text
    assert text.endswith('"$@"\n')
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize("paper", TABLES)
def test_nothing_else_lies_there(paper):
    evaluations = {f"{row.id}.sh" for owner, row in ROWS if owner == paper}
    trainings = {f"train-{file.stem}.sh" for file in (REPO / paper / "configs").glob("*.yaml")}
    assert {script.name for script in SCRIPTS if paper_of(script) == paper} == evaluations | trainings


def test_run_names_what_is_missing(tmp_path):
    script = str(REPO / "scripts" / "run.sh")
    none = subprocess.run(["bash", script, "angle/nothing.py"], capture_output=True, text=True, check=False)
    assert none.returncode == 2
    assert "no such program" in none.stderr
    module = subprocess.run(["bash", script, "-m"], capture_output=True, text=True, check=False)
    assert module.returncode != 0
    assert "-m needs a module" in module.stderr
    environment = {**os.environ, "PYTHON": str(tmp_path / "python")}
    bare = subprocess.run(
        ["bash", script, "angle/eval.py"], env=environment, capture_output=True, text=True, check=False
    )
    assert bare.returncode == 1
    assert "scripts/setup.sh" in bare.stderr


def test_a_row_dry_runs_for_real(tmp_path):
    done = subprocess.run(
        ["bash", str(REPO / "scripts" / "angle" / "angle-llama2-7b.sh"), "--dry_run"],
        cwd=tmp_path,
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "SeanLee97/angle-llama-7b-nli-20231027" in done.stdout
    assert list(tmp_path.iterdir()) == []
