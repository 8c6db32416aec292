"""When two texts count as the same, and which runs of words they share."""

from __future__ import annotations

import pytest

from common.overlap import key, runs, words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A man is playing a guitar.", "a man  is playing a guitar ."),
        ("It isn't the dog's (brown) bone.", "it is n't the dog 's -lrb- brown -rrb- bone ."),
        ("They’ll say \"no\"", "they 'll say `` no ''"),
        ("Straße", "STRASSE"),
        ("U.S. soldiers", "u.s. soldiers"),
    ],
)  # fmt: skip
def test_a_text_and_its_tokenised_copy_are_the_same(one: str, other: str) -> None:
    assert key(one) == key(other)
    assert words(one) == words(other)


@pytest.mark.parametrize(
    ("one", "other"), [("A cat.", "A car."), ("2 men", "3 men"), ("...", "?!"), ("猫", "犬"), ("a cat", "the cat")]
)
def test_other_texts_are_not(one: str, other: str) -> None:
    assert key(one) != key(other)


def test_a_text_without_letters_is_its_own_key() -> None:
    assert key(" ?! ") == "?!"
    assert words("?!") == []
    assert key("snake_case") == key("snake case")


def test_words_and_runs() -> None:
    tokens = words("The well-known U.S. team's 2nd goal")
    assert tokens == ["the", "well", "known", "u", "s", "teams", "2nd", "goal"]
    assert list(runs(tokens, 7)) == [tuple(tokens[:7]), tuple(tokens[1:])]
    assert list(runs(tokens, 8)) == [tuple(tokens)]
    assert list(runs(tokens, 9)) == []
