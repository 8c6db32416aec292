"""Rows to train BGE-ICL on, from sets in a folder: SciFact, WikiQA, questions of SQuAD, NLI; a file per set.

Texts that the test sets hold too are counted and left out: SciFact test claims, NFCorpus, WikiQA test, SQuAD test.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import cli
from common.errors import InputError
from common.io import write_json, write_text
from common.reading import read_rows

Row = dict[str, Any]

# The paper's Table 7 has SciFact's and, for questions, that of NQ; the released training rows have that of NLI.
PROMPTS = {
    "scifact": "Given a scientific claim, retrieve documents that support or refute the claim.",
    "wikiqa": "Given a question, retrieve Wikipedia passages that answer the question.",
    "squad": "Given a question, retrieve Wikipedia passages that answer the question.",
    "nli": "Retrieve semantically similar text.",
}
_BRACKETS = re.compile(r"-(lrb|rrb|lsb|rsb|lcb|rcb)-")


def _flag(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help, "group": "data"})


@dataclass(kw_only=True)
class TrainDataConfig:
    """Where from, where to, how many negatives."""

    data_dir: Path = field(metadata={"help": "folder with scifact, wikiqa, squad_nqg, nli_train, nfcorpus"})
    output: Path = field(metadata={"help": "folder for one file per set; beside it FOLDER.overlap.json"})
    sets: list[str] = _flag(tuple(PROMPTS), "which of scifact, wikiqa, squad, nli")
    negatives: int = _flag(7, "negatives per row, found by shared words where the set has none (scifact, squad)")
    skip_nearest: int = _flag(3, "of those, leave out so many of the nearest: they may be right, too")
    drop_shared_documents: bool = _flag(False, "leave out SciFact claims about a document that a test claim is about")
    limit: int | None = _flag(None, "rows per set, drawn by seed")
    seed: int = _flag(42, "of all draws")

    def __post_init__(self) -> None:
        for name in self.sets:
            if name not in PROMPTS:
                raise InputError(f"--sets {name}: is none of {', '.join(PROMPTS)}")
        if self.negatives < 1:
            raise InputError(f"--negatives {self.negatives}: must be at least 1")


def main(config: TrainDataConfig) -> None:
    """Read, compare with the test sets, write, print what was shared."""
    from prettytable import PrettyTable

    tests = test_texts(config.data_dir)
    table = PrettyTable(["set", "rows", "dropped", "negatives dropped", *tests], align="r")
    report: dict[str, Any] = {}
    for name in config.sets:
        rows, notes = READERS[name](config)
        kept, counts = without_test_texts(rows, tests)
        if config.limit is not None and len(kept) > config.limit:
            kept = random.Random(f"{config.seed}-{name}").sample(kept, config.limit)
        if not kept:
            raise InputError(f"{config.data_dir}: no row of {name} is left")
        write_text(config.output / f"{name}.jsonl", "".join(_line(row) for row in kept))
        table.add_row(
            [name, len(kept), counts["rows dropped"], counts["negatives dropped"], *(counts[test] for test in tests)]
        )
        report[name] = {"rows": len(kept), **counts, **notes}
    # Not in the folder: all that lies there is read as rows.
    write_json(config.output.with_name(f"{config.output.name}.overlap.json"), report)
    print("rows to train on; texts (queries, positives, negatives) that a test set holds too, left out:")
    print(table)
    for name, one in report.items():
        for key in sorted(one.keys() - {"rows", "rows dropped", "negatives dropped", *tests}):
            print(f"{name}: {key}: {one[key]}")


def _line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def key(text: str) -> str:
    """What copies of a sentence share, however they are tokenised: its letters and digits, without case."""
    folded = _BRACKETS.sub(" ", text.casefold())
    return "".join(c for c in folded if c.isalnum()) or text.strip()


def test_texts(folder: Path) -> dict[str, set[str]]:
    """The keys of all texts of each test set; of SciFact the claims alone, its documents being those of training."""
    return {
        "SciFact test": {key(r["text"]) for r in _read(folder, "scifact/queries.test.jsonl.gz")},
        "NFCorpus": {
            key(r["text"]) for name in ("queries.test", "corpus") for r in _read(folder, f"nfcorpus/{name}.jsonl.gz")
        },
        "WikiQA test": {key(t) for r in _read(folder, "wikiqa/test.jsonl.gz") for t in (r["question"], r["sentence"])},
        "SQuAD test": {
            key(t) for r in _read(folder, "squad_nqg/test.jsonl.gz") for t in (r["question"], r["sentence"])
        },
    }


def without_test_texts(rows: Sequence[Row], tests: dict[str, set[str]]) -> tuple[list[Row], Counter[str]]:
    """The rows whose query and positives are in no test set, their negatives without those that are.

    Returns:
        the rows, and counts: rows and negatives left out, and of each test set the distinct texts found.
    """
    found: dict[str, set[str]] = {name: set() for name in tests}
    counts: Counter[str] = Counter()

    def shared(text: str) -> bool:
        names = [name for name, keys in tests.items() if key(text) in keys]
        for name in names:
            found[name].add(key(text))
        return bool(names)

    kept = []
    for row in rows:
        own = [shared(text) for text in (row["query"], *row["pos"])]
        wrong = [text for text in row["neg"] if shared(text)]
        counts["negatives dropped"] += len(wrong)
        negatives = [text for text in row["neg"] if text not in wrong]
        if any(own) or (row["neg"] and not negatives):
            counts["rows dropped"] += 1
            continue
        kept.append({**row, "neg": negatives})
    counts.update({"rows dropped": 0, "negatives dropped": 0, **{name: len(keys) for name, keys in found.items()}})
    return kept, counts


def lexical_negatives(
    queries: Sequence[str], right: Sequence[set[int]], texts: Sequence[str], count: int, skip: int
) -> list[list[str]]:
    """For each query the texts that share most of its words (cosine of tf-idf), but for the right ones.

    Args:
        queries: the texts to find negatives for.
        right: per query, the positions in `texts` of those that answer it.
        texts: the candidates.
        count: negatives per query.
        skip: leave out so many of the nearest wrong ones.
    """
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(sublinear_tf=True, stop_words="english", dtype=np.float32)
    documents = vectorizer.fit_transform(texts)
    found = []
    for start in range(0, len(queries), 256):
        scores = (vectorizer.transform(queries[start : start + 256]) @ documents.T).toarray()
        for i, of_query in enumerate(scores, start):
            order = (-of_query).argsort(kind="stable")[: skip + count + len(right[i]) + 1]
            wrong = [int(j) for j in order if int(j) not in right[i]]
            found.append([texts[j] for j in wrong[skip : skip + count]])
    return found


def _read(folder: Path, name: str) -> Iterator[Row]:
    path = folder / name
    if not path.is_file():
        raise InputError(f"--data_dir: no file {path}")
    return (row for _, row in read_rows(path))


def _row(name: str, query: str, pos: list[str], neg: list[str], kind: str = "normal") -> Row:
    return {"query": query, "pos": pos, "neg": neg, "prompt": PROMPTS[name], "type": kind}


def scifact_rows(config: TrainDataConfig) -> tuple[list[Row], dict[str, int]]:
    """A row per claim of the training part: the documents it is about, negatives by shared words."""
    folder = config.data_dir / "scifact"
    corpus = {r["id"]: f"{r['title']} {r['text']}".strip() for r in _read(folder, "corpus.jsonl.gz")}
    ids, texts = list(corpus), list(corpus.values())
    position = {one: i for i, one in enumerate(ids)}
    judged: dict[str, list[str]] = {}
    for r in _read(folder, "qrels.train.jsonl.gz"):
        if r["rel"] > 0:
            judged.setdefault(r["qid"], []).append(r["did"])
    tested = {r["did"] for r in _read(folder, "qrels.test.jsonl.gz") if r["rel"] > 0}
    claims = [r for r in _read(folder, "queries.train.jsonl.gz") if r["id"] in judged]
    shared = [r["id"] for r in claims if tested & set(judged[r["id"]])]
    if config.drop_shared_documents:
        claims = [r for r in claims if r["id"] not in set(shared)]
    right = [{position[did] for did in judged[r["id"]]} for r in claims]
    negatives = lexical_negatives([r["text"] for r in claims], right, texts, config.negatives, config.skip_nearest)
    rows = [
        _row("scifact", r["text"], [corpus[did] for did in judged[r["id"]]], wrong)
        for r, wrong in zip(claims, negatives)
    ]
    return rows, {"claims about a document that a test claim is about": len(shared)}


def wikiqa_rows(config: TrainDataConfig) -> tuple[list[Row], dict[str, int]]:
    """A row per question: its right sentences, and as negatives its wrong ones; without wrong ones, left out."""
    right: dict[str, list[str]] = {}
    wrong: dict[str, list[str]] = {}
    for r in _read(config.data_dir, "wikiqa/train.jsonl.gz"):
        (right if r["label"] else wrong).setdefault(r["question"], []).append(r["sentence"])
    rows = [_row("wikiqa", q, pos, wrong[q]) for q, pos in right.items() if q in wrong]
    return rows, {"questions without a wrong sentence, left out": len(right) - len(rows)}


def squad_rows(config: TrainDataConfig) -> tuple[list[Row], dict[str, int]]:
    """A row per question of the development part: its sentence, negatives by shared words."""
    pairs = [(r["question"], r["sentence"]) for r in _read(config.data_dir, "squad_nqg/dev.jsonl.gz")]
    texts = list(dict.fromkeys(sentence for _, sentence in pairs))
    position = {text: i for i, text in enumerate(texts)}
    of_question: dict[str, list[str]] = {}
    for question, sentence in pairs:
        if sentence not in of_question.setdefault(question, []):
            of_question[question].append(sentence)
    right = [{position[s] for s in sentences} for sentences in of_question.values()]
    negatives = lexical_negatives(list(of_question), right, texts, config.negatives, config.skip_nearest)
    rows = [_row("squad", q, pos, wrong) for (q, pos), wrong in zip(of_question.items(), negatives)]
    return rows, {}


def nli_rows(config: TrainDataConfig) -> tuple[list[Row], dict[str, int]]:
    """A row per triplet: a premise, an entailed hypothesis, and as its only negative a contradicting one."""
    rows = [
        _row("nli", r["sent0"], [r["sent1"]], [r["hard_neg"]], "only_1neg")
        for r in _read(config.data_dir, "nli_train/all_triplets.jsonl.gz")
    ]
    return rows, {}


READERS: dict[str, Callable[[TrainDataConfig], tuple[list[Row], dict[str, int]]]] = {
    "scifact": scifact_rows,
    "wikiqa": wikiqa_rows,
    "squad": squad_rows,
    "nli": nli_rows,
}

if __name__ == "__main__":
    cli.run(main, TrainDataConfig, description=__doc__)
