"""The seven STS tasks, their two protocols, and the frozen record that holds one loaded task.

| | `senteval` | `mteb` |
|---|---|---|
| text | tokenised (Moses), lower-cased | STS12-16: the same; STSBenchmark, SICK-R: raw, as published |
| STS12-16 | all subsets of the year | the same pairs |
| STSBenchmark | test, 1,379 pairs | the same pairs |
| SICK-R | test, 4,927 pairs | train + trial + test, 9,927 pairs |
| score | one Spearman over all pairs of the task, subsets concatenated | the same |

That MTEB's copies of STS12-16 are SentEval's text is told by the character counts that it publishes, and by
its scores (on raw text all-MiniLM-L6-v2 has 0.011 more on STS14, on this one MTEB's number).

Subsets stand in SentEval's order (`SUBSETS`), the alphabetical order of their official file names, upper and
lower case alike. STS13 has no SMT: its licence forbids it, and SentEval and MTEB leave it out too.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

import numpy as np

PROTOCOLS = ("senteval", "mteb")

WHOLE = "all"
"""Name of the only subset of a task that has none, and of a task's own score in lists of subsets."""

SUBSETS: Mapping[str, Mapping[str, int]] = {
    "STS12": {
        "MSRpar": 750,
        "MSRvid": 750,
        "SMTeuroparl": 459,
        "surprise.OnWN": 750,
        "surprise.SMTnews": 399,
    },
    "STS13": {"FNWN": 189, "headlines": 750, "OnWN": 561},
    "STS14": {
        "deft-forum": 450,
        "deft-news": 300,
        "headlines": 750,
        "images": 750,
        "OnWN": 750,
        "tweet-news": 750,
    },
    "STS15": {
        "answers-forums": 375,
        "answers-students": 750,
        "belief": 375,
        "headlines": 750,
        "images": 750,
    },
    "STS16": {
        "answer-answer": 254,
        "headlines": 249,
        "plagiarism": 230,
        "postediting": 244,
        "question-question": 209,
    },
    "STSBenchmark": {},
    "SICK-R": {},
}
"""Task -> subset -> official number of graded pairs. STSBenchmark and SICK-R are scored as one whole."""

TASKS = tuple(SUBSETS)

_YEARS = {name: sum(subsets.values()) for name, subsets in SUBSETS.items() if subsets}
OFFICIAL_PAIRS: Mapping[str, Mapping[str, int]] = {
    "senteval": {**_YEARS, "STSBenchmark": 1379, "SICK-R": 4927},
    "mteb": {**_YEARS, "STSBenchmark": 1379, "SICK-R": 9927},
}
"""Protocol -> task -> official number of pairs."""

_ALIASES = {
    "stsb": "STSBenchmark",
    "sts-b": "STSBenchmark",
    "sickr": "SICK-R",
    "sick": "SICK-R",
    "sickrelatedness": "SICK-R",
}


class SentEvalError(ValueError):
    """Data that is missing or malformed, or a wrong use of this package; one line that says what to do."""


def check_protocol(protocol: str) -> str:
    """Return `protocol` if it is known, else raise `SentEvalError`."""
    if protocol not in PROTOCOLS:
        raise SentEvalError(f"unknown protocol {protocol!r}; choose one of: {', '.join(PROTOCOLS)}")
    return protocol


def task_names(protocol: str) -> tuple[str, ...]:
    """Names of the tasks of a protocol, in the order of the papers' tables."""
    check_protocol(protocol)
    return TASKS


def task_name(name: str) -> str:
    """The official name for a name in any case or as the papers' tables write it (`STS-B`, `sickr`)."""
    known = {task.lower(): task for task in TASKS} | _ALIASES
    found = known.get(name.strip().lower())
    if found is None:
        near = get_close_matches(name.lower(), known, n=1)
        hint = f"did you mean {known[near[0]]}? " if near else ""
        raise SentEvalError(f"unknown task {name!r}; {hint}choose from: {', '.join(TASKS)}")
    return found


