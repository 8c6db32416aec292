"""Studies: what is asked for, cells that run once and go on after an interruption, tables that say what they are."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import cells, study, study_tables
from benchmarks.report_inputs import read_inputs
from benchmarks.report_page import page
from benchmarks.study_plan import Budget, StudyConfig, cells_of, rows_of
from common.errors import InputError
from common.io import write_json

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
    with pytest.raises(InputError, match="--limit 1"):
        StudyConfig(**{**SMALL, "limit": 1})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"recipe": {"lorar": 16}}, "--recipe lorar: is no setting of the methods' trainings; did you mean 'lora_r'?"),
        ({"recipe": {"seed": 1}}, "--recipe seed: has a flag of its own here; leave it out and give --first_seed and"),
        ({"recipe": {"batch_size": 8}}, "--recipe batch_size: .* give --batch_size$"),
        ({"recipe": {"device": "cpu"}}, "--recipe device: .* give --device$"),
        ({"recipe": {"epochs": 2}}, "--recipe epochs: .* give --budget$"),
        ({"recipe": {"limit": 100}}, "--recipe limit: has no effect on the trainings of a study; leave it out"),
        ({"recipe": {"lora_r": "many"}}, '--recipe lora_r: "many" is not a whole number'),
        ({"recipe": {"lora_r": 0}}, "--recipe: --lora_r 0: must be at least 1"),
        ({"recipe": {"compat": ["no-such-quirk"]}}, "--compat no-such-quirk: no such switch"),
        ({"batch_size": 0}, "^--batch_size 0: must be at least 1"),
        ({"learning_rate": 0}, "^--learning_rate 0: must be above 0"),
    ],
)
def test_settings_that_no_training_takes_are_refused_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        StudyConfig(**{**SMALL, **settings})
    assert "\n" not in str(refused.value)


def test_a_recipe_has_the_types_of_a_training() -> None:
    recipe = {"lora_r": "16", "save_minutes": 3, "lora_target_modules": ["q_proj"], "bf16": None}
    config = StudyConfig(**SMALL, recipe=recipe)
    assert config.recipe == {**recipe, "lora_r": 16}
    assert type(config.recipe["save_minutes"]) is int, "as plans of earlier studies have it"


def test_a_refused_setting_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"--methods angle --train shipped:triplets --suite sts-shipped --output {tmp_path / 'o'} --recipe"
    with pytest.raises(SystemExit) as left:
        study.main([*words.split(), '{"lorar": 16}'])
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("python -m benchmarks study: error: --recipe lorar: is no setting")
    assert not (tmp_path / "o").exists()


def test_a_bad_training_row_is_told_before_anything_runs(tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text('{"text": "a", "positive": "b"}\n{"text": "c"}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"rows\.jsonl:2"):
        study.study(StudyConfig(**SMALL | {"train": str(data)}, output=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


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
    (trained, _) = rows["angle--trained"]["made"]
    assert trained["training"]["loss"] == json.loads((folder / "cells/angle--seed-42/train.json").read_text())["loss"]
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
    assert "The sources were changed" not in html
    done, plain = folder / "cells/angle--seed-44/cell.json", folder / "study.json"
    record = json.loads(done.read_text())
    assert record["training"]["sources"]
    write_json(done, record | {"sources": "others"})
    here.clear()
    settings = {**SMALL, "seeds": 3, "methods": ["angle"], "model": str(llama_folder), "output": folder}
    mixed, _ = study.study(StudyConfig(**settings))
    assert any(note.startswith("The sources were changed between the cells") for note in mixed["notes"])

    # as made before studies told of sources and of what was planned
    write_json(done, record | {"training": {k: v for k, v in record["training"].items() if k != "sources"}})
    old = json.loads(plain.read_text())
    del old["planned"]
    for made in (made for row in old["rows"] for made in row["made"]):
        made.pop("sources", None)
        (made["training"] or {}).pop("sources", None)
    write_json(plain, old)
    html = page(read_inputs([folder]), "A study")
    study.study(StudyConfig(**settings))
    assert here == []
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
    assert "0 to 1 of 1 seed," in document["title"]
    assert "Not finished, so not shown: angle--trained." in document["notes"]
    assert "No differences: the baseline angle--trained did not finish." in document["notes"]


def test_a_seed_that_failed_everywhere_is_told(
    llama_folder: Path, tmp_path: Path, here: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(step: str, folder: Path, run: Callable[..., None] = cells.in_own_process) -> None:
        if (step, folder.name) == ("train", "angle--seed-43"):
            raise InputError(f"{folder}: no memory")
        run(step, folder)

    monkeypatch.setattr(cells, "in_own_process", failing)
    settings = {**SMALL, "methods": ["angle"], "budget": ["1", "steps"]}
    document, _ = study.study(StudyConfig(**settings, model=str(llama_folder), output=tmp_path / "o"))
    assert "1 steps per training, 1 of 2 seeds, 30" in document["title"]
    assert "angle--trained: 1 of 2 seeds, without seed 43." in document["notes"]
    assert not any(note.startswith("No differences") for note in document["notes"])


def _document(commits: list[tuple[str, bool | None] | None]) -> dict[str, Any]:
    """What `notes_of` reads, of a study as the first version of this code wrote it."""
    made = {"training": {"seconds": 1.0}}
    return {
        **{"metric": "spearman", "baseline": None, "limited": False, "protocol": "senteval"},
        "environments": [{"git": c and {"commit": c[0], "dirty": c[1]}} for c in commits],
        "rows": [{"name": "angle--trained", "method": "angle", "trained": True, "seeds": [42], "made": [made]}],
    }


@pytest.mark.parametrize(
    ("commits", "note"),
    [
        ([None, ("aaaaaaaaaa", False)], None),
        ([("aaaaaaaaaa", None)], None),
        ([("aaaaaaaaaa", True)], "Made by 1 version of the code: aaaaaaaaa with uncommitted changes."),
        (
            [("b" * 10, False), ("aaaaaaaaaa", False), ("aaaaaaaaaa", True)],
            "Made by 2 versions of the code: aaaaaaaaa with uncommitted changes, bbbbbbbbb.",
        ),
    ],
)
def test_uncommitted_changes_are_told(commits: list[tuple[str, bool | None] | None], note: str | None) -> None:
    assert study_tables.notes_of(_document(commits))[1:] == ([note] if note else [])


def test_methods_have_sources_of_their_own() -> None:
    """Two methods never share a hash; two hashes of one are a change, zero-shot or trained."""
    document = _document([])
    a, b, c = ({"training": None, "sources": one} for one in "abc")
    trained = document["rows"][0] | {"made": [a, a]}
    bellm = trained | {"method": "bellm", "made": [b]}
    same, changed = ({"trained": False, "made": [one]} for one in (a, c))
    assert not study_tables.notes_of(document | {"rows": [trained, bellm, trained | same]})[1:]
    (note,) = study_tables.notes_of(document | {"rows": [trained, bellm, trained | changed]})[1:]
    assert "versions: angle (2);" in note
    during = trained | {"made": [a | {"training": {"sources": "c"}}]}
    assert "angle (2);" in study_tables.notes_of(document | {"rows": [during]})[1]


def test_minutes_become_the_same_tokens_for_all_seeds(llama_folder: Path, tmp_path: Path, here: list[str]) -> None:
    settings = {**SMALL, "methods": ["angle"], "budget": ["0.01", "minutes"]}
    config = StudyConfig(**settings, model=str(llama_folder), output=tmp_path / "o")
    document, _ = study.study(config)
    assert here[0] == "time angle"
    rate = json.loads((tmp_path / "o/timing/angle/time.json").read_text())["tokens_per_second"]
    recipes = [made["training"]["recipe"]["max_tokens"] for made in document["rows"][-1]["made"]]
    assert recipes == [max(1, int(rate * 60 * 0.01))] * 2  # rounded as there


def test_a_time_counts_for_its_own_plan_alone(llama_folder: Path, tmp_path: Path, here: list[str]) -> None:
    folder = tmp_path / "o"
    settings = {**SMALL, "methods": ["angle"], "seeds": 1, "budget": ["0.01", "minutes"], "output": folder}
    config = StudyConfig(**settings, model=str(llama_folder))
    study._budgets_in_tokens(config)
    study._budgets_in_tokens(config)
    assert here == ["time angle"]
    study._budgets_in_tokens(StudyConfig(**{**settings, "batch_size": 5}, model=str(llama_folder)))
    assert here == ["time angle"] * 2
    plan = json.loads((folder / "timing/angle/plan.json").read_text())
    assert plan["recipe"]["batch_size"] == 5

    (folder / "timing/angle/time.json").write_text('{"tokens_per_second": 1e9}')
    study._claim(config, "")
    study._claim(StudyConfig(**{**settings, "fresh": True}, model=str(llama_folder)), "")
    assert not (folder / "timing").exists()


def test_a_timing_that_is_cut_short_leaves_no_time_of_another_plan(
    llama_folder: Path, tmp_path: Path, here: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**SMALL, "methods": ["angle"], "budget": ["0.01", "minutes"], "output": tmp_path}
    study._budgets_in_tokens(StudyConfig(**settings, model=str(llama_folder)))

    def killed(step: str, folder: Path) -> None:
        raise KeyboardInterrupt

    other = StudyConfig(**{**settings, "batch_size": 5}, model=str(llama_folder))
    with monkeypatch.context() as patched:
        patched.setattr(cells, "in_own_process", killed)
        with pytest.raises(KeyboardInterrupt):
            study._budgets_in_tokens(other)
    study._budgets_in_tokens(other)
    assert here == ["time angle"] * 2
