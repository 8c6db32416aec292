"""Rows to train BGE-ICL on, from sets in a folder: SciFact, WikiQA, questions of SQuAD, NLI; a file per set.

Texts that the test sets hold too are counted and left out: SciFact test claims, NFCorpus, WikiQA test, SQuAD test.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.retrieval_sets import data_folder, data_rows
from bge_icl.data_files import data_files
from common import cli
from common.errors import InputError
from common.flags import flag
from common.io import write_json, write_text
from common.overlap import key

Row = dict[str, Any]

# The paper's Table 7 has SciFact's and, for questions, that of NQ; the released training rows have that of NLI.
PROMPTS = {
    "scifact": "Given a scientific claim, retrieve documents that support or refute the claim.",
    "wikiqa": "Given a question, retrieve Wikipedia passages that answer the question.",
    "squad": "Given a question, retrieve Wikipedia passages that answer the question.",
    "nli": "Retrieve semantically similar text.",
}
PAIR, JUDGED = ("question", "sentence"), ("qid", "did", "rel")  # columns


_flag = partial(flag, group="data")


@dataclass(kw_only=True)
class TrainDataConfig:
    """Where from, where to, how many negatives."""

    output: Path = field(
        metadata={"help": "folder for one file per set, which may hold no other data; beside it FOLDER.overlap.json"}
    )
    data_dir: Path | None = _flag(
        None, "folder with scifact, wikiqa, squad_nqg, nli_train, nfcorpus; default: EMBED_DATA"
    )
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
        for name, least in (("negatives", 1), ("limit", 1), ("skip_nearest", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"--{name} {value}: must be at least {least}")


def main(config: TrainDataConfig) -> None:
    """Read, compare with the test sets, write, print what was shared."""
    from prettytable import PrettyTable

    folder = data_folder(config.data_dir)
    check_output(config)
    tests = test_texts(folder)
    table = PrettyTable(["set", "rows", "dropped", "negatives dropped", *tests], align="r")
    report: dict[str, Any] = {}
    for name in config.sets:
        rows, notes = READERS[name](folder, config)
        kept, counts = without_test_texts(rows, tests)
        if config.limit is not None and len(kept) > config.limit:
            kept = random.Random(f"{config.seed}-{name}").sample(kept, config.limit)
        if not kept:
            raise InputError(f"{folder}: of the {len(rows)} rows of {name} none is left without texts of the test sets")
        write_text(_file(config, name), "".join(_line(row) for row in kept))
        table.add_row(
            [name, len(kept), counts["rows dropped"], counts["negatives dropped"], *(counts[test] for test in tests)]
        )
        report[name] = {"rows": len(kept), **counts, **notes}
    # Not in the folder: all data that lies there is read as rows.
    write_json(config.output.with_name(f"{config.output.name}.overlap.json"), report)
    print("rows to train on; texts (queries, positives, negatives) that a test set holds too, left out:")
    print(table)
    for name, one in report.items():
        for note in sorted(one.keys() - {"rows", "rows dropped", "negatives dropped", *tests}):
            print(f"{name}: {note}: {one[note]}")


def check_output(config: TrainDataConfig) -> None:
    """See that the folder will hold what was asked for and nothing else: training reads all files of a folder.

    Raises:
        InputError: it holds other data, such as a set of an earlier run with more --sets; names the file.
    """
    written = {_file(config, name) for name in config.sets}
    other = [file for file in data_files(config.output) if file not in written]
    if other:
        more = f" (and {len(other) - 1} more)" if other[1:] else ""
        raise InputError(
            f"{other[0]}{more}: is not of this run (--sets {' '.join(config.sets)}), and training would read it, too; "
            "remove it, or give another --output"
        )


def _file(config: TrainDataConfig, name: str) -> Path:
    return config.output / f"{name}.jsonl"


def _line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def test_texts(folder: Path) -> dict[str, set[str]]:
    """The keys of all texts of each test set; of SciFact the claims alone, its documents being those of training."""
    return {
        "SciFact test": {key(r["text"]) for r in data_rows(folder / "scifact/queries.test", ("text",))},
        "NFCorpus": {
            key(r["text"])
            for name in ("queries.test", "corpus")
            for r in data_rows(folder / "nfcorpus" / name, ("text",))
        },
        "WikiQA test": {
            key(t) for r in data_rows(folder / "wikiqa/test", PAIR) for t in (r["question"], r["sentence"])
        },
        "SQuAD test": {
            key(t) for r in data_rows(folder / "squad_nqg/test", PAIR) for t in (r["question"], r["sentence"])
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


def _row(name: str, query: str, pos: list[str], neg: list[str], kind: str = "normal") -> Row:
    return {"query": query, "pos": pos, "neg": neg, "prompt": PROMPTS[name], "type": kind}


def scifact_rows(folder: Path, config: TrainDataConfig) -> tuple[list[Row], dict[str, int]]:
    """A row per claim of the training part: the documents it is about, negatives by shared words."""
    folder = folder / "scifact"
    corpus = {
        str(r["id"]): f"{r['title']} {r['text']}".strip() for r in data_rows(folder / "corpus", ("id", "title", "text"))
    }
    ids, texts = list(corpus), list(corpus.values())
    position = {one: i for i, one in enumerate(ids)}
    judged: dict[str, list[str]] = {}
    for r in data_rows(folder / "qrels.train", JUDGED):
        if r["rel"] > 0:
            judged.setdefault(str(r["qid"]), []).append(str(r["did"]))
    tested = {str(r["did"]) for r in data_rows(folder / "qrels.test", JUDGED) if r["rel"] > 0}
    claims = {str(r["id"]): r["text"] for r in data_rows(folder / "queries.train", ("id", "text"))}
    claims = {qid: text for qid, text in claims.items() if qid in judged}
    shared = {qid for qid in claims if tested & set(judged[qid])}
    if config.drop_shared_documents:
        claims = {qid: text for qid, text in claims.items() if qid not in shared}
    right = [{position[did] for did in judged[qid]} for qid in claims]
    negatives = lexical_negatives(list(claims.values()), right, texts, config.negatives, config.skip_nearest)
    rows = [
        _row("scifact", text, [corpus[did] for did in judged[qid]], wrong)
        for (qid, text), wrong in zip(claims.items(), negatives)
    ]
    return rows, {"claims about a document that a test claim is about": len(shared)}


def wikiqa_rows(folder: Path, config: TrainDataConfig) -> tuple[list[Row], dict[str, int]]:
    """A row per question: its right sentences, and as negatives its wrong ones; without wrong ones, left out."""
    right: dict[str, list[str]] = {}
    wrong: dict[str, list[str]] = {}
    for r in data_rows(folder / "wikiqa/train", (*PAIR, "label")):
        (right if r["label"] else wrong).setdefault(r["question"], []).append(r["sentence"])
    rows = [_row("wikiqa", q, pos, wrong[q]) for q, pos in right.items() if q in wrong]
    return rows, {"questions without a wrong sentence, left out": len(right) - len(rows)}


def squad_rows(folder: Path, config: TrainDataConfig) -> tuple[list[Row], dict[str, int]]:
    """A row per question of the development part: its sentence, negatives by shared words."""
    pairs = [(r["question"], r["sentence"]) for r in data_rows(folder / "squad_nqg/dev", PAIR)]
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


def nli_rows(folder: Path, config: TrainDataConfig) -> tuple[list[Row], dict[str, int]]:
    """A row per triplet: a premise, an entailed hypothesis, and as its only negative a contradicting one."""
    rows = [
        _row("nli", r["sent0"], [r["sent1"]], [r["hard_neg"]], "only_1neg")
        for r in data_rows(folder / "nli_train/all_triplets", ("sent0", "sent1", "hard_neg"))
    ]
    return rows, {}


READERS: dict[str, Callable[[Path, TrainDataConfig], tuple[list[Row], dict[str, int]]]] = {
    "scifact": scifact_rows,
    "wikiqa": wikiqa_rows,
    "squad": squad_rows,
    "nli": nli_rows,
}

if __name__ == "__main__":
    cli.run(main, TrainDataConfig, description=__doc__)