@dataclass(frozen=True, eq=False)
class PairTask:
    """The graded pairs of one task in one protocol, in the order of the data.

    Attributes:
        name: official name, one of `TASKS`.
        protocol: one of `PROTOCOLS`.
        text1: n first texts.
        text2: n second texts.
        gold: (n,) float64, grades from 0 to 5 (SICK-R: 1 to 5), higher = more similar; read-only.
        subset: n subset names; "all" where the task or its source has no subsets.
        source: reader and place the pairs came from, for the result file.
        index: (n,) integers, the place of each pair in the whole task; not 0..n-1 after a `limit`.
        total: pairs of the whole task at that source.
        max_words: subset -> words of its longest text, pairs without a grade counted where the source has
            them; for `blank_padded`.
        fingerprint: SHA-256 over texts, grades and subsets in order: equal when the content is equal,
            whichever reader it came from.
    """

    name: str
    protocol: str
    text1: list[str]
    text2: list[str]
    gold: np.ndarray
    subset: list[str]
    source: str
    index: np.ndarray
    total: int
    max_words: Mapping[str, int]
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        sizes = {len(self.text1), len(self.text2), len(self.gold), len(self.subset), len(self.index)}
        if len(sizes) != 1:
            raise SentEvalError(f"{self.name}: texts, grades, subsets and index differ in length: {sorted(sizes)}")
        gold = np.array(self.gold, dtype=np.float64)
        gold.flags.writeable = False
        object.__setattr__(self, "gold", gold)
        digest = hashlib.sha256()
        for row in zip(self.text1, self.text2, self.subset, gold.tolist()):
            digest.update(json.dumps(row).encode() + b"\n")
        object.__setattr__(self, "fingerprint", digest.hexdigest())

    def __len__(self) -> int:
        return len(self.text1)

    @property
    def subsets(self) -> tuple[str, ...]:
        """Names of the subsets, in the order of the data."""
        return tuple(dict.fromkeys(self.subset))

    @property
    def complete(self) -> bool:
        """Whether these are all the official pairs (by number, per subset where the source names subsets).

        A score of an incomplete task must not stand beside published ones.
        """
        official = OFFICIAL_PAIRS.get(self.protocol, {}).get(self.name)
        if official is None:  # a task of somebody's own
            return len(self) == self.total
        if len(self) != official:
            return False
        counts = Counter(self.subset)
        return WHOLE in counts or counts == SUBSETS[self.name]

    def sample(self, limit: int | None, seed: int = 0) -> PairTask:
        """A random sample of `limit` pairs in the order of the data; the same for the same data and seed.

        Returns this task itself if it has no more pairs than `limit`, or `limit` is None.
        """
        if limit is None or limit >= len(self):
            return self
        if limit < 1:
            raise SentEvalError(f"limit must be at least 1, got {limit}; leave it out to use all pairs")
        kept = np.sort(np.random.default_rng(seed).choice(len(self), size=limit, replace=False))
        return replace(
            self,
            text1=[self.text1[i] for i in kept],
            text2=[self.text2[i] for i in kept],
            subset=[self.subset[i] for i in kept],
            gold=self.gold[kept],
            index=self.index[kept],
        )


def blank_padded(task: PairTask) -> PairTask:
    """The texts as the SentEval copy in AnglE's repository gives them to the model since 2023-10-18.

    It pads the word lists of STS12-16 with empty strings to the longest text of the subset (both sides
    together, pairs without a grade counted) and joins them with blanks, so that texts end in blanks.
    STSBenchmark and SICK-R are returned unchanged. Exactly AnglE's number of blanks needs the original
    SentEval files: other sources lack the pairs without a grade, and their longest text can be shorter.
    """
    if not SUBSETS[task.name]:
        return task
    if task.protocol != "senteval":
        raise SentEvalError("blank-padded texts exist in the senteval protocol only")

    def padded(texts: list[str]) -> list[str]:
        return [text + " " * (task.max_words[subset] - len(text.split())) for text, subset in zip(texts, task.subset)]

    return replace(task, text1=padded(task.text1), text2=padded(task.text2), source=f"{task.source} (blank-padded)")
