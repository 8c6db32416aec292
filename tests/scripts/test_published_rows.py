"""scripts/PAPER: one command per published model and training, from any folder, with further flags passed on."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import re
import shlex
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

from benchmarks import published
from common import cli
from common.checkpoints import known_model
from inbedder.modes import GENERATING, split_name

REPO = Path(__file__).resolve().parents[2]
# Paper -> the published table of its own rows, and the text edits of its released evaluation.
STS = {"angle": ("angle-sts", "one-word-prompt"), "bellm": ("bellm-sts", "end-marks")}
PAPERS = (*STS, "llm2vec", "inbedder", "bge_icl")
STS_ROWS = [(paper, row) for paper, (table, _) in STS.items() for row in published.load(table).rows if row.is_target]
OTHERS = {"steps.sh", "fewshot.sh", "compare_speed.sh", "propose.sh"}  # no commands of published rows
SCRIPTS = [
    script
    for paper in PAPERS
    for script in sorted((REPO / "scripts" / paper).glob("*.sh"))
    if script.name not in OTHERS
]
TRAININGS = [script for script in SCRIPTS if script.name.startswith("train-")]
EVALUATIONS = [script for script in SCRIPTS if script not in TRAININGS and script.parent.name not in STS]


@cache
def all_rows() -> list[tuple[str, published.Row]]:
    return [(name, row) for name in published.names() for row in published.load(name).rows]


def in_tables(script: Path) -> list[tuple[str, published.Row]]:
    """The rows of all tables whose command is a script, maybe with further flags."""
    start = f"bash {script.relative_to(REPO)}"
    return [(name, row) for name, row in all_rows() if row.command == start or row.command.startswith(f"{start} ")]


def paper_of(script: Path) -> str:
    return script.parent.name


def label(value: Any) -> str | None:
    return f"{value.parent.name}/{value.stem}" if isinstance(value, Path) else getattr(value, "id", None)


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


def parsed(words: list[str]) -> Any:
    """The configuration that a program makes of a command line: PAPER/program.py, or -m benchmarks mteb."""
    if words[:3] == ["-m", "benchmarks", "mteb"]:
        from benchmarks.mteb_program import MtebConfig

        return cli.parse(MtebConfig, words[3:])
    program = Path(words[0]).relative_to(REPO)
    module = importlib.import_module(".".join(program.with_suffix("").parts))
    config_class = getattr(module, "EvalConfig", None) or get_type_hints(module.main)["config"]
    return cli.parse(config_class, words[1:], **module.OPTIONS)


@pytest.mark.parametrize(("paper", "row"), STS_ROWS, ids=label)
def test_every_own_row_of_sts_has_its_command(paper, row, tmp_path):
    script = REPO / "scripts" / paper / f"{row.id}.sh"
    assert row.command == f"bash scripts/{paper}/{row.id}.sh"
    program, *words = command(script, tmp_path, "--limit", "5")
    assert program == str(REPO / paper / "eval.py")
    config = parsed([program, *words])
    table, edits = STS[paper]
    assert config.output == REPO / "results" / table / row.id
    assert config.limit == 5
    assert config.suite == "sts"
    config.resolve()
    known = known_model(REPO / paper / "checkpoints.yaml", config.model_name_or_path, list(config.lora_name_or_path))
    assert known.options, "a released model, with its settings"
    assert config.prompt == known.options["template"]
    assert config.text_edits == ("none" if config.prompt == "{text}" else edits)


@pytest.mark.parametrize("script", EVALUATIONS, ids=label)
def test_an_evaluation_writes_where_its_tables_look(script, tmp_path):
    rows = in_tables(script)
    assert rows, "no published row names this script"
    config = parsed(command(script, tmp_path))
    folder = getattr(config, "output", None) or config.output_dir / "results"
    alone = [row for _, row in rows if " --output " not in row.command]
    assert {REPO / "results" / row.results for row in alone} == {folder}
    model = config.model if hasattr(config, "model") else config.model_name_or_path
    if "word-" not in script.name:
        assert known_model(REPO / paper_of(script) / "checkpoints.yaml", model, []).options, "a released model"
    assert getattr(config, "benchmark", None) in ("MTEB(eng, v1)", None)


def test_every_script_that_a_table_names_is_there():
    named = {word for _, row in all_rows() for word in re.findall(r"scripts/\S+\.sh", row.command)}
    assert [word for word in sorted(named) if not (REPO / word).is_file()] == []


def test_all_commands_of_the_tables_are_ones_that_their_programs_take(tmp_path):
    """Every command with flags of its own; of those that differ by the layer alone, the first of a table."""
    commands = {
        re.sub(r"_layer_\d+", "_layer_N", row.command): row.command
        for _, row in all_rows()
        if row.command.startswith("python -m ") or len(shlex.split(row.command)) > 2
    }
    assert len(commands) > 30
    scripts: dict[str, list[str]] = {}  # what each runs without further flags: those come last
    for line in commands.values():
        trained = None
        for part in line.split(" && "):
            words = shlex.split(part)
            if words[0] == "bash":
                if words[1] not in scripts:
                    scripts[words[1]] = command(REPO / words[1], tmp_path, GPUS="1")
                trained = getattr(parsed([*scripts[words[1]], *words[2:]]), "output_dir", None)
            elif words[:4] == ["python", "-m", "benchmarks", "mteb"]:
                config = parsed(words[1:])
                assert config.output == Path(words[-1])
                assert trained in (None, Path(config.model))
            elif words[:3] == ["python", "-m", "inbedder.eval"]:
                config = parsed([str(REPO / "inbedder" / "eval.py"), *words[3:]])
                assert config.method == "sentence-transformer" or trained == REPO / config.model_name_or_path
            elif words[:4] == ["python", "-m", "benchmarks", "transfer"]:
                from benchmarks.transfer import TransferConfig

                assert cli.parse(TransferConfig, words[4:]).output == Path(words[-1])
            else:
                from benchmarks.run import RunConfig

                assert words[:4] == ["python", "-m", "benchmarks", "run"]
                assert cli.parse(RunConfig, words[4:]).output == Path(words[-1])


# Why a row of InBedder's own models has no command, in the words of its note.
REASONS = (
    "no weights were released, and encoder-decoders are not supported",
    "no weights were released, and the bag-of-words objective was not published",
    "no weights were released, nor the ",
    "the adapter was not released, nor LoRA's ",
    "one answer is re-encoded here",
    "re-encoded by average_word_embeddings_komninos",
)
LAST = {"llama-2-7b": 32, "opt-350m": 24, "opt-1.3b": 24, "opt-2.7b": 32, "opt-6.7b": 32, "roberta-large": 24}


@pytest.mark.parametrize("name", [name for name in published.names() if name.startswith("inbedder")])
def test_a_command_of_inbedder_reads_what_its_row_is_of_or_the_note_says_why_there_is_none(name):
    commands = {}
    for row in published.load(name).rows:
        model, mode = row.labels["model"], row.labels["mode"]
        if row.role != "own" or "ml=" not in model:  # as the authors' results name them
            continue
        if row.command == "quoted":
            assert any(reason in row.note for reason in REASONS), row.id
            continue
        words = shlex.split(row.command)
        given = dict(itertools.pairwise(words))
        size = next(size for size in LAST if size in model.lower())
        masked, length = size == "roberta-large", int(model.partition("ml=")[2])
        assert (
            f"{size}-inbedder.sh" in words[1]
            or given["--model_name_or_path"].endswith(f"qa-{size}")
            or ("noprocess" in model and given["--model_name_or_path"].endswith(f"qa-noprocess-{size}"))
        ), row.id
        assert ("noprocess" in model) == ("noprocess" in row.command)
        read = given.get("--output_value")
        wanted = (mode, int(row.labels["layer"]) if mode != "re_encode" else None)
        assert (split_name(read) if read else ("answer_mean" if masked else "first", LAST[size])) == wanted, row.id
        assert given.get("--reencoder") == ("intfloat/e5-large-v2" if mode == "re_encode" else None)
        decoding = json.loads(given.get("--generation_configs", "{}"))
        generates = mode in GENERATING and not masked
        assert decoding.get("max_new_tokens") == (length if generates else None), row.id
        assert decoding.get("do_sample", False) == (generates and size == "llama-2-7b"), "OPT's were greedy"
        assert not masked or int(given.get("--mask_length", 3)) == length
        assert ("--robustness" in words) == (name == "inbedder-robustness")
        assert commands.setdefault(row.results, row.command) == row.command, "another reading in the same folder"
    assert commands


@pytest.mark.parametrize(("setting", "examples"), [("zero", "none"), ("few", "/somewhere")])
def test_zero_shot_has_no_examples_and_few_shot_those_that_are_given(setting, examples, tmp_path):
    for name in ("bge-en-icl", "bge-en-icl-e5data"):
        script = REPO / "scripts" / "bge_icl" / f"{name}-{setting}-shot.sh"
        config = parsed(command(script, tmp_path, EXAMPLES="/somewhere"))
        assert (config.examples, config.model_name_or_path) == (examples, f"BAAI/{name}")


@pytest.mark.parametrize("script", TRAININGS, ids=label)
def test_every_training_has_its_command(script, tmp_path):
    paper, run = paper_of(script), script.stem.removeprefix("train-")
    launcher, *words = command(script, tmp_path, "--epochs", "3")
    several = (launcher, words[0]) == ("-m", "torch.distributed.run")
    assert several == ("GPUS=${GPUS:-" in script.read_text(encoding="utf-8"))
    program, *words = command(script, tmp_path, "--epochs", "3", GPUS="1")
    assert Path(program).parent == REPO / paper
    config = parsed([program, *words])
    assert config.output_dir.parent == REPO / "ckpts"
    assert config.output_dir.name.endswith(run)
    assert config.epochs == 3
    assert command(script, tmp_path, "--dry_run")[0] == program  # one process is enough for that


@pytest.mark.parametrize("script", SCRIPTS, ids=label)
def test_a_script_says_what_it_needs(script):
    text = script.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert "\nset -euo pipefail\n" in text
    assert "\n# Needs: " in text
    assert "# Data: " in text or " Data: " in text
    assert text.endswith('"$@"\n')
    assert os.access(script, os.X_OK)
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("paper", PAPERS)
def test_every_recipe_has_a_script_and_nothing_else_lies_there(paper):
    scripts = {script.name for script in SCRIPTS if paper_of(script) == paper}
    evaluations = {f"{row.id}.sh" for owner, row in STS_ROWS if owner == paper}
    evaluations |= {script.name for script in EVALUATIONS if paper_of(script) == paper}
    configs = REPO / paper / "configs"
    recipes = {"-".join(file.relative_to(configs).with_suffix("").parts) for file in configs.rglob("*.yaml")}
    words = {f"{name.removeprefix('word-task-')}" for name in recipes if name.startswith("word-task-")}
    trainings = {f"train-{name}.sh" for name in recipes if not name.startswith("word-task-")}
    trainings |= {f"word-{name}.sh" for name in words}
    assert scripts == evaluations | trainings
    assert trainings <= scripts


def test_the_documentation_names_every_script():
    text = (REPO / "docs" / "reproducing.md").read_text(encoding="utf-8")
    named = set(re.findall(r"scripts/\S+?\.sh", text))
    missing = [str(s.relative_to(REPO)) for s in SCRIPTS if str(s.relative_to(REPO)) not in named]
    assert missing == []
    assert [name for name in sorted(named) if not (REPO / name).is_file()] == []


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


@pytest.mark.parametrize("script", SCRIPTS, ids=label)
def test_a_script_dry_runs_for_real(script, run_here, capsys, tmp_path):
    config = parsed(command(script, tmp_path, GPUS="1"))
    (tmp_path / "python").unlink()
    run_here(script, ["--dry_run"])
    printed = yaml.safe_load(capsys.readouterr().out)
    name = "model" if hasattr(config, "model") else "model_name_or_path"
    assert printed[name] == getattr(config, name) is not None
    for folder in ("output", "output_dir"):
        assert printed.get(folder) == (str(getattr(config, folder)) if hasattr(config, folder) else None)
    assert list(tmp_path.iterdir()) == []
