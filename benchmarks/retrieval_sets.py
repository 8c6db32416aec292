"""Retrieval and reranking sets from local files, as corpus, queries, judgements and, for reranking, candidates.

| set | queries -> passages | test | training split |
|---|---|---|---|
| scifact | claim -> abstract (title and text) | the 300 claims of BEIR's test | train claims |
| nfcorpus | health question -> abstract, preprocessed | 325 | the dev questions: no train part is at hand |
| wikiqa | question -> sentence, among its own candidates (reranking) | test | train |
| squad_nqg | question -> sentence of a Wikipedia paragraph | test | dev: no train part is at hand |

They are read from the folder with the data (`--data_dir`) and nothing of them is part of this repository.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from common.errors import InputError
from common.io import sha256_of
from common.overlap import key
from common.reading import ROW_FORMATS, data_root, read_rows

logger = logging.getLogger(__name__)

FILES = (".jsonl.gz", ".jsonl")  # of a set, whichever is there
Split = Literal["test", "train"]


@dataclass(frozen=True)
class RetrievalSet:
    """Queries, passages, and which passages answer which queries.

    Attributes:
        name: a key of `SETS`.
        split: "test", or "train" for what examples and training may use.
        queries, corpus: id -> text. Every query has a relevant passage, every judged passage is in the corpus.
        qrels: query -> {passage: grade}, grades above 0 only.
        candidates: query -> the passages to be ranked for it; None: the whole corpus.
        notes: what differs from the set as others use it.
        whole: the numbers of queries and passages before `limited`.
    """

    name: str
    split: Split
    queries: dict[str, str]
    corpus: dict[str, str]
    qrels: dict[str, dict[str, int]]
    candidates: dict[str, list[str]] | None = None
    notes: tuple[str, ...] = ()
    whole: tuple[int, int] = field(default=(0, 0))

    @property
    def is_reranking(self) -> bool:
        """Whether each query ranks candidates of its own."""
        return self.candidates is not None

    @property
    def fingerprint(self) -> str:
        """A hash over all of it."""
        return sha256_of([self.queries, self.corpus, self.qrels, self.candidates])

    def limited(self, queries: int | None = None, passages: int | None = None, *, seed: int = 0) -> RetrievalSet:
        """So many queries and passages, drawn at random; the relevant passages of the queries are always kept.

        A smaller corpus is easier: such scores do not compare with those of the whole. Where candidates are ranked,
        the passages are those of the queries, and `passages` does not matter.
        """
        random_queries, random_passages = random.Random(f"{seed} queries"), random.Random(f"{seed} passages")
        kept = list(self.queries)
        if queries is not None and queries < len(kept):
            drawn = set(random_queries.sample(kept, queries))
            kept = [q for q in kept if q in drawn]
        qrels = {q: self.qrels[q] for q in kept}
        needed = {p for q in kept for p in (self.candidates[q] if self.candidates else qrels[q])}
        others = [] if self.candidates else [p for p in self.corpus if p not in needed]
        if passages is not None:
            others = random_passages.sample(others, min(len(others), max(0, passages - len(needed))))
        chosen = needed | set(others)
        corpus = {p: text for p, text in self.corpus.items() if p in chosen}
        notes = list(self.notes)
        if (len(kept), len(corpus)) != (len(self.queries), len(self.corpus)):
            notes.append(
                f"limited to {len(kept)} of {len(self.queries)} queries and {len(corpus)} of {len(self.corpus)} "
                f"passages, seed {seed}; all relevant ones kept: easier than the whole set"
            )
        return replace(
            self,
            queries={q: self.queries[q] for q in kept},
            corpus=corpus,
            qrels=qrels,
            candidates={q: self.candidates[q] for q in kept} if self.candidates else None,
            notes=tuple(notes),
        )


def data_folder(data_dir: str | Path | None) -> Path:
    """The folder that the user named, or that the environment variable EMBED_DATA names.

    Raises:
        InputError: neither is there.
    """
    named = data_root(data_dir)
    if not named:
        raise InputError("missing: --data_dir (the folder with the data), or the environment variable EMBED_DATA")
    if not named.is_dir():
        raise InputError(f"--data_dir {named}: no such folder")
    return named


def load_set(name: str, data_dir: str | Path, split: Split = "test") -> RetrievalSet:
    """A set from `data_dir`/NAME/*.jsonl.gz (or .jsonl).

    Raises:
        InputError: no such set, its files are missing, or they have no such columns.
    """
    if name not in SETS:
        raise InputError(f"set {name!r} is not known; known: {', '.join(SETS)}")
    folder = Path(data_dir) / name
    if not folder.is_dir():
        raise InputError(f"--data_dir {data_dir}: has no folder {name}")
    found = SETS[name](folder, split)
    found = _only_answerable(found)
    if not found.queries:
        raise InputError(f"{folder}: no query of the {split} split has a relevant passage")
    return replace(found, whole=(len(found.queries), len(found.corpus)))


def _only_answerable(found: RetrievalSet) -> RetrievalSet:
    """Without judgements of grade 0 or of passages that are not there, and without queries that are left with none."""
    qrels = {}
    for query, judged in found.qrels.items():
        kept = {p: grade for p, grade in judged.items() if grade > 0 and p in found.corpus}
        if kept and query in found.queries:
            qrels[query] = kept
    dropped = len(found.queries) - len(qrels)
    note = (f"{dropped} queries without a relevant passage left out",) if dropped else ()
    candidates = found.candidates
    return replace(
        found,
        queries={q: text for q, text in found.queries.items() if q in qrels},
        qrels={q: qrels[q] for q in found.queries if q in qrels},
        candidates={q: candidates[q] for q in found.queries if q in qrels} if candidates else None,
        notes=(*found.notes, *note),
    )


# ------------------------------------------------------------------------------------------ the sets


def _scifact(folder: Path, split: Split) -> RetrievalSet:
    corpus = {str(row["id"]): _with_title(row) for row in data_rows(folder / "corpus", ("id", "title", "text"))}
    return RetrievalSet("scifact", split, *_judged(folder, split, corpus))


def _nfcorpus(folder: Path, split: Split) -> RetrievalSet:
    corpus = {str(row["id"]): row["text"] for row in data_rows(folder / "corpus", ("id", "text"))}
    queries, corpus, qrels = _judged(folder, "test" if split == "test" else "dev", corpus)
    notes = ["documents as preprocessed by its authors (lower case, no stop words): not BEIR's text"]
    if split == "train":
        notes.append("the dev questions stand for the missing train part")
    return RetrievalSet("nfcorpus", split, queries, corpus, qrels, notes=tuple(notes))


def _wikiqa(folder: Path, split: Split) -> RetrievalSet:
    corpus, queries = _Texts("s"), _Texts("q")
    qrels: dict[str, dict[str, int]] = {}
    candidates: dict[str, list[str]] = {}
    for row in data_rows(folder / split, ("question", "sentence", "label")):
        query, passage = queries.add(row["question"]), corpus.add(row["sentence"])
        offered = candidates.setdefault(query, [])
        if passage not in offered:
            offered.append(passage)
        judged = qrels.setdefault(query, {})
        judged[passage] = max(int(row["label"]), judged.get(passage, 0))
    return RetrievalSet("wikiqa", split, queries.by_id, corpus.by_id, qrels, candidates)


def _squad_nqg(folder: Path, split: Split) -> RetrievalSet:
    corpus, queries = _Texts("s"), _Texts("q")
    qrels: dict[str, dict[str, int]] = {}
    for row in data_rows(folder / ("test" if split == "test" else "dev"), ("question", "sentence")):
        qrels.setdefault(queries.add(row["question"]), {})[corpus.add(row["sentence"])] = 1
    notes = () if split == "test" else ("the dev questions stand for the missing train part",)
    return RetrievalSet("squad_nqg", split, queries.by_id, corpus.by_id, qrels, notes=notes)


SETS: dict[str, Callable[[Path, Split], RetrievalSet]] = {
    "scifact": _scifact,
    "nfcorpus": _nfcorpus,
    "wikiqa": _wikiqa,
    "squad_nqg": _squad_nqg,
}


class _Texts:
    """Ids for distinct texts, in order of first appearance."""

    def __init__(self, letter: str) -> None:
        self.by_id: dict[str, str] = {}
        self._letter, self._ids = letter, dict[str, str]()

    def add(self, text: str) -> str:
        """The id of a text."""
        if text not in self._ids:
            self._ids[text] = f"{self._letter}{len(self._ids)}"
            self.by_id[self._ids[text]] = text
        return self._ids[text]


def _judged(
    folder: Path, split: str, corpus: dict[str, str]
) -> tuple[dict[str, str], dict[str, str], dict[str, dict[str, int]]]:
    queries = {str(row["id"]): row["text"] for row in data_rows(folder / f"queries.{split}", ("id", "text"))}
    qrels: dict[str, dict[str, int]] = {}
    for row in data_rows(folder / f"qrels.{split}", ("qid", "did", "rel")):
        qrels.setdefault(str(row["qid"]), {})[str(row["did"])] = int(row["rel"])
    return queries, corpus, qrels


def _with_title(row: Mapping[str, Any]) -> str:
    """Title and text as BEIR joins them."""
    return f"{row['title']} {row['text']}".strip()


def data_rows(file: Path, columns: Collection[str] = ()) -> Iterator[dict[str, Any]]:
    """The rows of a file; a name without a suffix means NAME.jsonl.gz or NAME.jsonl.

    Raises:
        InputError: no such file, or a row without one of the columns.
    """
    file = _present(file)
    for number, row in read_rows(file):
        missing = [column for column in columns if column not in row]
        if missing:
            raise InputError(f"{file}:{number}: no column {missing[0]!r} (has {', '.join(row)})")
        yield row


def _present(file: Path) -> Path:
    if file.name.removesuffix(".gz").endswith(ROW_FORMATS):
        if file.is_file():
            return file
        raise InputError(f"{file}: no such file")
    found = next((path for suffix in FILES if (path := file.with_name(file.name + suffix)).is_file()), None)
    if found is None:
        raise InputError(f"{file}{FILES[0]}: no such file, and no {file.name}{FILES[1]}")
    return found


# ------------------------------------------------------------------------------------------ overlap


@dataclass(frozen=True)
class Overlap:
    """How many distinct texts of a test set are also in training data, in any role there.

    Attributes:
        queries, relevant, corpus: test queries, passages that are relevant for one, and all passages, found again.
        pairs: queries that stand in the training data together with a passage relevant for them.
        of_queries, of_relevant, of_corpus: out of how many distinct ones.
    """

    queries: int
    relevant: int
    corpus: int
    pairs: int
    of_queries: int
    of_relevant: int
    of_corpus: int

    def __str__(self) -> str:
        return (
            f"{self.queries} of {self.of_queries} queries, {self.relevant} of {self.of_relevant} relevant passages, "
            f"{self.corpus} of {self.of_corpus} passages, {self.pairs} whole pairs"
        )


class TrainingTexts:
    """The distinct texts of training rows, and which of them stood together as query and positive."""

    def __init__(self) -> None:
        self.texts: set[str] = set()
        self.pairs: set[tuple[str, str]] = set()
        self.rows = 0

    def add(self, query: str, positives: Iterable[str], negatives: Iterable[str] = ()) -> None:
        """One row."""
        self.rows += 1
        first = key(query)
        positive = [key(text) for text in positives]
        self.texts |= {first, *positive, *(key(text) for text in negatives)}
        self.pairs |= {(first, other) for other in positive}

    def overlap(self, tested: RetrievalSet) -> Overlap:
        """What of a test set is among them."""
        judged = {p for row in tested.qrels.values() for p in row}
        queries = {key(text) for text in tested.queries.values()}
        relevant = {key(tested.corpus[p]) for p in judged}
        corpus = {key(text) for text in tested.corpus.values()}
        pairs = {(key(tested.queries[q]), key(tested.corpus[p])) for q, row in tested.qrels.items() for p in row}
        return Overlap(
            queries=len(queries & self.texts),
            relevant=len(relevant & self.texts),
            corpus=len(corpus & self.texts),
            pairs=len(pairs & self.pairs),
            of_queries=len(queries),
            of_relevant=len(relevant),
            of_corpus=len(corpus),
        )


def training_texts(path: str | Path) -> TrainingTexts:
    """The texts of training rows {query, pos, neg}: of a file, or of all .jsonl (.gz) files beneath a folder.

    Raises:
        InputError: no such file, none in the folder, or a row without query and pos.
    """
    root = Path(path)
    files = [root] if root.is_file() else sorted([*root.rglob("*.jsonl"), *root.rglob("*.jsonl.gz")])
    if not files:
        raise InputError(f"--train {path}: no .jsonl files there")
    found = TrainingTexts()
    for file in files:
        for row in data_rows(file, ("query", "pos")):
            found.add(row["query"], _as_list(row["pos"]), _as_list(row.get("neg") or ()))
    return found


def _as_list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
