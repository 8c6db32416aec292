"""`python -m benchmarks leakage`: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_sts import shipped_pairs, write_sts

from benchmarks.leakage import Leakage, leakage
from benchmarks.leakage_program import HEADS, main, markdown, table

LONG = "the old man in the red coat walked slowly down to the river bank"  # 14 words
ITEMS = {"pairs": [("A dog barks.", "A cat sleeps."), ("a dog barks .", "Nobody is here."), (LONG, "Yes.")]}


def found() -> Leakage:
    return leakage([("f:1", ["A cat sleeps.", "A dog barks."]), ("f:2", [f"{LONG} now"])], ITEMS)


def test_table_and_summary_say_the_same() -> None:
    lines = [dict(zip(HEADS, line)) for line in table(found())]
    assert lines == [{
        "task": "pairs", "pairs": "3", "sentences": "5", "exact": "2", "near": "1", "too short": "2",
        "pairs with exact": "2", "both exact": "1", "one row": "1",
    }]  # fmt: skip
    assert found().summary() == (
        "2 of 5 test texts stand in the training data (2 rows), 1 more share runs of 8 words; "
        "1 test pairs stand there in one row"
    )
    page = markdown(found(), "T")
    assert "| pairs | 3 | 5 | 2 | 1 | 2 | 2 | 1 | 1 |" in page
    assert "| pairs | 2 | 0 | near 1.00 | f:2 | the old man in" in page
    assert LONG not in page


# ------------------------------ the program


def program(*words: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    return int(stopped.value.code or 0)


def test_the_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_sts(tmp_path / "data")
    first = shipped_pairs()[0]
    train = tmp_path / "train.jsonl"
    train.write_text(
        json.dumps({"query": first["text1"].upper(), "positive": first["text2"], "negative": "No."}) + "\n"
    )
    flags = ["--train", train, "--suite", "sts", "--tasks", "STS12", "STS-B", "--data_dir", data]
    assert program(*flags, "--output", tmp_path / "out.json") == 0
    report = json.loads((tmp_path / "out.json").read_text())
    assert [t["task"] for t in report["tasks"]] == ["STS12", "STSBenchmark"]
    assert (report["tasks"][0]["together"], report["tasks"][1]["exact"]) == ([0], 0)
    assert len(report["train"][str(train)]) == 64
    out = capsys.readouterr().out
    assert "1 training rows have a test text" in out
    assert first["text1"] not in out
    assert program(*flags, "--output", tmp_path / "out.md") == 0
    assert (tmp_path / "out.md").read_text().startswith("# sts in ")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "train"),
        (("--train", "x.jsonl", "--suite", "sts-shipped"), "--train x.jsonl: no such file"),
        (("--train", "shipped:triplets", "--suite", "nothing"), "--suite nothing: no such suite"),
        (("--train", "shipped:triplets", "--ngram", "1"), "--ngram 1: must be at least 2"),
        (("--train", "shipped:triplets", "--share", "2"), "--share 2"),
        (("--train", "shipped:triplets", "--output", "out.txt"), "must end in .json or .md"),
    ],
)
def test_wrong_use(words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert program(*words) == 2
    assert says in capsys.readouterr().err
