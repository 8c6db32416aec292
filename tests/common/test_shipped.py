"""The rules over the small data that ships with the product (common/shipped), all files together."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import spearmanr

SHIPPED = Path(__file__).resolve().parents[2] / "common" / "shipped"

COUNTS = {"pairs": 300, "triplets": 400, "questions": 120, "passages": 120, "queries": 40, "aspects": 160}
TRAINING = ("triplets", "questions")
TEST = ("pairs", "passages", "queries", "aspects")
FIELDS: dict[str, dict[str, type]] = {
    "pairs": {"id": str, "domain": str, "text1": str, "text2": str, "score": float},
    "triplets": {"query": str, "positive": str, "negative": str},
    "questions": {"id": str, "text": str, "question": str, "answer": str},
    "passages": {"id": str, "title": str, "text": str},
    "queries": {"id": str, "query": str, "relevant": list},
    "aspects": {"id": str, "text": str, "topic": str, "sentiment": str},
}
# The fields that are prose. Labels, domains and the 1 to 4 words of an answer may come again.
PROSE = {
    "pairs": ("text1", "text2"),
    "triplets": ("query", "positive", "negative"),
    "questions": ("text", "question"),
    "passages": ("title", "text"),
    "queries": ("query",),
    "aspects": ("text",),
}


@cache
def rows(name: str) -> list[dict[str, Any]]:
    """The rows of one file."""
    with (SHIPPED / f"{name}.jsonl").open(encoding="utf-8") as file:
        found = [json.loads(line) for line in file]
    assert all(isinstance(row, dict) for row in found), f"{name}.jsonl has a line that is not an object"
    return found


def words(text: str) -> list[str]:
    """Lower-cased words, in order."""
    return re.findall(r"\w+", text.lower())


# English function words: what a query and its passage may have in common without one giving away the other.
FUNCTION_WORDS = frozenset(
    words(
        "a an and are as at be but by can could did do does for from had has have how i if in into is it its "
        "may my no not of on one or our s so t than that the their there they this to up was were what when "
        "where which who why will with would you your"
    )
)


def normalised(text: str) -> str:
    """A text without case, punctuation and runs of space: what makes two texts the same."""
    return " ".join(words(text))


def texts(*names: str) -> list[str]:
    """Every prose text of the files, normalised."""
    return [normalised(row[field]) for name in names for row in rows(name) for field in PROSE[name]]


def sequences(text: str, n: int) -> set[str]:
    """The distinct runs of n words in a text."""
    found = words(text)
    return {" ".join(found[i : i + n]) for i in range(len(found) - n + 1)}


def texts_per_sequence(collection: Iterable[str], n: int) -> Counter[str]:
    """In how many different texts each run of n words stands; the same text twice counts once."""
    counts: Counter[str] = Counter()
    for text in {normalised(text) for text in collection}:
        counts.update(sequences(text, n))
    return counts


def jaccard(a: str, b: str) -> float:
    """Common words over all words of two texts, in 0..1."""
    one, other = set(words(a)), set(words(b))
    return len(one & other) / len(one | other)


def test_the_sequence_counter_counts_each_text_once() -> None:
    counts = texts_per_sequence(["A b c d e f.", "a B c, d e f", "x a b c d e", "e d c b a", "a b c d"], 5)
    assert counts == {"a b c d e": 2, "b c d e f": 1, "x a b c d": 1, "e d c b a": 1}


@pytest.mark.parametrize("name", COUNTS)
def test_count(name: str) -> None:
    assert len(rows(name)) == COUNTS[name]


@pytest.mark.parametrize("name", COUNTS)
def test_fields_and_types(name: str) -> None:
    for number, row in enumerate(rows(name), 1):
        where = f"{name}.jsonl:{number}"
        assert list(row) == list(FIELDS[name]), where
        for field, kind in FIELDS[name].items():
            value = row[field]
            if kind is float:
                assert isinstance(value, int | float), f"{where} {field}"
                assert not isinstance(value, bool), f"{where} {field}"
            else:
                assert isinstance(value, kind), f"{where} {field}"
            if isinstance(value, str):
                assert words(value), f"{where} {field} has no word"
                assert value == " ".join(value.split()), f"{where} {field} has stray white space"


@pytest.mark.parametrize("name", [name for name, fields in FIELDS.items() if "id" in fields])
def test_ids_are_unique(name: str) -> None:
    ids = [row["id"] for row in rows(name)]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", COUNTS)
def test_no_text_comes_twice_in_a_file(name: str) -> None:
    assert [text for text, count in Counter(texts(name)).items() if count > 1] == []


def test_no_text_is_shared_between_training_and_test() -> None:
    training, test = set(texts(*TRAINING)), set(texts(*TEST))
    assert sorted(training & test) == []
    # Nor in part: a reworded copy mostly keeps a long run of words.
    long_runs = [{run for text in group for run in sequences(text, 8)} for group in (training, test)]
    assert sorted(long_runs[0] & long_runs[1]) == []


def test_no_five_words_stand_in_more_than_three_texts() -> None:
    counts = texts_per_sequence(texts(*COUNTS), 5)
    assert {run: count for run, count in counts.items() if count > 3} == {}


def test_vocabulary() -> None:
    assert len({word for text in texts(*COUNTS) for word in text.split()}) >= 2500


def test_grades_are_half_steps_from_0_to_5() -> None:
    allowed = {step / 2 for step in range(11)}
    assert [row["id"] for row in rows("pairs") if row["score"] not in allowed] == []
    # Spearman over a handful of distinct grades, or over one crowded grade, would say little.
    used = Counter(row["score"] for row in rows("pairs"))
    assert set(used) == allowed
    assert max(used.values()) <= 75


def test_word_overlap_does_not_give_the_grades_away() -> None:
    overlap = [jaccard(row["text1"], row["text2"]) for row in rows("pairs")]
    rho = spearmanr(overlap, [row["score"] for row in rows("pairs")]).statistic
    assert math.isfinite(rho)
    assert rho < 0.55


def test_answers_are_short() -> None:
    lengths = {row["id"]: len(row["answer"].split()) for row in rows("questions")}
    assert {key: n for key, n in lengths.items() if not 1 <= n <= 4} == {}


def test_passage_lengths() -> None:
    lengths = {row["id"]: len(row["text"].split()) for row in rows("passages")}
    assert {key: n for key, n in lengths.items() if not 30 <= n <= 90} == {}


def test_every_query_has_one_or_two_passages_that_exist() -> None:
    passages = {row["id"] for row in rows("passages")}
    for row in rows("queries"):
        relevant = row["relevant"]
        assert 1 <= len(relevant) <= 2, row
        assert len(set(relevant)) == len(relevant), row
        assert set(relevant) <= passages, row


def test_queries_do_not_copy_their_passages() -> None:
    prose = {row["id"]: words(f"{row['title']} {row['text']}") for row in rows("passages")}
    for row in rows("queries"):
        for passage in row["relevant"]:
            common = (set(words(row["query"])) & set(prose[passage])) - FUNCTION_WORDS
            assert len(common) <= 2, f"{row['id']} and {passage} share {sorted(common)}"


def test_the_two_aspects_are_independent() -> None:
    cells = Counter((row["topic"], row["sentiment"]) for row in rows("aspects"))
    assert len({topic for topic, _ in cells}) == 5
    assert len({sentiment for _, sentiment in cells}) == 4
    assert len(cells) == 20
    assert set(cells.values()) == {8}


def test_aspect_texts_are_short_and_never_name_a_label() -> None:
    labels = {row[aspect] for row in rows("aspects") for aspect in ("topic", "sentiment")}
    # Also no inflected or compound form: "films" forbids "film" and "filmed", "worried" forbids "worry".
    stems = {label.removesuffix("s").removesuffix("ied").removesuffix("ed") for label in labels}
    stems.add("anger")
    for row in rows("aspects"):
        assert 8 <= len(row["text"].split()) <= 30, row
        named = [word for word in words(row["text"]) if word.startswith(tuple(stems))]
        assert named == [], row


def test_rows_are_not_sorted_by_label() -> None:
    # A reader that takes the first N rows (--limit) must meet every label.
    for aspect in ("topic", "sentiment"):
        labels = [row[aspect] for row in rows("aspects")]
        assert sum(a == b for a, b in pairwise(labels)) < len(labels) / 2
        assert set(labels[:40]) == set(labels)
