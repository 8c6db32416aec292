"""Texts of InBedder's evaluation sets, so that training rows with one of them can be left out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from common.overlap import key, runs, words
from common.reading import read_rows

logger = logging.getLogger(__name__)

RUN = 12  # words in a row that two texts share only when one was taken from the other
# set -> files below the data folder and the columns that hold its texts
EVALUATION: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "syngoalex": (("goalex/syngoalex.jsonl.gz",), ("text",)),
    "fewrel": (("fewrel/val_wiki.jsonl.gz",), ("tokens",)),
    "feedbacks": (("inbedder_feedbacks/test.csv.gz",), ("text",)),
    "twenty_newsgroups": (
        ("twenty_newsgroups/train.jsonl.gz", "twenty_newsgroups/test.jsonl.gz"),
        ("subject", "body"),
    ),
}


class EvaluationTexts:
    """The texts of the evaluation sets that a data folder has.

    Attributes:
        found: set -> number of its texts.
        missing: sets that are not in the folder, which nothing is checked against.
    """

    def __init__(self, data_dir: Path) -> None:
        self.found: dict[str, int] = {}
        self.missing: list[str] = []
        self._exact: dict[str, str] = {}
        self._normal: dict[str, str] = {}
        self._runs: dict[int, str] = {}
        for name, (files, columns) in EVALUATION.items():
            if not all((data_dir / file).exists() for file in files):
                self.missing.append(name)
                continue
            texts = [text for file in files for _, row in read_rows(data_dir / file) for text in _texts(row, columns)]
            self.found[name] = len(texts)
            for text in texts:
                self._exact.setdefault(text.strip(), name)
                self._normal.setdefault(key(text), name)
                for run in runs(words(text), RUN):
                    self._runs.setdefault(hash(run), name)
        if self.missing:
            logger.warning("not checked for texts of %s: not in %s", ", ".join(self.missing), data_dir)

    def overlap(self, text: str) -> str | None:
        """Where a text stands too: "SET exact", "SET normalised" (case, marks), "SET in part" (12 words), or None."""
        if not text:
            return None
        if text.strip() in self._exact:
            return f"{self._exact[text.strip()]} exact"
        if key(text) in self._normal:
            return f"{self._normal[key(text)]} normalised"
        name = next((self._runs[h] for h in map(hash, runs(words(text), RUN)) if h in self._runs), None)
        return f"{name} in part" if name else None


def _texts(row: Mapping[str, Any], columns: tuple[str, ...]) -> Iterator[str]:
    for column in columns:
        value = row.get(column) or ""
        text = " ".join(value) if isinstance(value, list) else value
        if text.strip():
            yield text
