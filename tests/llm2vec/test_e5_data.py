"""A folder of data sets with instructions: E5's, and any other."""

from __future__ import annotations

import gzip
import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from common.data import RowList
from common.errors import InputError
from llm2vec import e5_data
from llm2vec.e5_data import AS_RELEASED, data_folder, download_e5, e5_sets, folder_rows, with_pattern


def write(path: Path, count: int, **more: Any) -> None:
    """Rows whose texts say which they are."""
    name = path.name.split(".")[0]
    rows = [
        {"query": f"{name} q{i}", "positive": f"{name} p{i}", "negative": f"{name} n{i}", **more} for i in range(count)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode())) if path.suffix == ".gz" else path.write_text(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "nq.jsonl", 4)
    write(tmp_path / "allnli.jsonl", 5)
    write(tmp_path / "quora_duplicates.jsonl.gz", 20)
    (tmp_path / "README.md").write_text("no data")
    return tmp_path


def test_the_recorded_instructions(shared: Path) -> None:
    published = json.loads((shared / "published" / "llm2vec_train_instructions.json").read_text())
    assert {name: list(one.instructions) for name, one in e5_sets().items()} == published
    assert list(e5_sets()) == list(published)


def test_shares_and_symmetric_sets() -> None:
    shares = {name: one.share for name, one in e5_sets().items() if one.share != 1}
    assert shares == {
        "eli5_question_answer": 0.1, "msmarco_passage": 0.5, "msmarco_document": 0.2, "quora_duplicates": 0.1,
        "t2ranking": 0.5,
    }  # fmt: skip
    symmetric = {name: one.symmetric for name, one in e5_sets().items() if one.symmetric}
    assert symmetric == {"allnli": (False, True), "quora_duplicates": (True, True)}


def test_rows_carry_set_and_instruction(folder: Path) -> None:
    rows = folder_rows(folder)
    assert isinstance(rows, RowList)
    assert rows.columns == ("query", "positive", "negative")
    assert Counter(rows.sets) == {"allnli": 5, "nq": 4, "quora_duplicates": 20}
    assert [row["dataset"] for row in rows.rows[:5]] == ["allnli"] * 5  # in E5's order
    of_nq = next(row for row in rows.rows if row["query"] == "nq q2")
    assert of_nq == {
        "query": "nq q2", "positive": "nq p2", "negative": "nq n2", "dataset": "nq",
        "instruction": "Given a question, retrieve Wikipedia passages that answer the question:",
    }  # fmt: skip


def test_two_instructions_take_turns_by_the_row_of_the_whole_file(folder: Path) -> None:
    first, second = e5_sets()["allnli"].instructions
    found = [row["instruction"] for row in folder_rows(folder).rows if row["dataset"] == "allnli"]
    assert found == [f"{first}:", f"{second}:", f"{first}:", f"{second}:", f"{first}:"]
    turns = [f"{instruction}:" for instruction in e5_sets()["quora_duplicates"].instructions]
    every: list[dict[str, Any]] = [{}, *({"shares": True, "seed": seed} for seed in range(5))]
    for options in every:
        quora = [row for row in folder_rows(folder, **options).rows if row["dataset"] == "quora_duplicates"]
        assert len(quora) == (2 if options else 20)
        numbers = [int(row["query"].split("q")[-1]) for row in quora]
        assert [row["instruction"] for row in quora] == [turns[number % 2] for number in numbers]


def test_shares_are_drawn_by_the_seed(folder: Path) -> None:
    def drawn(seed: int) -> list[str]:
        return [row["query"] for row in folder_rows(folder, shares=True, seed=seed).rows]

    assert drawn(1) == drawn(1)
    assert len({tuple(drawn(seed)) for seed in range(5)}) > 1
    assert Counter(name.split()[0] for name in drawn(1)) == {"allnli": 5, "nq": 4, "quora_duplicates": 2}


