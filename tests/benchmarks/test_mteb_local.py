"""mteb's tasks from local files: both layouts, what is refused, and the real sets against mteb's own counts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import mteb
import pytest
from small_mteb import TOPICS, write_banking, write_pairs, write_rows, write_scifact

from benchmarks import mteb_local
from benchmarks.mteb_tasks import get_tasks
from common.errors import InputError


def served(name: str, folder: Path) -> Any:
    (task,) = get_tasks(None, [name])
    local = mteb_local.find(task, folder)
    assert local is not None
    local.serve(task)
    assert task.data_loaded
    return task


def test_a_folder_in_mtebs_columns_serves_any_task(tmp_path: Path) -> None:
    rows = write_pairs(tmp_path, "BIOSSES")
    task = served("BIOSSES", tmp_path)
    assert [dict(row) for row in task.dataset["test"]] == rows


def test_a_folder_goes_through_the_tasks_own_transform(tmp_path: Path) -> None:
    write_rows(tmp_path / "TwitterURLCorpus/test.jsonl", [{"sent1": "a", "sent2": "b", "labels": 1}] * 2)
    assert served("TwitterURLCorpus", tmp_path).dataset["test"].column_names == ["sentence1", "sentence2", "labels"]


def test_a_retrieval_task_has_titles_and_only_judged_queries(tmp_path: Path) -> None:
    write_scifact(tmp_path)
    data = served("SciFact", tmp_path).dataset["default"]["test"]
    assert data["queries"]["id"][:] == list(TOPICS)
    assert data["relevant_docs"]["chess"] == {"chess-1": 1, "chess-2": 1}
    first = data["corpus"][0]
    assert (first["id"], first["title"]) == ("weather-1", "Weather")
    assert first["text"] == TOPICS["weather"][1]


def test_subsets_are_those_of_the_task(tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        write_rows(tmp_path / f"amazon_counterfactual/EN.{part}.jsonl", [{"text": part, "label": 0}])
    task = served("AmazonCounterfactualClassification", tmp_path)
    assert list(task.dataset) == ["en"]
    assert task.dataset["en"]["validation"]["text"][:] == ["valid"]


def test_clustering_sets_hold_stripped_subjects_of_the_stated_lengths(tmp_path: Path) -> None:
    subjects = ["Re: RE: the storm in the hills", "short", "x" * 121, "chess openings", "bread and butter"]
    rows = [{"subject": text, "label": f"group {i}"} for i, text in enumerate(subjects)]
    write_rows(tmp_path / "twenty_newsgroups/train.jsonl", rows)
    data = served("TwentyNewsgroupsClustering", tmp_path).dataset["test"]
    assert len(data) == 10
    for row in data:
        assert sorted(row["sentences"]) == ["bread and butter", "chess openings", "the storm in the hills"]
        assert {dict(zip(row["sentences"], row["labels"]))["the storm in the hills"]} == {"group 0"}
    assert len({tuple(row["sentences"]) for row in data}) > 1


def test_the_revision_says_local_and_follows_the_content(tmp_path: Path) -> None:
    rows = write_pairs(tmp_path)
    before = served("STS12", tmp_path).metadata.revision
    assert re.fullmatch("local-[0-9a-f]{12}", before)
    write_rows(tmp_path / "STS12/test.jsonl", rows[1:])
    assert served("STS12", tmp_path).metadata.revision != before
    assert not mteb.get_task("STS12").metadata.revision.startswith("local")


def test_an_empty_folder_has_nothing_and_half_a_task_is_an_error(tmp_path: Path) -> None:
    (task,) = get_tasks(None, ["SciFact"])
    assert mteb_local.find(task, tmp_path) is None
    write_scifact(tmp_path)
    (tmp_path / "scifact/qrels.test.jsonl").unlink()
    with pytest.raises(InputError, match=r"SciFact: .*qrels\.test.* is missing"):
        mteb_local.find(task, tmp_path)


def test_a_row_without_a_column_is_named(tmp_path: Path) -> None:
    write_banking(tmp_path)
    with (tmp_path / "banking77/test.jsonl").open("a", encoding="utf-8") as handle:
        handle.write('{"text": "no label"}\n')
    with pytest.raises(InputError, match=r"test\.jsonl:13: no label"):
        served("Banking77Classification", tmp_path)


@pytest.mark.parametrize("name", list(mteb_local.layouts()))
def test_the_real_sets_are_as_large_as_mtebs_or_say_how_they_differ(name: str, shared_data: Path) -> None:
    task = served(name, shared_data)
    local = mteb_local.find(task, shared_data)
    assert local is not None
    (subset,) = task.hf_subsets
    official = task.metadata.descriptive_stats["test"]
    official = official.get("hf_subset_descriptive_stats", {}).get(subset, official)
    data = task.dataset[subset]["test"] if subset in task.dataset else task.dataset["test"]
    if isinstance(data, dict):
        counts = (len(data["corpus"]), len(data["queries"]), sum(map(len, data["relevant_docs"].values())))
        known = (official["num_documents"], official["num_queries"])
        same = counts == (*known, official["relevant_docs_statistics"]["num_relevant_docs"])
    else:
        counts = len(data) if name != "TwentyNewsgroupsClustering" else sum(map(len, data["sentences"]))
        same = counts == official["num_samples"]
    assert same == local.complete, (counts, official)
    assert local.complete or local.differs
