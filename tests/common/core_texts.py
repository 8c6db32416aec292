"""What the tests of the inference core share: texts, prompts, and how vectors are compared."""

from __future__ import annotations

from typing import Any

import numpy as np

PROMPT = 'Summarize sentence "{text}" in one word:"'
SEARCH = "Represent this sentence for searching relevant passages: {text}"

# Of many lengths and scripts; none is so long that the tiny models shorten it.
TEXTS = [
    "The cat sat on the mat.",
    "A black cat is sitting near the window, and it has been raining since the early morning.",
    "rain",
    "Zwei Männer spielen Schach im Park.",
    "価格は四半期で上昇した。",
    "He said {no}, twice: {0} and {text:>3}.",
    "👩🏽‍🚀 🚀",
    "Interest rates were raised by a quarter of a point; markets had expected it.",
]


def unit(vectors: Any) -> np.ndarray:
    """Rows of length 1, in fp64."""
    array = np.asarray(vectors, dtype=np.float64)
    return array / np.linalg.norm(array, axis=-1, keepdims=True)


def distance(a: Any, b: Any) -> float:
    """The largest difference of an entry between the L2-normalised vectors of a and b."""
    a, b = unit(a), unit(b)
    assert a.shape == b.shape
    return float(np.abs(a - b).max())
