"""NLI pairs as training triplets, in SimCSE's way: per premise an entailed text and a contradicting one.

Light (no torch): `common.mining.make_triplets` is its program, `common.mining.mine` uses its reading and writing.
"""

from __future__ import annotations

import gzip
import json
import random
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from common.errors import InputError
from common.io import atomic_file
from common.reading import read_rows

Label = Literal["entailment", "neutral", "contradiction"]
Rule = Literal["matched", "one", "all"]

# The names that releases of SNLI, MultiNLI and AllNLI give the columns, the first found counts.
PREMISE = ("premise", "sentence1", "text1", "s1")
HYPOTHESIS = ("hypothesis", "sentence2", "text2", "s2")
LABEL = ("label", "gold_label")
# What the hub's SNLI and MultiNLI write for the words; there alone: elsewhere 1 often means "similar".
NUMBERS: dict[str, Label] = {"0": "entailment", "1": "neutral", "2": "contradiction"}
WORDS: dict[str, Label] = {word: word for word in NUMBERS.values()}
NO_GOLD = ("-", "-1", "")  # the annotators did not agree
OUTPUT_SUFFIXES = (".jsonl", ".jsonl.gz")


class NliPair(NamedTuple):
    """One row of NLI data; `label` is None where the annotators did not agree."""

    premise: str
    hypothesis: str
    label: Label | None


def text_key(text: str) -> str:
    """What two spellings of one text share: compared without case, spacing and the full stop at the end.

    The copies of one sentence in SNLI, MultiNLI and their derivatives differ in just these.
    """
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.rstrip(" .") or folded


def read_nli(path: str | Path, *, split: str = "train", limit: int | None = None) -> Iterator[NliPair]:
    """The pairs of an NLI file in its own order (AllNLI.tsv.gz, SNLI and MultiNLI as JSON Lines, hub exports).

    Args:
        path: what `common.reading.read_rows` opens.
        split: which rows, where the file names the split in a column (AllNLI.tsv.gz does).
        limit: the first rows of the split only.

    Raises:
        InputError: with file and line: columns that are not NLI's, a text or label that is none; or no row.
    """
    count = 0
    for number, row in read_rows(path):
        if row.get("split", split) != split:
            continue
        if limit is not None and count >= limit:
            return
        count += 1
        yield _pair(row, f"{path}:{number}")
    if not count:
        raise InputError(f"{path}: no row of the split {split!r}; give --split")


def _pair(row: Mapping[str, Any], place: str) -> NliPair:
    found = [next((name for name in names if name in row), "") for names in (PREMISE, HYPOTHESIS, LABEL)]
    if not all(found):
        raise InputError(f"{place}: columns {', '.join(row)} are not those of NLI (premise, hypothesis, label)")
    for name in found[:2]:
        if not isinstance(row[name], str):
            raise InputError(f"{place}: column {name!r} should be text, is {type(row[name]).__name__}")
    value = row[found[2]]
    word = "" if value is None else str(value).strip().lower()
    numbers = NUMBERS if found[0] == "premise" else {}
    label = WORDS.get(word) or numbers.get(word)
    if label is None and word not in NO_GOLD:
        known = "entailment, neutral, contradiction" + (", 0 to 2" if numbers else "")
        raise InputError(f"{place}: column {found[2]!r} is {value!r}, none of {known}")
    return NliPair(row[found[0]], row[found[1]], label)