def test_as_released_an_instruction_ends_in_a_semicolon(folder: Path) -> None:
    rows = folder_rows(folder, pattern=AS_RELEASED).rows
    assert all(row["instruction"].endswith(";") for row in rows)
    assert not any("document_instruction" in row for row in rows)


def test_by_the_paper_documents_of_symmetric_sets_are_instructed_too(folder: Path) -> None:
    rows = folder_rows(folder, doc_instruction="paper").rows
    instructed = [row for row in rows if "document_instruction" in row]
    assert Counter(row["dataset"] for row in instructed) == {"allnli": 2, "quora_duplicates": 20}
    assert all(row["document_instruction"] == row["instruction"] for row in instructed)
    assert {row["instruction"] for row in instructed if row["dataset"] == "allnli"} == {
        "Retrieve semantically similar text:"
    }


def test_a_limit_takes_of_every_set(folder: Path) -> None:
    rows = folder_rows(folder, limit=6).rows
    assert [row["query"] for row in rows] == [
        "allnli q0", "allnli q1", "nq q0", "nq q1", "quora_duplicates q0", "quora_duplicates q1",
    ]  # fmt: skip


def test_other_sets_bring_their_own_instructions(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "mine.jsonl", 2, instruction="Find it:")
    write(tmp_path / "plain.jsonl", 2)
    with caplog.at_level(logging.WARNING):
        rows = folder_rows(tmp_path).rows
    assert [row.get("instruction") for row in rows] == ["Find it:", "Find it:", None, None]
    assert [row["dataset"] for row in rows] == ["mine", "mine", "plain", "plain"]
    assert "not of E5, so without E5's instructions: mine, plain" in caplog.text
    assert folder_rows(tmp_path, pattern="<{instruction}>").rows[0]["instruction"] == "<Find it:>"


def test_columns_are_renamed(tmp_path: Path) -> None:
    (tmp_path / "nq.jsonl").write_text('{"question": "a", "answer": "b"}\n')
    rows = folder_rows(tmp_path, rename={"question": "query", "answer": "positive"})
    assert rows.columns == ("query", "positive")


def test_missing_sets_are_named(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder_rows(folder)
    assert "of E5's sets these are missing: dureader, eli5_question_answer," in caplog.text


def test_bad_data_are_said_with_their_place(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no data set"):
        folder_rows(tmp_path)
    write(tmp_path / "nq.jsonl", 2)
    (tmp_path / "squad.jsonl").write_text('{"query": "a", "positive": "b", "negative": ""}\n')
    with pytest.raises(InputError, match=r"squad\.jsonl:1: column 'negative' is empty"):
        folder_rows(tmp_path)
    (tmp_path / "squad.jsonl").write_text('{"query": "a", "positive": "b"}\n')
    with pytest.raises(
        InputError, match=r"squad\.jsonl: columns query, positive, but sets before have query, positive, n"
    ):
        folder_rows(tmp_path)


def test_a_folder_is_found_under_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EMBED_DATA", raising=False)
    (tmp_path / "echo").mkdir()
    assert data_folder("echo") is None
    assert data_folder("echo", tmp_path) == tmp_path / "echo"
    assert data_folder(str(tmp_path / "echo")) == tmp_path / "echo"
    monkeypatch.setenv("EMBED_DATA", str(tmp_path))
    assert data_folder("echo") == tmp_path / "echo"


def test_without_a_hub_the_default_data_are_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(e5_data, "hub_reachable", lambda: False)
    with pytest.raises(InputError, match="give --train_name_or_path"):
        download_e5()


def test_instructions_of_rows_are_written_as_asked() -> None:
    rows = RowList([{"query": "a", "positive": "b", "instruction": "Find"}, {"query": "c", "positive": "d"}], "mine")
    assert with_pattern(rows, "{instruction};").rows == [
        {"query": "a", "positive": "b", "instruction": "Find;"}, {"query": "c", "positive": "d"},
    ]  # fmt: skip
