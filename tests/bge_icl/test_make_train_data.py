"""bge_icl/make_train_data.py: rows from small sets, without what the test sets hold, as training reads them."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_retrieval import make_sets, write_rows

from bge_icl.make_train_data import PROMPTS, TrainDataConfig, lexical_negatives, main, without_test_texts
from bge_icl.make_train_data import test_texts as texts_of_tests
from bge_icl.train_data import read_data
from common.errors import InputError
from common.overlap import key

TRIPLETS = [("a man plays", "a man is at play", "nobody plays"), ("a dog runs", "an animal moves", "a dog sleeps")]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small sets; two triplets, and three more of which a sentence is in a test set."""
    root = make_sets(tmp_path_factory.mktemp("sets"))
    leaks = [
        ("What is rain?", "x y", "z"),  # a question of WikiQA test, tokenised otherwise
        ("fine", "ALL about bread and bread .", "z"),  # a document of NFCorpus
        ("also fine", "well", "bread was found in 1801 ."),  # its only negative is a sentence of SQuAD test
    ]
    triplets = [dict(zip(("sent0", "sent1", "hard_neg"), row)) for row in (*TRIPLETS, *leaks)]
    write_rows(root / "nli_train" / "all_triplets.jsonl.gz", triplets)
    return root


@pytest.fixture(scope="module")
def made(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Folder and printed words of a run."""
    folder = tmp_path_factory.mktemp("made") / "rows"
    with contextlib.redirect_stdout(io.StringIO()) as out:
        main(TrainDataConfig(data_dir=data_dir, output=folder, negatives=2, skip_nearest=1))
    return folder, out.getvalue()


def rows_of(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_file_per_set_that_training_reads(made: tuple[Path, str]) -> None:
    folder, _ = made
    assert sorted(p.name for p in folder.iterdir()) == [f"{name}.jsonl" for name in sorted(PROMPTS)]
    rows = read_data([str(folder)])
    assert {row["dataset"] for row in rows.rows} == set(PROMPTS)
    for row in rows.rows:
        assert row["instruction"] == PROMPTS[row["dataset"]]
        assert row["type"] == ("only_1neg" if row["dataset"] == "nli" else "normal")
        assert row["negative"]
        assert not set(row["negative"]) & set(row["positive"])


def test_rows_are_those_of_the_training_parts(made: tuple[Path, str]) -> None:
    folder, _ = made
    assert {row["query"] for row in rows_of(folder, "scifact")} == {
        f"claims on {topic}" for topic in ("glass", "salt", "wool", "light", "clay", "steam")
    }
    glass = next(row for row in rows_of(folder, "scifact") if row["query"] == "claims on glass")
    assert glass["pos"] == ["On glass All about glass and glass.", "On salt All about salt and salt."]
    assert len(glass["neg"]) == 2
    wikiqa = next(row for row in rows_of(folder, "wikiqa") if row["query"] == "what is glass ?")
    assert wikiqa["pos"] == ["glass is a thing ."]
    assert set(wikiqa["neg"]) == {f"{topic} is a thing ." for topic in ("salt", "wool", "light")}
    assert {row["pos"][0][-6:] for row in rows_of(folder, "squad")} == {f"{1806 + i} ." for i in range(6)}
    assert [(r["query"], *r["pos"], *r["neg"]) for r in rows_of(folder, "nli")] == TRIPLETS


def test_texts_of_the_test_sets_are_left_out_and_counted(made: tuple[Path, str], data_dir: Path) -> None:
    folder, out = made
    held = set().union(*texts_of_tests(data_dir).values())
    for name in PROMPTS:
        for row in rows_of(folder, name):
            assert not {key(text) for text in (row["query"], *row["pos"], *row["neg"])} & held
    report = json.loads((folder.parent / "rows.overlap.json").read_text(encoding="utf-8"))
    assert set(report) == set(PROMPTS)
    assert (report["nli"]["rows"], report["nli"]["rows dropped"], report["nli"]["negatives dropped"]) == (2, 3, 1)
    assert [report["nli"][name] for name in ("SciFact test", "NFCorpus", "WikiQA test", "SQuAD test")] == [0, 1, 1, 1]
    assert report["wikiqa"]["questions without a wrong sentence, left out"] == 0
    assert " 3 " in next(line for line in out.splitlines() if " nli " in line)


def test_what_training_would_read_besides_is_refused(
    program: Callable[..., Any], data_dir: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows"
    call = ("bge_icl/make_train_data.py", "--data_dir", data_dir, "--output", rows, "--sets")
    for _ in range(2):  # a second run writes its own files anew
        assert program(*call, "nli", "wikiqa").code == 0
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    fewer = program(*call, "nli")
    assert fewer.code == 2
    assert (
        f"{rows / 'wikiqa.jsonl'}: is not of this run (--sets nli), and training would read it, too; remove it"
        in fewer.err
    )
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    (rows / "wikiqa.jsonl").unlink()
    (rows / "notes.txt").write_text("no data")
    assert program(*call, "nli").code == 0
    assert {row["dataset"] for row in read_data([str(rows)]).rows} == {"nli"}


@pytest.mark.parametrize("name", ["other.jsonl", "nli.jsonl.gz", "below/nli.jsonl", "old.csv"])
def test_data_of_others_in_the_folder_are_refused(name: str, data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("")
    (tmp_path / "z.json").write_text("")
    with pytest.raises(InputError, match=rf"{name} \(and 1 more\): is not of this run"):
        main(TrainDataConfig(data_dir=data_dir, output=tmp_path, sets=["nli"]))


def test_negatives_of_the_test_sets_go_and_the_row_stays() -> None:
    rows = [{"query": "q", "pos": ["p"], "neg": ["Held!", "other"]}, {"query": "held", "pos": ["p"], "neg": []}]
    kept, counts = without_test_texts(rows, {"some test": {"held"}})
    assert kept == [{"query": "q", "pos": ["p"], "neg": ["other"]}]
    assert counts == {"rows dropped": 1, "negatives dropped": 1, "some test": 1}


def test_negatives_share_words_and_are_never_right() -> None:
    texts = ["red apples", "red apples ripen", "red cars", "blue water", "green water"]
    assert lexical_negatives(["red apples"], [{0}], texts, 2, 0) == [["red apples ripen", "red cars"]]
    assert lexical_negatives(["red apples"], [{0}], texts, 1, 1) == [["red cars"]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data_dir", "nowhere"], "--data_dir nowhere: no such folder"),
        (["--sets", "nlu"], "--sets nlu: is none of scifact, wikiqa, squad, nli"),
        (["--negatives", "0"], "--negatives 0: must be at least 1"),
        (["--skip_nearest", "-1"], "--skip_nearest -1: must be at least 0"),
    ],
)
def test_wrong_use(program: Callable[..., Any], tmp_path: Path, words: list[str], message: str) -> None:
    done = program("bge_icl/make_train_data.py", "--output", tmp_path / "rows", *words)
    assert done.code == 2
    assert message in done.err
    assert not list(tmp_path.iterdir())


def test_a_set_that_is_not_there_is_named(program: Callable[..., Any], data_dir: Path, tmp_path: Path) -> None:
    empty = tmp_path / "data"
    empty.mkdir()
    done = program("bge_icl/make_train_data.py", "--data_dir", empty, "--output", tmp_path / "rows")
    assert (done.code, "scifact/queries.test.jsonl.gz: no such file" in done.err) == (2, True)
    assert not (tmp_path / "rows").exists()
