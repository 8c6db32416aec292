"""inbedder/cluster_data.py: texts and labels from files."""

from __future__ import annotations

import gzip
import json

import pytest

from common.errors import InputError
from inbedder.cluster_data import read_data

ROWS = [{"text": "a cat", "kind": "x", "n": 1}, {"text": "a dog, wet", "kind": "y", "n": 2}]


def test_formats_and_labels(tmp_path):
    (tmp_path / "a.txt").write_text("a cat\na dog, wet\n")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    with gzip.open(tmp_path / "a.csv.gz", "wt") as handle:
        handle.write('text,kind,n\na cat,x,1\n"a dog, wet",y,2\n')
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    (tmp_path / "list.json").write_text(json.dumps([row["text"] for row in ROWS]))
    (tmp_path / "labels.txt").write_text("x\ny\n")
    (tmp_path / "labels.csv").write_text("label\nx\ny\n")
    texts = [row["text"] for row in ROWS]
    for name in ("a.txt", "list.json"):
        assert read_data(str(tmp_path / name), "text").texts == texts
    for name in ("a.jsonl", "a.csv.gz", "a.json"):
        found = read_data(str(tmp_path / name), "text", ["kind", "n"])
        assert (found.texts, found.labels) == (texts, {"kind": ["x", "y"], "n": ["1", "2"]})
    for name in ("labels.txt", "labels.csv"):
        file = str(tmp_path / name)
        assert read_data(str(tmp_path / "a.txt"), "text", [file]).labels == {file: ["x", "y"]}
        both = read_data(str(tmp_path / "a.jsonl"), "text", [file, "kind"])
        assert list(both.labels) == [file, "kind"]
    assert read_data(str(tmp_path / "a.jsonl"), "kind", ["kind"]).texts == ["x", "y"]


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("a.txt", "", {}, "a.txt: holds no text"),
        ("a.jsonl", "", {}, "a.jsonl holds no rows"),
        ("a.txt", "a\n\nb\n", {}, "a.txt:2: is empty"),
        ("a.csv", "body\nx\n", {}, r"a.csv:2: no column 'text' \(has body\); see --text_column"),
        ("a.csv", "text\nx\n", {"labels": ["kind"]}, r"a.csv:2: no column 'kind' \(has text\); see --labels"),
        ("a.jsonl", '{"text": 3}\n', {}, "a.jsonl:1: column 'text' should be text, is int"),
        ("a.jsonl", '{"text": "a", "k": null}\n', {"labels": ["k"]}, "a.jsonl:1: column 'k' is empty"),
        ("a.txt", "a\nb\n", {"labels": ["kind"]}, "has no columns; give a file"),
        ("a.txt", "a\nb\n", {"labels": ["no.txt"]}, "--labels no.txt: no such file"),
    ],
)
def test_what_is_wrong_is_named(name, content, options, message, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read_data(str(tmp_path / name), "text", **options)


def test_labels_of_another_length(tmp_path):
    (tmp_path / "a.txt").write_text("a\nb\n")
    (tmp_path / "l.txt").write_text("x\n")
    with pytest.raises(InputError, match=r"1 labels for the 2 texts of .*a\.txt"):
        read_data(str(tmp_path / "a.txt"), "text", [str(tmp_path / "l.txt")])


def test_what_is_neither_file_nor_on_the_hub(monkeypatch):
    monkeypatch.setattr("inbedder.cluster_data.hub_reachable", lambda: False)
    with pytest.raises(InputError, match="no such file, and the hub does not answer"):
        read_data("BrandonZYW/FeedbacksClustering", "text")
    with pytest.raises(FileNotFoundError):
        read_data("nowhere/a.jsonl", "text")
    with pytest.raises(FileNotFoundError):
        read_data("nowhere/a.txt", "text")
