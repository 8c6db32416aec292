"""What of test sets is found in training data, in which numbers, and how little of a text is shown."""

from __future__ import annotations

import gzip
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.leakage import EXCERPT, leakage, suite_items, training_rows
from common.errors import InputError

LONG = "the old man in the red coat walked slowly down to the river bank"  # 14 words
ITEMS = {
    "pairs": [
        ("A dog barks.", "A cat sleeps."),
        ("a dog barks .", "Nobody is here."),
        (f"{LONG} today", "Yes."),
        ("Two men play chess.", "The men play a game."),
    ],
    "texts": [("A dog barks.",), (LONG,)],
}


def found_in(*rows: Any, **options: Any) -> Any:
    train = [(f"f:{n}", [row] if isinstance(row, str) else row) for n, row in enumerate(rows, 1)]
    return leakage(train, ITEMS, **options)


def test_nothing_is_found_where_nothing_is() -> None:
    found = found_in("A dog sleeps.", "An old man in a red coat walked quickly down to a river.", "Yes, yes.")
    assert [(t.exact, t.near, t.exact_items, t.near_items, t.examples) for t in found.tasks] == [(0, 0, [], [], [])] * 2
    assert (found.rows, found.texts, found.rows_exact) == (3, 3, 0)


def test_exact_is_letters_and_digits() -> None:
    found = found_in("A DOG -- barks!", "Something else.", "a dog barks")
    pairs, texts = found.tasks
    assert (pairs.items, pairs.texts, pairs.exact, pairs.near) == (4, 7, 1, 0)  # one distinct text, in two pairs
    assert (pairs.exact_items, pairs.all_items) == ([0, 1], [])
    assert (texts.exact_items, texts.all_items) == ([0], [0])
    assert (found.rows, found.texts, found.rows_exact) == (3, 2, 2)


def test_near_is_a_share_of_words_in_runs() -> None:
    first = " ".join(LONG.split()[:8])  # 8 of the 15 words of the pair's text, 8 of the other's 14
    for share, near in ((0.0, True), (8 / 15, True), (0.54, False)):
        pairs, texts = found_in(f"Once {first}, and so on.", share=share).tasks
        assert (pairs.near_items == [2]) == near
        assert (texts.near_items == [1]) == (share <= 8 / 14)
    assert found_in(" ".join(LONG.split()[:7]), share=0.0).tasks[0].near == 0  # no run of 8
    assert found_in(" ".join(LONG.split()[:7]), share=0.0, ngram=7).tasks[0].near == 1


def test_runs_of_two_training_texts_do_not_add_up() -> None:
    words = LONG.split()
    found = found_in(" ".join(words[:8]), " ".join(words[6:]), share=0.8)
    assert found.tasks[1].near == 0
    assert found_in(" ".join(words[:8]) + " " + " ".join(words[6:]), share=0.8).tasks[1].near == 1


def test_an_exact_text_is_not_near_too() -> None:
    pairs, texts = found_in(LONG).tasks
    assert (texts.exact, texts.near) == (1, 0)
    assert (pairs.exact, pairs.near, pairs.near_items) == (0, 1, [2])  # one word more than the training text


def test_too_short_to_tell() -> None:
    pairs, texts = found_in("A dog barks.").tasks
    assert (pairs.short, texts.short) == (5, 0)  # of 7 texts one is exact, one long


def test_both_texts_of_a_pair_in_one_row() -> None:
    apart = found_in(["A dog barks.", "x"], ["A cat sleeps.", "y"]).tasks[0]
    assert (apart.all_items, apart.together) == ([0], [])
    together = found_in(["A cat sleeps.", "x", "A dog barks."]).tasks[0]
    assert (together.all_items, together.together) == ([0], [0])
    assert found_in(["A dog barks.", "A dog barks."]).tasks[1].together == []  # single texts have no relation


def test_examples_show_an_index_and_not_the_text() -> None:
    found = found_in("A dog barks.", f"{LONG} and the sea", examples=2)
    pairs = found.tasks[0]
    assert [(e.item, e.side, e.kind, e.train) for e in pairs.examples] == [
        (0, 0, "exact", "f:1"), (1, 0, "exact", "f:1"),
    ]  # fmt: skip
    shown = [e for t in found_in("A dog barks.", LONG, f"{LONG} and", examples=9).tasks for e in t.examples]
    assert len(shown) == 5
    for example in shown:
        text = ITEMS["pairs" if example in found.tasks[0].examples else "texts"][0][0]
        assert len(example.excerpt) <= EXCERPT + 3
        assert text not in example.excerpt
    assert json.loads(json.dumps(found.to_dict()))["tasks"][0]["exact_items"] == [0, 1]


# ------------------------------ training files


def test_training_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one line\n\nanother\n")
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as handle:
        handle.write(json.dumps({"query": "q", "pos": ["p1", "p2"], "neg": ["n"], "source": "not a text"}) + "\n")
    (tmp_path / "c.csv").write_text("premise,hypothesis,label\nP,H,neutral\n")
    rows = list(training_rows([str(tmp_path / "a.txt"), "b.jsonl.gz", "c.csv"], tmp_path))
    assert rows == [
        ("a.txt:1", ["one line"]),
        ("a.txt:3", ["another"]),
        ("b.jsonl.gz:1", ["q", "p1", "p2", "n"]),
        ("c.csv:2", ["P", "H"]),
    ]
    assert list(training_rows(["b.jsonl.gz"], tmp_path, ["source"])) == [("b.jsonl.gz:1", ["not a text"])]
    assert len(list(training_rows(["shipped:triplets"]))) == 400
    with pytest.raises(InputError, match=r"--train d\.jsonl: no such file, nor .*d\.jsonl"):
        list(training_rows(["d.jsonl"], tmp_path))
    with pytest.raises(InputError, match=r"b\.jsonl\.gz:1: no text in it \(columns query, .*--columns"):
        list(training_rows(["b.jsonl.gz"], tmp_path, ["body"]))


def test_the_shipped_test_set_is_not_in_the_shipped_training_data() -> None:
    found = leakage(training_rows(["shipped:triplets"]), suite_items("sts-shipped"))
    assert (found.rows, found.tasks[0].items) == (400, 300)
    assert found.tasks[0].exact == 0


def test_the_real_training_data(shared_data: Path) -> None:
    """SNLI's captions stand in STS12-16, too: of 13,688 triplets 202 by anchor or positive, 260 with negatives."""
    years = {name: items for name, items in suite_items("sts", [], shared_data).items() if name.startswith("STS1")}
    file = ["nli_train/snli_ni.triplets.jsonl.gz"]
    assert leakage(training_rows(file, shared_data, ["sent0", "sent1"]), years).rows_exact == 202
    found = leakage(training_rows(file, shared_data), years)
    assert (found.rows, found.rows_exact) == (13688, 260)


@pytest.mark.slow
def test_as_much_as_supervised_training_has() -> None:
    """275,000 triplets against 28,000 sentences within a minute, though all share a vocabulary."""
    generator = random.Random(0)
    vocabulary = [f"w{i}" for i in range(2000)]

    def sentence() -> str:
        return " ".join(generator.choices(vocabulary, k=generator.randint(5, 25)))

    items = {"task": [(sentence(), sentence()) for _ in range(14_000)]}
    train = (("f", [sentence(), sentence(), items["task"][7][0] if n == 5 else sentence()]) for n in range(275_000))
    started = time.process_time()
    found = leakage(train, items)
    assert (found.rows, found.tasks[0].exact_items) == (275_000, [7])
    assert time.process_time() - started < 60
