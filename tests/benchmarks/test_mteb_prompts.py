"""Which instruction a task gets, from the methods' own files, mteb, or a user's."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mteb
import pytest

from benchmarks.mteb_prompts import TaskPrompts, load_prompts, method_file, names, read_prompts
from common.errors import InputError
from common.registry import METHODS


def task(name: str, kind: str = "STS", prompt: Any = None) -> Any:
    return SimpleNamespace(name=name, type=kind, prompt=prompt)


def test_a_version_a_part_and_a_harder_set_take_the_tasks_instruction() -> None:
    assert "Touche2020" in list(names("Touche2020Retrieval.v3"))
    assert "ClimateFEVER" in list(names("ClimateFEVERHardNegatives.v2"))
    assert "CQADupstackRetrieval" in list(names("CQADupstackGamingRetrieval"))
    assert "STS12" not in list(names("STS13"))


@pytest.mark.parametrize(
    ("method", "file"),
    [("bge_icl", "bge_icl_task_instructions.json"), ("llm2vec", "llm2vec_mteb_instructions.json")],
)
def test_the_methods_own_instructions_are_the_published_ones(method: str, file: str, shared: Path) -> None:
    published = json.loads((shared / "published" / file).read_text(encoding="utf-8"))
    prompts = load_prompts("method", method)
    entries = published.get("tasks", published)
    assert len(entries) > 50
    for name, entry in entries.items():
        wanted = entry["instruction"] if isinstance(entry, dict) else entry
        assert prompts.of(mteb.get_task(name).metadata if name == "STS12" else task(name)).instruction == wanted


def test_a_task_without_a_published_instruction_takes_mtebs_in_the_methods_form() -> None:
    other = task("SomethingNew", "Retrieval", {"query": "Find the thing."})
    assert load_prompts("method", "llm2vec").of(other).instruction == "Find the thing:"
    assert load_prompts("method", "bge_icl").of(other).instruction == "Find the thing."
    assert load_prompts("mteb", "angle").of(other).instruction == "Find the thing."
    assert load_prompts("none", "llm2vec").of(other).instruction is None


def test_every_other_method_goes_without_instructions() -> None:
    for method in METHODS:
        found = method_file(method)
        assert (found is not None) == (method in ("bge_icl", "llm2vec")), method
    assert load_prompts("method", "sentence-transformer").of(task("STS12")).instruction is None


def test_bge_reads_both_sides_of_reranking_as_queries_and_leaves_classification_unnormalised() -> None:
    prompts = load_prompts("method", "bge_icl")
    assert prompts.of(task("AskUbuntuDupQuestions", "Reranking")).both_sides
    assert not prompts.of(task("SciFact", "Retrieval")).both_sides
    assert not prompts.of(task("Banking77Classification", "Classification")).normalized
    assert prompts.of(task("STS12")).normalized
    assert load_prompts("method", "llm2vec").of(task("AskUbuntuDupQuestions", "Reranking")).both_sides is False


def test_a_users_file_may_name_both_sides(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"SciFact": {"query": "q", "document": "d"}, "STS12": "s"}), encoding="utf-8")
    prompts = load_prompts(str(file), "angle")
    found = prompts.of(task("SciFact", "Retrieval"))
    assert (found.instruction, found.document, found.source) == ("q", "d", "mine.json: SciFact")
    assert prompts.of(task("STS13")).instruction is None


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"tasks": {"STS12": 1}}, "STS12: expected a text"),
        ({"tasks": {"STS12": {"passage": "x"}}}, "STS12: expected a text"),
        ({"tasks": {"STS12": "x"}, "other": "{}"}, "unknown key 'other'"),
        ({"tasks": {"STS12": "x"}, "others": "no place"}, "others: expected"),
        ({"tasks": {}}, "tasks is no object"),
    ],
)
def test_a_wrong_file_is_refused(content: Any, told: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match=told):
        read_prompts(file)


def test_no_such_file_is_named() -> None:
    with pytest.raises(InputError, match=r"--instructions nothing\.json: is no file"):
        load_prompts("nothing.json", "angle")


def test_the_fingerprint_follows_every_part() -> None:
    some = [
        TaskPrompts(),
        TaskPrompts({"STS12": "x"}),
        TaskPrompts(others="{}"),
        TaskPrompts(both_sides=frozenset({"STS"})),
        TaskPrompts(unnormalized=frozenset({"STS"})),
    ]
    assert len({prompts.fingerprint for prompts in some}) == len(some)
