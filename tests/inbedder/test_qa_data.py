"""Question-answer rows: every form of file, what is checked, and rows without questions."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from common.data import RowList, load_rows
from common.errors import InputError
from inbedder.prompts import DEFAULT_INSTRUCTION
from inbedder.qa_data import PRETRAIN_DATA, answered, load_qa, qa_row

ROWS: list[dict[str, Any]] = [
    {"instruction": "Which animal?", "input": "A cat sat there.", "output": "a cat"},
    {"instruction": "What is the capital of France?", "input": "", "output": "Paris"},
    {"instruction": "Which colour?", "output": ["the red", "scarlet"], "id": 3},
]
READ = [
    {"instruction": "Which animal?", "input": "A cat sat there.", "output": "a cat"},
    {"instruction": "What is the capital of France?", "input": "", "output": "Paris"},
    {"instruction": "Which colour?", "input": "", "output": ["the red", "scarlet"]},
]


@pytest.mark.parametrize("name", ["qa.json", "qa.jsonl", "qa.json.gz", "qa.jsonl.gz"])
def test_every_form_of_file(name: str, tmp_path: Path) -> None:
    lines = "\n".join(map(json.dumps, ROWS)) if "jsonl" in name else json.dumps(ROWS, indent=1)
    data = lines.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    rows = load_qa(name, data_dir=tmp_path)
    assert rows.rows == READ
    assert rows.source == str(tmp_path / name)
    assert load_qa(str(tmp_path / name), limit=2).rows == READ[:2]


def write(folder: Path, *rows: dict[str, Any]) -> str:
    (folder / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(folder / "qa.jsonl")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"output": "x", "input": "t"}, "no column 'instruction'"),
        ({"instruction": "Why?", "output": None}, "no column 'output'"),
        ({"instruction": " ", "output": "x"}, "'instruction' is empty"),
        ({"instruction": "Why?", "output": 3}, "'output' should be text, is int"),
        ({"instruction": "Why?", "output": ["x", None]}, "'output' should be text, is NoneType"),
        ({"instruction": ["Why?"], "output": "x"}, "'instruction' should be text, is list"),
        ({"instruction": "Why?", "input": 1.5, "output": "x"}, "'input' should be text, is float"),
    ],
)
def test_a_wrong_row_is_named(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    name = write(tmp_path, ROWS[0], row)
    with pytest.raises(InputError, match=message) as error:
        load_qa(name)
    assert f"{name}:2" in str(error.value)
    assert "\n" not in str(error.value)


def test_rows_without_an_answer_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The Alpaca data has 28 of them."""
    blank = [{**ROWS[0], "output": output} for output in ("", " ", [], ["", " "])]
    name = write(tmp_path, ROWS[0], *blank, {**ROWS[0], "output": ["", "x"]})
    assert [row["output"] for row in load_qa(name).rows] == ["a cat", ["x"]]
    assert f"4 rows without an answer are left out, first {name}:2" in caplog.text
    with pytest.raises(InputError, match="no row with an answer"):
        load_qa(write(tmp_path, *blank))


def test_columns_can_be_renamed(tmp_path: Path) -> None:
    name = write(tmp_path, {"question": "Who?", "context": "Ann came.", "answer": "Ann"})
    rows = load_qa(name, rename={"question": "instruction", "context": "input", "answer": "output"})
    assert rows.rows == [{"instruction": "Who?", "input": "Ann came.", "output": "Ann"}]


def test_missing_data_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"no file .*missing\.jsonl"):
        load_qa("missing.jsonl")
    monkeypatch.setattr("inbedder.qa_data.hub_reachable", lambda: False)
    with pytest.raises(InputError, match="the hub does not answer"):
        load_qa(PRETRAIN_DATA)


def test_a_hub_data_set_is_looked_up_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lookup itself is that of `datasets`; here it is asked for the right thing."""
    import datasets

    asked = []

    def load_dataset(name: str, subset: str | None, split: str) -> Any:
        asked.append((name, subset, split))
        return datasets.Dataset.from_list(ROWS[:2])

    monkeypatch.setattr("inbedder.qa_data.hub_reachable", lambda: True)
    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    assert load_qa(PRETRAIN_DATA).rows == READ[:2]
    assert asked == [(PRETRAIN_DATA, None, "train")]


# -- answered --------------------------------------------------------------------------------------------


def test_answers_are_simplified_unless_not() -> None:
    rows = RowList(READ, "mem")
    assert [row["output"] for row in answered(rows).rows] == ["cat", "Paris", ["red", "scarlet"]]
    assert answered(rows, simplified=False).rows == READ
    assert rows.rows[0]["output"] == "a cat"  # the caller's stay


def test_triplets_become_questions_about_the_query() -> None:
    rows = load_rows("shipped:triplets", limit=3)
    found = answered(rows)
    for row, triplet in zip(found.rows, rows.rows):  # type: ignore[union-attr]
        assert (row["instruction"], row["input"]) == (DEFAULT_INSTRUCTION, triplet["query"])
        assert set(row["output"].split()) < set(triplet["positive"].split())
    own = RowList([{"query": ["q", "r"], "positive": ["p", "s"], "instruction": "Why?"}], "mem")
    assert answered(own, question="What?").rows == [{"instruction": "Why?", "input": "q", "output": ["p", "s"]}]
    assert (
        answered(RowList([{"query": "q", "positive": "p"}], "mem"), question="What?").rows[0]["instruction"] == "What?"
    )


def test_pairs_may_come_from_a_file(tmp_path: Path) -> None:
    name = write(tmp_path, {"anchor": "A cat.", "positive": "An animal.", "negative": "A car."})
    assert answered(load_qa(name)).rows == [
        {"instruction": DEFAULT_INSTRUCTION, "input": "A cat.", "output": "animal."}
    ]


def test_labelled_pairs_hold_no_answers() -> None:
    with pytest.raises(InputError, match="hold no answers"):
        answered(RowList([{"text1": "a", "text2": "b", "label": 1.0}], "mem"))


def test_a_row_alone() -> None:
    with pytest.raises(InputError, match="here:1: no column 'output'"):
        qa_row({"instruction": "x"}, "here:1")
