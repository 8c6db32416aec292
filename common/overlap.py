"""When two texts count as the same, or one holds a part of the other: for questions of leaked test data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

# Brackets as the Penn Treebank writes them; a word's tail that its tokenisation sets apart ("do n't", "it 's").
_BRACKETS = re.compile(r"-(?:lrb|rrb|lsb|rsb|lcb|rcb)-")
_TAILS = re.compile(r"\s+(?=n['’]t\b|['’](?:s|re|ve|ll|d|m)\b)")
_NEITHER_LETTER_NOR_DIGIT = re.compile(r"[\W_]+")
_WORD = re.compile(r"[^\W_]+")


def key(text: str) -> str:
    """What copies of a text share, however they are tokenised: its letters and digits, without case.

    A text without any is its own key.
    """
    return _NEITHER_LETTER_NOR_DIGIT.sub("", _plain(text)) or text.strip()


def words(text: str) -> list[str]:
    """The words of a text without case and marks, the same for a text and its tokenised copy."""
    return _WORD.findall(_TAILS.sub("", _plain(text)).replace("'", "").replace("’", ""))


def runs(tokens: Sequence[str], length: int) -> Iterator[tuple[str, ...]]:
    """All runs of so many words in a row; a shorter text has none."""
    return (tuple(tokens[start : start + length]) for start in range(len(tokens) - length + 1))


def _plain(text: str) -> str:
    folded = text.casefold()
    return _BRACKETS.sub(" ", folded) if "-" in folded else folded
