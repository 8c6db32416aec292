"""The two averages against every published row, and what a missing task does."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from inbedder.evaluation.averages import averages, nyt
from inbedder.evaluation.tasks import AWARENESS, GENERIC

# Our task -> the column of the authors' results.
COLUMNS = {
    "NYTTopicClustering": "nyt_topic_v",
    "NYTLocationClustering": "nyt_location_v",
    "IntentEmotion": "intent_emotion_hm",
    "InstructSTSBenchmark": "instruct_stsb_spearman",
    "AskUbuntuDupQuestions": "askubuntu_map",
    "SciDocsRR": "scidocsrr_map",
    "StackOverflowDupQuestions": "stackoverflow_map",
    "TwentyNewsgroupsClustering": "twentynewsgroups_v",
}
FULL = dict.fromkeys(COLUMNS, 50.0)


def test_both_averages_of_every_published_row(shared: Path) -> None:
    both = 0
    with open(shared / "published" / "inbedder_last_layer.csv", encoding="utf-8") as handle:
        for row in csv.DictReader(handle):
            scores = {task: float(row[column]) for task, column in COLUMNS.items() if row[column]}
            for name, value in averages(scores).items():
                published = row[f"{name}_avg"]
                assert (value is None) == (published == ""), row["model"]
                if value is not None:
                    assert value == pytest.approx(float(published), abs=0.02), row["model"]
                    both += 1
    assert both > 100


def test_the_two_are_named_and_differ() -> None:
    scores = {**FULL, "AskUbuntuDupQuestions": 90.0}
    assert averages(scores) == {"awareness": pytest.approx(50.0), "generic": pytest.approx(60.0)}


@pytest.mark.parametrize("left_out", [*AWARENESS, *GENERIC])
def test_a_partial_average_is_none(left_out: str) -> None:
    found = averages({name: score for name, score in FULL.items() if name != left_out})
    kind = "awareness" if left_out in AWARENESS else "generic"
    other = "generic" if kind == "awareness" else "awareness"
    assert found[kind] is None
    assert found[other] == pytest.approx(50.0)


def test_nyt_needs_both_of_its_tasks() -> None:
    assert nyt({"NYTTopicClustering": 80.0, "NYTLocationClustering": 40.0}) == pytest.approx(53.33, abs=0.01)
    assert nyt({"NYTTopicClustering": 80.0}) is None
