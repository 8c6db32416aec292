"""bge_icl/train_data.py: the released format, its conventions, and errors that name file and row."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from bge_icl.recipe import IclConfig
from bge_icl.train_data import check_alike, checked_row, data_sets, read_data, triplets_as_rows
from common.data import RowList
from common.errors import InputError

ROW: dict[str, Any] = {"query": "q", "pos": ["p"], "neg": ["n1", "n2"], "prompt": "find", "type": "normal"}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def config(**changes: Any) -> IclConfig:
    return IclConfig(output_dir=Path("x"), **changes)


def test_a_row_in_our_words() -> None:
    row = checked_row({**ROW, "pos_scores": [5], "neg_scores": [1.5, 2], "category": None}, "f:1", "set")
    assert row == {
        "query": "q", "positive": ["p"], "negative": ["n1", "n2"], "instruction": "find", "type": "normal",
        "in_batch": True, "dataset": "set", "scores": [5.0, 1.5, 2.0],
    }  # fmt: skip
    assert checked_row({"query": "q", "pos": "p"}, "f:1", "set", prompt="i")["negative"] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "symetric_sts"}, "f.jsonl:7: type 'symetric_sts' is not known; did you mean symmetric_sts"),
        ({"pos": []}, "f.jsonl:7: pos is an empty list"),
        ({"pos": None}, "f.jsonl:7: pos is missing"),
        ({"neg": ["a", 3]}, r"f.jsonl:7: neg\[1\] is no text but int"),
        ({"neg": ["a", " "]}, r"f.jsonl:7: neg\[1\] is empty"),
        ({"query": None}, "f.jsonl:7: query is missing"),
        ({"query": ""}, "f.jsonl:7: query is empty"),
        ({"prompt": None}, "f.jsonl:7: no prompt"),
        ({"type": "symmetric_class", "neg": []}, "f.jsonl:7: neg is empty"),
        ({"type": "symmetric_clustering"}, "f.jsonl:7: no category"),
        ({"pos_scores": [1.0], "neg_scores": [1.0]}, "f.jsonl:7: neg_scores has 1 scores for 2 texts"),
        ({"pos_scores": ["x"], "neg_scores": [1, 2]}, r"f.jsonl:7: pos_scores\[0\] should be a number"),
        ({"in_batch_negatives": "no"}, "f.jsonl:7: in_batch_negatives should be true or false"),
        ({"train_group_size": 0}, "f.jsonl:7: train_group_size should be a whole number above 0"),
    ],
)
def test_errors_name_the_row(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        checked_row({**ROW, **change}, "f.jsonl:7", "set")


def test_files_folders_and_the_names_of_sets(tmp_path: Path) -> None:
    write(tmp_path / "data" / "b" / "nli.jsonl.gz", [{**ROW, "type": "only_1neg"}] * 2)
    write(tmp_path / "data" / "a.jsonl", [ROW] * 3)
    write(tmp_path / "one.json", [ROW])
    rows = read_data([str(tmp_path / "data"), str(tmp_path / "one.json")])
    assert [row["dataset"] for row in rows.rows] == ["a"] * 3 + ["b/nli"] * 2 + [str(tmp_path / "one")]
    assert [row["dataset"] for row in read_data(["data"], data_dir=tmp_path, limit=1).rows] == ["a", "b/nli"]


def test_missing_data_and_bad_lines_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file or folder"):
        read_data([str(tmp_path / "none.jsonl")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no data set"):
        read_data([str(tmp_path / "empty")])
    bad = write(tmp_path / "bad.jsonl", [ROW, {**ROW, "query": 3}])
    with pytest.raises(InputError, match=r"bad\.jsonl:2: query should be text, is int"):
        read_data([str(bad)])


def test_which_rows_have_in_batch_negatives(tmp_path: Path) -> None:
    """By type, by a column, and by the later release's name of a file or folder."""
    write(tmp_path / "banking_no_in_batch_neg.jsonl", [ROW])
    write(tmp_path / "some_no_in_batch_neg" / "x.jsonl", [ROW])
    write(tmp_path / "class.jsonl", [{**ROW, "type": "symmetric_class"}])
    write(tmp_path / "column.jsonl", [{**ROW, "in_batch_negatives": False}])
    write(tmp_path / "sts.jsonl", [{**ROW, "type": "symmetric_sts"}])
    found = {Path(row["dataset"]).name: row["in_batch"] for row in read_data([str(tmp_path)]).rows}
    assert found == {"banking_no_in_batch_neg": False, "x": False, "class": False, "column": False, "sts": True}
    rows = read_data([str(tmp_path / "sts.jsonl")])
    (released,) = data_sets(rows, config()).values()
    (paper,) = data_sets(rows, config(compat=["bge_icl:sts-no-in-batch"])).values()
    assert (released.in_batch, paper.in_batch) == (True, False)


