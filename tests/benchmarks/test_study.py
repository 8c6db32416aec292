"""Studies: what is asked for, cells that run once and go on after an interruption, tables that say what they are."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import cells, study
from benchmarks.report_inputs import read_inputs
from benchmarks.report_page import page
from benchmarks.study_plan import Budget, StudyConfig, cells_of, rows_of
from common.errors import InputError

SMALL: dict[str, Any] = {
    "methods": ["angle", "bellm"],
    "train": "shipped:triplets",
    "budget": ["6", "steps"],
    "seeds": 2,
    "suite": "sts-shipped",
    "limit": 30,
    "samples": 50,
    "batch_size": 4,
    "max_length": 24,
}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Steps run in this process, where torch is loaded once; the list of those that ran."""
    ran: list[str] = []

    def in_this_process(step: str, folder: Path) -> None:
        ran.append(f"{step} {folder.name}")
        cells.run_step(cells.StepConfig(step, folder, steps=2))  # type: ignore[arg-type]

    monkeypatch.setattr(cells, "in_own_process", in_this_process)
    return ran


@pytest.mark.parametrize(
    ("words", "budget"),
    [
        (["200k", "tokens"], Budget(200_000, "tokens")),
        (["200000 tokens"], Budget(200_000, "tokens")),
        (["1.5M-tokens"], Budget(1_500_000, "tokens")),
        (["500", "steps"], Budget(500, "steps")),
        (["2.5", "minutes"], Budget(2.5, "minutes")),
    ],
)
def test_budgets(words: list[str], budget: Budget) -> None:
    assert Budget.of(words) == budget


@pytest.mark.parametrize("words", [["200000"], ["0", "tokens"], ["1.5", "steps"], ["ten", "minutes"], ["5", "hours"]])
def test_wrong_budgets(words: list[str]) -> None:
    with pytest.raises(InputError, match="--budget"):
        StudyConfig(**{**SMALL, "budget": words})


def test_wrong_use_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'angle'"):
        StudyConfig(**{**SMALL, "methods": ["angel"]})
    with pytest.raises(InputError, match="--baseline llm2vec: no such row; one of word-overlap"):
        StudyConfig(**SMALL, baseline="llm2vec")
    with pytest.raises(InputError, match="--recipe seed"):
        StudyConfig(**SMALL, recipe={"seed": 1})
    with pytest.raises(InputError, match="--limit 1"):
        StudyConfig(**{**SMALL, "limit": 1})


def test_floor_and_zero_shot_are_always_there_and_only_the_seed_differs() -> None:
    config = StudyConfig(**SMALL, reference=["minilm"])
    assert [row.name for row in rows_of(config)] == [
        *("word-overlap", "sentence-transformer--minilm", "angle--zero-shot", "bellm--zero-shot"),
        *("angle--trained", "bellm--trained"),
    ]
    assert config.baseline_row == "angle--trained"
    assert StudyConfig(**SMALL, baseline="word-overlap").baseline_row == "word-overlap"
    trained = [cell for row in rows_of(config) if row.trained for cell in cells_of(config, row)]
    assert len({cell.folder for cell in trained}) == 4
    recipes = [dict(cell.recipe or {}) for cell in trained]
    assert [recipe.pop("seed") for recipe in recipes] == [42, 43, 42, 43]
    assert all(recipe == recipes[0] for recipe in recipes)
    assert all(cell.evaluation == trained[0].evaluation for cell in trained)


