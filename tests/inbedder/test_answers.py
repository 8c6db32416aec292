"""Answers are cut down to their content words."""

from __future__ import annotations

import pytest

from inbedder.answers import STOP_WORDS, simplify


@pytest.mark.parametrize(
    ("answer", "short"),
    [
        ("He was in the kitchen .", "kitchen"),
        ("The United States of America", "United States America"),
        ("On Monday, and then on Friday.", "Monday, Friday."),
        ("It’s a football club", "football club"),
        ("“The” end", "end"),
        ("U.S. Steel", "U.S. Steel"),
        ("42 %", "42"),
        ("rock 'n' roll", "rock 'n' roll"),
        ("  the   river \n Rhine ", "river Rhine"),
    ],
)
def test_stop_words_and_what_they_leave_go(answer: str, short: str) -> None:
    assert simplify(answer) == short
    assert simplify(short) == short


@pytest.mark.parametrize("answer", ["no", "Yes", "It is.", "of the", "he", "...", "C", "The Who"])
def test_an_answer_of_nothing_else_stays_whole(answer: str) -> None:
    assert simplify(f" {answer} ") == answer


def test_the_list_is_the_one_of_the_evaluation() -> None:
    """NLTK's has 179 words; scikit-learn's longer one would take out "computer" 's like: "fire", "system", "bill"."""
    assert len(STOP_WORDS) == 179
    assert STOP_WORDS.isdisjoint({"fire", "system", "bill", "yes", "one", "first"})
    assert {"no", "not", "what", "wouldn't", "should've"} <= STOP_WORDS
