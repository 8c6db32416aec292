"""The transfer tasks from JSON Lines and from SentEval's own files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from senteval import SentEvalError
from senteval.transfer_load import load_transfer
from senteval.transfer_tasks import OFFICIAL_TEXTS, TRANSFER_TASKS, transfer_name

POSITIVE, NEGATIVE = ["a fine  film .", "", "very good"], ["a dull film .", "bad"]
QUESTIONS = [("DESC:manner", "How did it\tbegin ?"), ("NUM:count", "How many are there ?")]
PAIRS = [("1", "A cat sat .", "A cat was sitting ."), ("0", "A dog “ ran .", "It rained .")]


def write(path: Path, text: str, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))


def write_jsonl(path: Path, records: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(json.dumps(record) + "\n" for record in records).encode()))


@pytest.fixture
def jsonl(tmp_path: Path) -> Path:
    home = tmp_path / "data" / "senteval_transfer"
    both = [{"text": text, "label": 1} for text in POSITIVE] + [{"text": text, "label": 0} for text in NEGATIVE]
    for name in ("MR", "CR", "SUBJ", "MPQA", "SST2.train", "SST2.dev", "SST2.test"):
        write_jsonl(home / f"{name}.jsonl.gz", both)
    for name in ("TREC.train", "TREC.test"):
        write_jsonl(home / f"{name}.jsonl.gz", [{"text": text, "label": c.split(":")[0]} for c, text in QUESTIONS])
    for name in ("MRPC.train", "MRPC.test"):
        write_jsonl(home / f"{name}.jsonl.gz", [{"s1": a, "s2": b, "label": int(c)} for c, a, b in PAIRS])
    return tmp_path / "data"


@pytest.fixture
def official(tmp_path: Path) -> Path:
    home = tmp_path / "official" / "downstream"
    sides = ("MR/rt-polarity.pos", "MR/rt-polarity.neg"), ("CR/custrev.pos", "CR/custrev.neg")
    sides += ("SUBJ/subj.objective", "SUBJ/subj.subjective"), ("MPQA/mpqa.pos", "MPQA/mpqa.neg")
    for positive, negative in sides:
        write(home / positive, "".join(text + "\n" for text in POSITIVE))
        write(home / negative, "".join(text + "\n" for text in NEGATIVE))
    both = [(text, 1) for text in POSITIVE if text] + [(text, 0) for text in NEGATIVE]
    for part in ("train", "dev", "test"):
        write(home / f"SST/binary/sentiment-{part}", "".join(f"{text}\t{label}\n" for text, label in both))
    lines = "".join(f"{label} {text}\n" for label, text in QUESTIONS)
    for name in ("train_5500", "TREC_10"):
        write(home / f"TREC/{name}.label", lines + "LOC:city Which sister\xf0city ?\n", "latin-1")
    rows = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n" + "".join(f"{c}\t1\t2\t{a}\t{b}\n" for c, a, b in PAIRS)
    for part in ("train", "test"):
        write(home / f"MRPC/msr_paraphrase_{part}.txt", "﻿" + rows)
    return home.parent


@pytest.mark.parametrize("layout", ["jsonl", "official"])
@pytest.mark.parametrize("name", ["MR", "CR", "SUBJ", "MPQA"])
def test_two_classes_the_positive_first_empty_texts_kept(
    layout: str, name: str, request: pytest.FixtureRequest
) -> None:
    task = load_transfer(name, request.getfixturevalue(layout))
    part = task.parts["all"]
    assert part.text == ["a fine film .", "", "very good", "a dull film .", "bad"]
    assert part.label.tolist() == [1, 1, 1, 0, 0]
    assert (task.scheme, task.classes, len(task), task.complete) == ("nested", 2, 5, False)


@pytest.mark.parametrize("layout", ["jsonl", "official"])
def test_given_splits(layout: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(layout)
    sst, trec, mrpc = (load_transfer(name, folder) for name in ("sst-2", "trec", "MRPC"))
    assert (list(sst.parts), sst.scheme) == (["train", "dev", "test"], "split")
    assert sst.parts["dev"].text[0] == "a fine film ."
    assert (trec.scheme, trec.classes) == ("folds", 6)
    assert trec.parts["train"].text[:2] == ["How did it begin ?", "How many are there ?"]
    assert trec.parts["train"].label[:2].tolist() == [1, 5]
    assert mrpc.parts["test"].text == ["A cat sat .", "A dog “ ran ."]
    assert mrpc.parts["test"].second == ["A cat was sitting .", "It rained ."]
    assert mrpc.parts["test"].label.tolist() == [1, 0]


def test_both_layouts_give_the_same_task(jsonl: Path, official: Path) -> None:
    assert load_transfer("MR", jsonl).fingerprint == load_transfer("MR", official).fingerprint
    assert load_transfer("MRPC", jsonl).fingerprint == load_transfer("MRPC", official).fingerprint


def test_latin_1_is_read_as_such(official: Path) -> None:
    assert load_transfer("TREC", official).parts["test"].text[2] == "Which sisterðcity ?"


def test_a_sample_keeps_order_and_says_which(jsonl: Path) -> None:
    whole, some = load_transfer("MR", jsonl), load_transfer("MR", jsonl, limit=3, seed=1)
    assert (len(some), some.total) == (3, 5)
    assert some.parts["all"].text == [whole.parts["all"].text[i] for i in some.index]
    assert list(some.index) == sorted(some.index)
    assert some.fingerprint != whole.fingerprint
    again = load_transfer("MR", jsonl, limit=3, seed=1)
    np.testing.assert_array_equal(some.index, again.index)
    assert load_transfer("MR", jsonl, limit=5).fingerprint == whole.fingerprint
    with pytest.raises(SentEvalError, match="limit must be at least 1"):
        load_transfer("MR", jsonl, limit=0)


@pytest.mark.parametrize(
    ("file", "line", "told"),
    [
        ("MR", '{"text": "a", "label": 2}', r"MR\.jsonl, line 1: 2 is no label of MR: 0, 1"),
        ("MR", '{"text": "a", "label": true}', "True is no label"),
        ("MR", '{"text": 3, "label": 1}', "line 1: 'text' is not a string"),
        ("MR", '{"label": 1}', "line 1: no field 'text'"),
        ("MR", "[1]", "not a JSON object"),
        ("MR", "{", "not valid JSON"),
        ("MR", "", "no row of MR"),
        ("TREC.train", '{"text": "a", "label": "DESC"}', r"TREC\.test\.jsonl\(\.gz\) is missing"),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, file: str, line: str, told: str) -> None:
    (tmp_path / f"{file}.jsonl").write_text(line, encoding="utf-8")
    with pytest.raises(SentEvalError, match=told):
        load_transfer(file.split(".")[0], tmp_path)


@pytest.mark.parametrize(
    ("file", "line", "told"),
    [
        ("SST/binary/sentiment-train", "no label", "no tab between text and label"),
        ("TREC/train_5500.label", "DESC How", "not 'CLASS:fine text'"),
        ("TREC/train_5500.label", "XYZ:a How", "'XYZ' is no label of TREC"),
        ("MRPC/msr_paraphrase_train.txt", "heading\n1\t2\t3", "line 2: 3 tab-separated columns"),
        ("CR/custrev.pos", "good", r"custrev\.neg is missing"),
    ],
)
def test_wrong_official_files_are_named(tmp_path: Path, file: str, line: str, told: str) -> None:
    write(tmp_path / file, line)
    with pytest.raises(SentEvalError, match=told):
        load_transfer({"SST": "SST2"}.get(name := file.split("/")[0], name), tmp_path)


def test_missing_data_and_names_are_told(tmp_path: Path) -> None:
    with pytest.raises(SentEvalError, match=r"CR is missing: .* neither senteval_transfer/CR\.jsonl\(\.gz\)"):
        load_transfer("CR", tmp_path)
    with pytest.raises(SentEvalError, match="is not a folder"):
        load_transfer("CR", tmp_path / "no")
    with pytest.raises(SentEvalError, match="CR: no data; give --data_dir"):
        load_transfer("CR")
    with pytest.raises(SentEvalError, match="unknown transfer task 'SUBX'; did you mean SUBJ"):
        transfer_name("SUBX")


@pytest.mark.shared
@pytest.mark.parametrize("name", TRANSFER_TASKS)
def test_the_real_data_is_whole(shared_data: Path, name: str) -> None:
    task = load_transfer(name, shared_data)
    assert task.complete
    assert sum(map(len, task.parts.values())) == sum(OFFICIAL_TEXTS[name].values())
    empty = sum(not text for part in task.parts.values() for text in part.text)
    assert empty == {"CR": 4, "MPQA": 3}.get(name, 0)
