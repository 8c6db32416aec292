"""Answers as InBedder trains on them: short, of content words, so that the first position carries the meaning.

The code that made the released answers was never published. The paper says that stop words were removed (its answers
have 2.89 tokens on average); the words are those of NLTK's English list, which the released evaluation filters by.
"""

from __future__ import annotations

import re

# NLTK's English stop words.
_LIST = """
i me my myself we our ours ourselves you you're you've you'll you'd your yours yourself yourselves he him his
himself she she's her hers herself it it's its itself they them their theirs themselves what which who whom this
that that'll these those am is are was were be been being have has had having do does did doing a an the and but if
or because as until while of at by for with about against between into through during before after above below to
from up down in out on off over under again further then once here there when where why how all any both each few
more most other some such no nor not only own same so than too very s t can will just don don't should should've
now d ll m o re ve y ain aren aren't couldn couldn't didn didn't doesn doesn't hadn hadn't hasn hasn't haven haven't
isn isn't ma mightn mightn't mustn mustn't needn needn't shan shan't shouldn shouldn't wasn wasn't weren weren't won
won't wouldn wouldn't
"""
STOP_WORDS = frozenset(_LIST.split())
_EDGES = re.compile(r"^\W+|\W+$")


def simplify(answer: str) -> str:
    """An answer without English stop words, and without what they leave of punctuation.

    Words are parted by white space; case and the punctuation around a word do not hide a stop word. An answer of
    stop words alone ("yes" is none, "no" is one) stays whole, but for the white space around it.

    >>> simplify("He was in the kitchen .")
    'kitchen'
    """
    kept = []
    for word in answer.split():
        bare = _EDGES.sub("", word).lower().replace("’", "'")
        if bare and bare not in STOP_WORDS:
            kept.append(word)
    return " ".join(kept) or answer.strip()
