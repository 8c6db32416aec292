"""bge_icl/example_files.py: the published layout, what is wrong with a file, writing."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from bge_icl.example_files import find_file, read_examples, write_examples
from bge_icl.examples import Example
from common.errors import InputError

EXAMPLES = [Example("what is rain", "Water from clouds."), Example("what is salt", "Sodium chloride, “salt”.")]


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A folder laid out as the published one."""
    (tmp_path / "MTEB").mkdir()
    (tmp_path / "AIR-Bench" / "qa").mkdir(parents=True)
    (tmp_path / "AIR-Bench" / "long-doc").mkdir()
    rows = [{"query": e.query, "response": e.response} for e in EXAMPLES]
    for name in ("SciFact", "CQADupstackRetrieval"):
        (tmp_path / "MTEB" / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")
    for name in ("qa/msmarco", "long-doc/arxiv-gemini"):
        lines = [json.dumps({"query": e.query, "pos": e.response}) for e in EXAMPLES]
        (tmp_path / "AIR-Bench" / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("task", ["SciFact", "scifact", "msmarco", "arxiv-gemini", "CQADupstackGamingRetrieval"])
def test_the_published_layout(published: Path, task: str) -> None:
    assert read_examples(published, task) == EXAMPLES
    assert read_examples(find_file(published, task)) == EXAMPLES
    assert read_examples(published, task, count=1) == EXAMPLES[:1]


def test_a_folder_of_the_layout_itself(published: Path) -> None:
    assert read_examples(published / "MTEB", "SciFact") == EXAMPLES
    assert read_examples(published / "AIR-Bench", "msmarco") == EXAMPLES


def test_what_is_missing_is_said(published: Path) -> None:
    with pytest.raises(InputError, match=r"has no SciFacts\.json or SciFacts\.jsonl; did you mean SciFact\?"):
        read_examples(published, "SciFacts")
    with pytest.raises(InputError, match=r"has no Quora\.json or Quora\.jsonl; it has 4 files"):
        read_examples(published, "Quora")
    with pytest.raises(InputError, match="is a folder; name the task"):
        read_examples(published)
    with pytest.raises(InputError, match="no file or folder"):
        read_examples(published / "x", "SciFact")
    with pytest.raises(InputError, match="holds 2 examples, 3 were asked for"):
        read_examples(published, "SciFact", count=3)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"query": "a"}, r"needs query, response \(or pos\)"),
        ({"query": "a", "response": "b", "pos": "c"}, r"needs query, response \(or pos\)"),
        ({"query": "a", "respons": "b"}, "has query, respons"),
        ({"query": "a", "response": " "}, "example 1: its response is empty"),
        ({"query": "", "response": "b"}, "example 1: its query is empty"),
        ({"query": "a", "response": 3}, "response is no text"),
    ],
)
def test_wrong_rows(tmp_path: Path, row: dict[str, object], message: str) -> None:
    file = tmp_path / "Task.json"
    file.write_text(json.dumps([row]), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_examples(tmp_path, "Task")


def test_a_response_that_is_its_query(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As in some published files until November 2024."""
    file = tmp_path / "Task.json"
    file.write_text(json.dumps([{"query": "a", "response": "b"}, {"query": "c", "response": "c "}]), encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert len(read_examples(tmp_path, "Task")) == 2
    assert caplog.messages == [f"{file}: example 2: the response is the query itself"]


@pytest.mark.parametrize(("name", "key"), [("Task.json", "response"), ("Task.jsonl", "pos")])
def test_written_as_published(tmp_path: Path, name: str, key: str) -> None:
    own = [*EXAMPLES, Example("who", "she", instruct="Find her.")]
    write_examples(tmp_path / "new" / name, own)
    assert read_examples(tmp_path / "new", "task") == own
    text = (tmp_path / "new" / name).read_text(encoding="utf-8")
    rows = json.loads(text) if name.endswith("json") else [json.loads(line) for line in text.splitlines()]
    assert [list(row) for row in rows] == [["query", key], ["query", key], ["instruct", "query", key]]
    with pytest.raises(InputError, match="no examples to write"):
        write_examples(tmp_path / name, [])
    with pytest.raises(InputError, match=r"must end in .json or .jsonl"):
        write_examples(tmp_path / "Task.csv", own)
