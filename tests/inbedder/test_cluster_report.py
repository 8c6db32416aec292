"""inbedder/cluster_report.py: CSV and summary of clusters."""

from __future__ import annotations

import csv

import numpy as np

from inbedder.cluster_report import agreement, file_names, inline, summary, write_csv
from inbedder.text_clusters import Cluster, Clustering

TEXTS = ["a cat, wet", 'say "dog"', "two\nlines | $x$", "ö"]


def clustering(assignment, *, labels=False, answers=("cat", "dog", "", "<b>")):
    groups = [tuple(np.flatnonzero(np.array(assignment) == k).tolist()) for k in range(max(assignment) + 1)]
    clusters = tuple(
        Cluster(
            members=group,
            answer_words=("cat|s", "wet"),
            text_words=("dog",),
            head_words=(),
            representatives=group[:2],
            words=("cat|s", "$wet$", "_"),
            components={"x": 1, "y|": 1} if labels else None,
            entropy=1.0 if labels else None,
        )
        for group in groups
    )
    vectors = np.random.default_rng(0).normal(size=(len(assignment), 8)).astype(np.float32)
    return Clustering("What, *exactly*?", clusters, np.array(assignment), vectors, answers, 50.0 if labels else None)


def test_csv_reads_back(tmp_path):
    found = clustering([0, 0, 1, 1])
    places = np.arange(8, dtype=float).reshape(4, 2)
    write_csv(tmp_path / "a.csv", TEXTS, found, places)
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == ["text", "cluster", "answer", "x", "y"]
    assert [row["text"] for row in rows] == TEXTS
    assert [row["cluster"] for row in rows] == ["1", "1", "2", "2"]
    assert [row["answer"] for row in rows] == list(found.answers)
    assert [(float(row["x"]), float(row["y"])) for row in rows] == [tuple(place) for place in places.tolist()]
    write_csv(tmp_path / "b.csv", TEXTS, clustering([0, 0, 1, 1], answers=None), places)
    assert ",1,," in (tmp_path / "b.csv").read_text("utf-8")


def test_summary_is_a_table_that_texts_cannot_break():
    found = [clustering([0, 0, 1, 1], labels=True), clustering([0, 1, 0, 1], answers=None)]
    text = summary(found, TEXTS, ["1-a", "2-b"], {"model": "m"}, ["topic", None])
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 * (2 + 2)
    bars = [line.replace(r"\|", "").count("|") for line in rows]
    assert bars == [7] * 4 + [5] * 4  # labels and entropy stand only where there are labels
    assert "V-measure against topic: 50.0" in text
    assert "- 1 and 2: -0.500" in text
    assert r"cat\|s, wet" in text
    assert r"- a cat, wet → cat" in text
    assert "![map of the texts](2-b.png)" in text
    assert "words of the model's head" not in text
    assert r"two lines \| \$x\$" in text


def test_agreement():
    same = [clustering([0, 0, 1, 1]), clustering([1, 1, 0, 0]), clustering([0, 1, 0, 1])]
    assert agreement(same) == [(0, 1, 1.0), (0, 2, -0.5), (1, 2, -0.5)]


def test_names_and_markup():
    assert file_names(["What is it?", "Was ist's? Ö"]) == ["1-what-is-it", "2-was-ist-s"]
    assert file_names(["..."]) == ["1"]
    assert file_names(["x" * 200])[0] == "1-" + "x" * 48
    assert file_names(["What is it?"], "entity-type") == ["1-entity-type"]
    assert inline("a\n<b> *c*|d") == r"a \<b\> \*c\*\|d"
