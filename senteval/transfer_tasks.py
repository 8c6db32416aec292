"""The seven SentEval transfer tasks, and the record that holds one: a classifier on frozen embeddings.

| task | classes | how it is scored |
|---|---|---|
| MR, CR, SUBJ, MPQA | 2 | 10-fold cross-validation, L2 by an inner 10-fold one; mean accuracy of the folds |
| SST2 | 2 | given train, dev and test; L2 by accuracy on dev |
| TREC | 6 | given train and test; L2 by 10-fold cross-validation on train |
| MRPC | 2 | the same, on the features (|u - v|, u * v) of a pair; also F1 |

Texts are SentEval's tokenised ones, their words joined by single blanks, as its batches are. CR has 4 and MPQA 3
empty texts, which SentEval keeps, and so does this.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Literal

import numpy as np

from senteval.tasks import SentEvalError

Scheme = Literal["nested", "folds", "split"]
"""nested: cross-validation with an inner one for L2; folds: one on train; split: given train, dev and test."""

OFFICIAL_TEXTS: Mapping[str, Mapping[str, int]] = {
    "MR": {"all": 10662},
    "CR": {"all": 3775},
    "SUBJ": {"all": 10000},
    "MPQA": {"all": 10606},
    "SST2": {"train": 67349, "dev": 872, "test": 1821},
    "TREC": {"train": 5452, "test": 500},
    "MRPC": {"train": 4076, "test": 1725},
}
"""Task -> part -> official number of texts (MRPC: pairs), in the order of the papers' tables."""

TRANSFER_TASKS = tuple(OFFICIAL_TEXTS)
TREC_CLASSES = ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")
PAIR_TASKS = frozenset({"MRPC"})
_ALIASES = {"sst": "SST2", "sst-2": "SST2"}


def transfer_name(name: str) -> str:
    """The official name of a transfer task, for a name in any case."""
    known = {task.lower(): task for task in TRANSFER_TASKS} | _ALIASES
    found = known.get(name.strip().lower())
    if found is None:
        near = get_close_matches(name.lower(), known, n=1)
        hint = f"did you mean {known[near[0]]}? " if near else ""
        raise SentEvalError(f"unknown transfer task {name!r}; {hint}choose from: {', '.join(TRANSFER_TASKS)}")
    return found


def classes_of(name: str) -> int:
    """The number of classes of a task."""
    return len(TREC_CLASSES) if name == "TREC" else 2


def scheme_of(name: str) -> Scheme:
    """How a task's data is split."""
    parts = tuple(OFFICIAL_TEXTS[name])
    return "nested" if parts == ("all",) else "split" if "dev" in parts else "folds"


@dataclass(frozen=True, eq=False)
class Part:
    """One part of a task, in the order of the data.

    Attributes:
        text: n texts; of pairs the first ones.
        label: (n,) int64, classes from 0.
        second: the n second texts of pairs; else None.
    """

    text: list[str]
    label: np.ndarray
    second: list[str] | None = None

    def __post_init__(self) -> None:
        sizes = {len(self.text), len(self.label), len(self.second if self.second is not None else self.text)}
        if len(sizes) != 1:
            raise SentEvalError(f"texts and labels differ in number: {sorted(sizes)}")

    def __len__(self) -> int:
        return len(self.text)

    def take(self, kept: np.ndarray) -> Part:
        """Only the rows with these numbers."""
        second = None if self.second is None else [self.second[i] for i in kept]
        return Part([self.text[i] for i in kept], self.label[kept], second)

    def sorted_order(self) -> np.ndarray:
        """(n,) row numbers in SentEval's order: by number of words (of both texts, for pairs), then by label.

        SentEval sorts "to reduce padding" and makes its folds of the sorted rows, so the order decides them.
        """
        words = [[len(text.split()) for text in side] for side in (self.text, self.second or self.text)]
        keys = zip(*words, self.label.tolist())
        return np.array([i for i, _ in sorted(enumerate(keys), key=lambda pair: pair[1])], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class TransferTask:
    """One loaded task.

    Attributes:
        name: one of `TRANSFER_TASKS`.
        parts: "all", or "train", maybe "dev", and "test".
        source: where the data came from.
        index: (n,) places of the scored texts in their whole part; not 0..n-1 after a `limit`.
        total: texts of the whole scored part at that source.
        fingerprint: SHA-256 over texts and labels of all parts in order.
    """

    name: str
    parts: Mapping[str, Part]
    source: str
    index: np.ndarray
    total: int
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha256()
        for name, part in self.parts.items():
            digest.update(f"{name} {len(part)}\n".encode())
            for row in zip(part.text, part.second or part.text, part.label.tolist()):
                digest.update(json.dumps(row).encode() + b"\n")
        object.__setattr__(self, "fingerprint", digest.hexdigest())

    def __len__(self) -> int:
        return len(self.scored)

    @property
    def scheme(self) -> Scheme:
        """How the data is split."""
        return scheme_of(self.name)

    @property
    def classes(self) -> int:
        """The number of classes."""
        return classes_of(self.name)

    @property
    def scored(self) -> Part:
        """The part whose labels are predicted."""
        return self.parts["all" if self.scheme == "nested" else "test"]

    @property
    def complete(self) -> bool:
        """Whether every part has its official number of texts; else no published score compares with it."""
        return {name: len(part) for name, part in self.parts.items()} == dict(OFFICIAL_TEXTS[self.name])

    def sample(self, limit: int | None, seed: int = 0) -> TransferTask:
        """A random sample of at most `limit` rows of every part, in the order of the data."""
        if limit is None or all(limit >= len(part) for part in self.parts.values()):
            return self
        if limit < 1:
            raise SentEvalError(f"limit must be at least 1, got {limit}; leave it out to use all texts")
        kept = {}
        for name, part in self.parts.items():
            size = min(limit, len(part))
            kept[name] = np.sort(np.random.default_rng(seed).choice(len(part), size=size, replace=False))
        scored = "all" if self.scheme == "nested" else "test"
        parts = {name: part.take(kept[name]) for name, part in self.parts.items()}
        return replace(self, parts=parts, index=self.index[kept[scored]])