def test_a_study(llama_folder: Path, tmp_path: Path, here: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """Runs, resumes, grows by a seed, refuses other settings, and makes a report."""
    folder = tmp_path / "out"
    config = StudyConfig(**SMALL, model=str(llama_folder), output=folder)
    document, failed = study.study(config)
    assert not failed
    assert len(here) == 2 + 2 * 4  # zero-shot rows are evaluated, each seed of a method is trained and evaluated
    assert document["title"].startswith("Study (CPU, limited): 6 steps per training, 2 seeds, 30 seeded pairs per task")
    rows = {row["name"]: row for row in document["rows"]}
    assert rows["angle--trained"]["cost"]["train_steps"] == 6
    assert rows["angle--trained"]["cost"]["trainable_parameters"] > 0
    assert len(rows["bellm--trained"]["scores"]["ShippedPairs"]["by_seed"]) == 2
    assert len(document["index"]["ShippedPairs"]) == 30
    assert "0 of " in document["leakage"]["summary"]
    stored = json.loads((folder / "cells/angle--seed-43/results/ShippedPairs.json").read_text())
    assert stored["index"] == document["index"]["ShippedPairs"]
    assert stored["score"] == rows["angle--trained"]["scores"]["ShippedPairs"]["by_seed"][1]

    here.clear()
    again, _ = study.study(config)
    assert here == []
    assert again["rows"] == [{**row, "cost": again["rows"][i]["cost"], "made": again["rows"][i]["made"]}
                             for i, row in enumerate(document["rows"])]  # fmt: skip

    (folder / "cells/bellm--seed-42/cell.json").write_text("{half")
    study.study(config)
    assert here == ["evaluate bellm--seed-42"]

    here.clear()
    more, _ = study.study(
        StudyConfig(**{**SMALL, "seeds": 3, "methods": ["angle"]}, model=str(llama_folder), output=folder)
    )
    assert here == ["train angle--seed-44", "evaluate angle--seed-44"]
    assert [row["name"] for row in more["rows"]] == ["word-overlap", "angle--zero-shot", "angle--trained"]
    with pytest.raises(InputError, match=r"holds another study \(batch_size 4 -> 5\)"):
        study.study(StudyConfig(**{**SMALL, "batch_size": 5}, model=str(llama_folder), output=folder))

    html = page(read_inputs([folder]), "A study")
    for row in more["rows"]:
        assert f'data-value="{row["name"]}"' in html
    assert "trained by: " in html


def test_an_interrupted_training_goes_on(
    llama_folder: Path,
    tmp_path: Path,
    here: list[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from common.training_callbacks import StopAtTokens

    recipe = {"save_strategy": "steps", "save_steps": 2}
    settings = {**SMALL, "methods": ["angle"], "seeds": 1, "recipe": recipe, "model": str(llama_folder)}
    config = StudyConfig(**settings, output=tmp_path / "out")
    whole = StudyConfig(**settings, output=tmp_path / "whole")

    def killed(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(StopAtTokens, "on_step_end", killed)
        with pytest.raises(KeyboardInterrupt):
            study.study(config)
    with caplog.at_level(logging.WARNING):
        document, failed = study.study(config)
    assert not failed
    assert "going on from" in caplog.text
    assert "checkpoint-4" in caplog.text
    score = document["rows"][-1]["scores"]["ShippedPairs"]["mean"]
    assert score == pytest.approx(study.study(whole)[0]["rows"][-1]["scores"]["ShippedPairs"]["mean"], abs=0.05)


def test_a_failing_cell_stops_no_other(
    llama_folder: Path, tmp_path: Path, here: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(step: str, folder: Path, run: Callable[..., None] = cells.in_own_process) -> None:
        if (step, folder.name) == ("train", "angle--seed-42"):
            raise InputError(f"{folder}: no memory")
        run(step, folder)

    monkeypatch.setattr(cells, "in_own_process", failing)
    config = StudyConfig(
        **{**SMALL, "seeds": 1, "budget": ["1", "steps"]}, model=str(llama_folder), output=tmp_path / "o"
    )
    document, failed = study.study(config)
    assert len(failed) == 1
    assert "no memory" in failed[0]
    assert [row["name"] for row in document["rows"]][-1] == "bellm--trained"
    assert document["baseline"] is None
    assert any("no memory" in note for note in document["notes"])


def test_minutes_become_the_same_tokens_for_all_seeds(llama_folder: Path, tmp_path: Path, here: list[str]) -> None:
    settings = {**SMALL, "methods": ["angle"], "budget": ["0.01", "minutes"]}
    config = StudyConfig(**settings, model=str(llama_folder), output=tmp_path / "o")
    document, _ = study.study(config)
    assert here[0] == "time angle"
    rate = json.loads((tmp_path / "o/timing/angle/time.json").read_text())["tokens_per_second"]
    recipes = [made["training"]["recipe"]["max_tokens"] for made in document["rows"][-1]["made"]]
    assert recipes == [max(1, int(rate * 0.6))] * 2