def test_rows_of_a_set_must_be_alike() -> None:
    rows = [checked_row(ROW, "f:1", "f"), checked_row({**ROW, "type": "symmetric_sts"}, "f:2", "f")]
    with pytest.raises(InputError, match="f: row 2: type 'symmetric_sts', but rows before have 'normal'"):
        check_alike(rows, "f")
    rows = [checked_row(ROW, "f:1", "f"), checked_row({**ROW, "neg": []}, "f:2", "f")]
    with pytest.raises(InputError, match="row 2: some rows have neg and some have none"):
        check_alike(rows, "f")


@pytest.mark.parametrize(
    ("row", "group"),
    [
        ({"type": "normal", "neg": list("abcdefghij")}, 4),
        ({"type": "normal", "neg": ["a"]}, 2),
        ({"type": "normal", "neg": []}, 1),
        ({"type": "normal", "neg": list("abcdefghij"), "train_group_size": 6}, 6),
        ({"type": "only_1neg", "neg": list("abc")}, 2),
        ({"type": "symmetric_sts", "neg": list("abcdefghij")}, 5),
        ({"type": "symmetric_clustering", "neg": list("abcdefghij"), "category": "c"}, 5),
        ({"type": "symmetric_class", "neg": list("abcdefghij")}, 8),
        ({"type": "symmetric_class", "neg": list("ab")}, 3),
    ],
)
def test_size_of_a_group(row: dict[str, Any], group: int) -> None:
    rows = RowList([checked_row({**ROW, **row}, "f:1", "s")], "f")
    (found,) = data_sets(rows, config(train_group_size=4, symmetric_train_group_size=5, max_class_neg=7)).values()
    assert found.group == group


def test_size_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    made = config(batch_size=16, symmetric_batch_size=256)
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert made.batch_of(checked_row(ROW, "f:1", "s")) == 16
    assert made.batch_of(checked_row({**ROW, "type": "symmetric_sts"}, "f:1", "s")) == 32
    assert made.batch_of(checked_row({**ROW, "batch_size": 5}, "f:1", "s")) == 5


def test_triplets_become_rows() -> None:
    rows = RowList([{"query": ["q", "r"], "positive": "p", "negative": "n", "instruction": "own"},
                    {"query": "s", "positive": ["p", "o"], "negative": "n"}], "nli")  # fmt: skip
    found = triplets_as_rows(rows, "similar").rows
    assert [(r["query"], r["positive"], r["instruction"]) for r in found] == [
        ("q", ["p"], "own"), ("r", ["p"], "own"), ("s", ["p", "o"], "similar"),
    ]  # fmt: skip


@pytest.mark.shared
def test_the_released_samples_are_read(shared_data: Path) -> None:
    folder = shared_data / "flagembedding_examples"
    names = ("AmazonClassification", "Banking77Classification", "arXiv_title", "bioRXiv_title", "msmarco", "nli", "nq")
    rows = read_data([str(folder / f"{name}.jsonl.gz") for name in (*names, "sts")])
    kinds = {Path(name).name: one for name, one in data_sets(rows, config()).items()}
    assert len(rows) == 80
    assert kinds["arXiv_title"].kind == "symmetric_clustering"
    assert not kinds["arXiv_title"].in_batch
    assert (kinds["nli"].group, kinds["nq"].group, kinds["Banking77Classification"].group) == (2, 8, 8)
    assert all(len(r["scores"]) == len(r["positive"]) + len(r["negative"]) for r in rows.rows if "scores" in r)
