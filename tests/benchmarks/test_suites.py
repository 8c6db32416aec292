"""Suites: which tasks, where the texts come from, the edits and quirks of the released evaluations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_sts import PER_SUBSET, shipped_pairs, write_sts

from benchmarks import suites
from common.errors import InputError
from senteval import SUBSETS, TASKS

NONE: frozenset[str] = frozenset()
BLANKS = frozenset({"angle:senteval-blanks"})


@pytest.mark.parametrize(("name", "protocol"), [("sts", "senteval"), ("sts-mteb", "mteb")])
def test_the_published_suites_hold_the_seven_tasks_in_the_order_of_the_tables(name: str, protocol: str) -> None:
    suite = suites.get_suite(name)
    assert (suite.protocol, suite.tasks) == (protocol, TASKS)


def test_tasks_are_cut_out_in_the_order_of_the_tables_and_under_any_spelling() -> None:
    assert suites.get_suite("sts", ["sickr", "STS-B", "sts12"]).tasks == ("STS12", "STSBenchmark", "SICK-R")
    assert suites.get_suite("sts").tasks == TASKS, "the suite itself must stay whole"


@pytest.mark.parametrize(
    ("suite", "tasks", "words"),
    [
        ("sts-b", [], ["--suite sts-b", "sts-mteb", "sts-shipped"]),
        ("sts", ["STS17"], ["--tasks", "STS17", "STS16"]),
        ("sts-shipped", ["STS12"], ["--tasks STS12", "ShippedPairs"]),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(suite: str, tasks: list[str], words: list[str]) -> None:
    with pytest.raises(InputError) as error:
        suites.get_suite(suite, tasks)
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_the_shipped_suite_needs_no_data_and_samples_with_a_seed() -> None:
    suite = suites.get_suite("sts-shipped")
    whole = suites.load(suite, "ShippedPairs", None, compat=NONE)
    rows = shipped_pairs()
    assert whole.complete
    assert list(zip(whole.text1, whole.text2, whole.gold)) == [
        (row["text1"], row["text2"], row["score"]) for row in rows
    ]
    part = suites.load(suite, "ShippedPairs", None, limit=20, seed=3, compat=NONE)
    assert len(part) == 20
    assert not part.complete
    assert [part.text1[i] for i in range(20)] == [whole.text1[i] for i in part.index]
    other = suites.load(suite, "ShippedPairs", None, limit=20, seed=4, compat=NONE)
    assert list(part.index) != list(other.index)


def test_each_protocol_gets_its_own_text(tmp_path: Path) -> None:
    folder = write_sts(tmp_path)
    texts = {
        name: suites.load(suites.get_suite(name), "STSBenchmark", folder, compat=NONE).text1
        for name in ("sts", "sts-mteb")
    }
    assert texts["sts-mteb"] != texts["sts"] == [text.lower() for text in texts["sts-mteb"]]


@pytest.mark.parametrize("name", ["sts", "sts-mteb"])
def test_missing_data_names_the_task_and_the_flag_and_falls_back_on_nothing(name: str, tmp_path: Path) -> None:
    write_sts(tmp_path, ["STSBenchmark"])
    with pytest.raises(InputError) as error:
        suites.load(suites.get_suite(name), "STS14", tmp_path, compat=NONE)
    message = str(error.value)
    assert "\n" not in message
    assert "STS14" in message
    assert "--data_dir" in message


def test_a_folder_that_is_not_there_names_the_flag(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--data_dir .*nowhere"):
        suites.load(suites.get_suite("sts"), "STS12", tmp_path / "nowhere", compat=NONE)


def test_embed_data_stands_in_for_the_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBED_DATA", str(write_sts(tmp_path)))
    assert len(suites.load(suites.get_suite("sts"), "STSBenchmark", None, compat=NONE)) == PER_SUBSET


def test_senteval_blanks_pads_every_text_of_a_subset_to_its_longest(tmp_path: Path) -> None:
    folder = write_sts(tmp_path)
    suite = suites.get_suite("sts")
    plain = suites.load(suite, "STS12", folder, compat=NONE)
    padded = suites.load(suite, "STS12", folder, compat=BLANKS)
    assert [t.rstrip(" ") for t in padded.text1 + padded.text2] == plain.text1 + plain.text2
    assert padded.fingerprint != plain.fingerprint
    for subset in SUBSETS["STS12"]:
        texts = [
            text
            for task_texts in (padded.text1, padded.text2)
            for text, name in zip(task_texts, padded.subset)
            if name == subset
        ]
        pieces = {len(text.split(" ")) for text in texts}
        longest = max(len(text.split()) for text in texts)
        assert pieces == {longest}
    same = suites.load(suite, "STSBenchmark", folder, compat=BLANKS)
    assert same.text1 == suites.load(suite, "STSBenchmark", folder, compat=NONE).text1


def test_senteval_blanks_exists_in_the_senteval_protocol_only(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="senteval protocol only"):
        suites.load(suites.get_suite("sts-mteb"), "STS12", write_sts(tmp_path), compat=BLANKS)


# papers/angle.md section 6: a last character that is none of . ? " ' gets a full stop; " becomes '; a final ?
# becomes a full stop; in this order.
ONE_WORD_PROMPT = [
    ("A dog barks", "A dog barks."),
    ("A dog barks.", "A dog barks."),
    ("Does a dog bark?", "Does a dog bark."),
    ('He said "stop"', "He said 'stop'"),
    ('He said "stop" twice', "He said 'stop' twice."),
    ("the dogs'", "the dogs'"),
    ("What a dog!", "What a dog!."),
    ("a ? b", "a ? b."),
    ("Really??", "Really?."),
    ('Is it "so"?', "Is it 'so'."),
    ('"', "'"),
    ("a dog barks . ", "a dog barks . ."),
    ("", ""),
]


@pytest.mark.parametrize(("text", "edited"), ONE_WORD_PROMPT)
def test_one_word_prompt_edits(text: str, edited: str) -> None:
    assert suites.EDITS["one-word-prompt"](text) == edited


def test_the_gold_scores_are_those_of_the_file(tmp_path: Path) -> None:
    task = suites.load(suites.get_suite("sts-mteb"), "STS12", write_sts(tmp_path), compat=NONE)
    expected = [row["score"] for row in shipped_pairs()[: len(task)]]
    np.testing.assert_array_equal(task.gold, expected)