def make_triplets(
    pairs: Iterable[NliPair], *, rule: Rule = "matched", seed: int = 42
) -> tuple[list[dict[str, str]], dict[str, int]]:
    """Triplets of one premise, an entailed text and a contradicting one (SimCSE, arXiv 2104.08821, 4).

    Premises and texts count as equal by `text_key`; the first spelling is kept. A text that a premise both
    entails and contradicts is used as neither, one that repeats the premise not at all. Of a premise with E
    entailed texts and C contradicting ones (a premise that lacks either gives nothing) the rule makes

    - "matched": the i-th entailed with the i-th contradicting text, min(E, C) triplets, as in SimCSE's file;
    - "one": one triplet, both texts drawn by the seed and the premise, whatever else is in the data;
    - "all": E * C triplets.

    Returns:
        Rows of query, positive, negative, in the order of the premises' first appearance; and the counts of
        a report: pairs by label, what was left out and why, premises, triplets.
    """
    counts: Counter[str] = Counter()
    premises: dict[str, str] = {}
    texts: dict[str, tuple[dict[str, str], dict[str, str]]] = {}  # premise -> entailed, contradicting: key -> text
    for pair in pairs:
        counts["pairs"] += 1
        counts[pair.label or "no_gold_label"] += 1
        if not pair.premise.strip() or not pair.hypothesis.strip():
            counts["left_out_blank"] += 1
        elif pair.label in ("entailment", "contradiction"):
            premise, key = text_key(pair.premise), text_key(pair.hypothesis)
            if premise == key:
                counts["left_out_same_as_premise"] += 1
                continue
            premises.setdefault(premise, pair.premise)
            side = texts.setdefault(premise, ({}, {}))[pair.label == "contradiction"]
            counts["left_out_repeated"] += key in side
            side.setdefault(key, pair.hypothesis)
    rows: list[dict[str, str]] = []
    for premise, (entailed, contradicting) in texts.items():
        both = entailed.keys() & contradicting.keys()
        counts["left_out_contradictory_labels"] += 2 * len(both)
        positives = [text for key, text in entailed.items() if key not in both]
        negatives = [text for key, text in contradicting.items() if key not in both]
        counts["premises_without_entailment"] += not positives
        counts["premises_without_contradiction"] += bool(positives) and not negatives
        for positive, negative in _combined(positives, negatives, rule, f"{seed}-{premise}"):
            rows.append({"query": premises[premise], "positive": positive, "negative": negative})
    report = {name: counts[name] for name in _REPORTED}
    return rows, {**report, "premises": len(premises), "triplets": len(rows)}


_REPORTED = (
    *("pairs", "entailment", "neutral", "contradiction", "no_gold_label"),
    *("left_out_blank", "left_out_same_as_premise", "left_out_repeated", "left_out_contradictory_labels"),
    *("premises_without_entailment", "premises_without_contradiction"),
)


def _combined(positives: Sequence[str], negatives: Sequence[str], rule: Rule, seed: str) -> Iterable[tuple[str, str]]:
    if rule == "all":
        return [(positive, negative) for positive in positives for negative in negatives]
    if rule == "one" and positives and negatives:
        draw = random.Random(seed)
        return [(draw.choice(positives), draw.choice(negatives))]
    return zip(positives, negatives)


def check_output(output: Path, inputs: Iterable[str | Path]) -> Path:
    """The file of the report beside `output`; InputError where the output's name is unfit or one of the inputs."""
    suffix = next((s for s in OUTPUT_SUFFIXES[::-1] if output.name.endswith(s)), None)
    if suffix is None or output.name == suffix:
        raise InputError(f"--output {output}: the name must end with {' or '.join(OUTPUT_SUFFIXES)}")
    if output.is_dir():
        raise InputError(f"--output {output}: is a folder; name a file")
    for source in map(Path, inputs):
        if source.exists() and source.resolve() == output.resolve():
            raise InputError(f"--output {output}: is also an input; give it another name")
    return output.with_name(output.name.removesuffix(suffix) + ".report.json")


def write_triplets(path: Path, rows: Iterable[Mapping[str, Any]], query_column: str = "query") -> None:
    """Rows as JSON Lines, atomically, gzip'd where the name ends so; equal rows give equal bytes.

    `query_column` is what the first column is called: "query", or "text" as in the released BeLLM data.
    """
    with atomic_file(path) as handle:
        zipped = gzip.GzipFile("", "wb", fileobj=handle, mtime=0) if path.name.endswith(".gz") else None
        out = zipped or handle
        for row in rows:
            named = {query_column if name == "query" else name: value for name, value in row.items()}
            out.write((json.dumps(named, ensure_ascii=False) + "\n").encode("utf-8"))
        if zipped:
            zipped.close()
