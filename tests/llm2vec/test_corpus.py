"""Where the text for MNTP is from: files of several kinds, what ships, and a part held out."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from common.errors import InputError
from common.reading import SHIPPED, read_rows
from llm2vec import corpus
from llm2vec.corpus import Texts, has_validation_split, hold_out, read_texts, shipped_texts


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "hub_reachable", lambda: False)


def test_a_line_of_a_text_file_is_a_text(tmp_path: Path) -> None:
    content = "\ufeffone line\r\n\n  = Heading =\nlast"
    (tmp_path / "a.txt").write_bytes(content.encode())
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(content.encode()))
    expected = ["one line", "", "  = Heading =", "last"]
    assert read_texts(str(tmp_path / "a.txt")) == Texts(expected, str(tmp_path / "a.txt"))
    assert read_texts("b.txt.gz", data_dir=tmp_path).texts == expected


def test_of_rows_the_column_text_is_read_else_the_first(tmp_path: Path) -> None:
    rows = [{"id": "1", "text": "one"}, {"id": "2", "text": "two"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "a.csv").write_text("id,text\n1,one\n2,two\n")
    (tmp_path / "b.json").write_text(json.dumps([{"line": "one"}, {"line": "two"}]))
    for name in ("a.jsonl", "a.csv", "b.json"):
        assert read_texts(name, data_dir=tmp_path).texts == ["one", "two"], name
    assert read_texts(str(tmp_path / "a.csv"), rename={"id": "text", "text": "other"}).texts == ["1", "2"]


def test_what_is_no_text_is_named(tmp_path: Path, offline: None) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": 2}\n')
    with pytest.raises(InputError, match=r"a\.jsonl:2: column 'text' should be text, is int"):
        read_texts(str(tmp_path / "a.jsonl"))
    (tmp_path / "b.txt").write_bytes(b"fine\n\xff\n")
    with pytest.raises(InputError, match=r"b\.txt:2: not UTF-8"):
        read_texts(str(tmp_path / "b.txt"))
    (tmp_path / "c.txt").write_text("\n \n")
    with pytest.raises(InputError, match=r"c\.txt: holds no text"):
        read_texts(str(tmp_path / "c.txt"))
    with pytest.raises(InputError, match=r"no file nowhere\.txt or .*nowhere\.txt; check --train_file"):
        read_texts("nowhere.txt", data_dir=tmp_path)
    with pytest.raises(InputError, match="the hub does not answer; give --train_file FILE, or --shipped"):
        read_texts("Salesforce/wikitext")
    assert not has_validation_split("Salesforce/wikitext", None)


def test_rows_of_the_hub_are_read_in_batches_and_numbered() -> None:
    from datasets import Dataset

    data = Dataset.from_dict({"id": list(range(2500)), "text": [f"text {i}" for i in range(2500)]})
    found = list(corpus._numbered(data))
    assert found[0] == (1, {"id": 0, "text": "text 0"})
    assert [number for number, _ in found] == list(range(1, 2501))
    assert corpus._column(found, "s", None) == data["text"][:]


def test_a_local_file_has_no_split_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is not even asked."""
    monkeypatch.setattr(corpus, "hub_reachable", lambda: pytest.fail("asked"))
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n')
    assert not has_validation_split("a.jsonl", None, tmp_path)
    assert not has_validation_split(str(tmp_path / "a.jsonl"), None)


def test_the_shipped_text_is_that_of_the_training_files() -> None:
    found = shipped_texts()
    tests = {row["text"] for name in ("passages", "aspects") for _, row in read_rows(SHIPPED / f"{name}.jsonl")}
    triplets = [row for _, row in read_rows(SHIPPED / "triplets.jsonl")]
    questions = [row for _, row in read_rows(SHIPPED / "questions.jsonl")]
    assert not tests & set(found.texts)
    assert {row[c] for row in triplets for c in ("query", "positive", "negative")} <= set(found.texts)
    assert {row[c] for row in questions for c in ("text", "question")} <= set(found.texts)
    assert len(found.texts) == len(set(found.texts))


def test_the_first_percent_is_held_out() -> None:
    texts = Texts([str(i) for i in range(200)], "s")
    train, valid = hold_out(texts, 5)
    assert valid.texts == [str(i) for i in range(10)]
    assert train.texts == [str(i) for i in range(10, 200)]
    assert valid.source != train.source
    assert len(hold_out(Texts(["a", "b"], "s"), 5)[1].texts) == 1
    with pytest.raises(InputError, match="s: 1 texts are too few"):
        hold_out(Texts(["a"], "s"), 5)
