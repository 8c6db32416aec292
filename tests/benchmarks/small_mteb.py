"""Small local data for mteb's tasks, in the layouts that `benchmarks.mteb_local` reads; sentences of our own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

TOPICS = {
    "weather": ["Rain falls on the hills all day.", "The storm blew the roof away.", "Snow covers the valley floor."],
    "chess": ["She opened with the queen's pawn.", "The rook takes the last bishop.", "A draw was agreed at move ten."],
    "bread": ["Knead the dough for ten minutes.", "The crust turned dark and crisp.", "Let the loaf rise overnight."],
    "trains": ["The express leaves from platform four.", "Two carriages were empty.", "The signal turned to green."],
}


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_pairs(folder: Path, task: str = "STS12") -> list[dict[str, Any]]:
    """A graded-pair task in mteb's own columns: pairs within a topic are graded higher than across."""
    rows = []
    topics = list(TOPICS.values())
    for i, texts in enumerate(topics):
        rows += [{"sentence1": texts[0], "sentence2": texts[1], "score": 4.0 + 0.1 * i}]
        rows += [{"sentence1": texts[0], "sentence2": topics[(i + 1) % 4][2], "score": 0.5 + 0.1 * i}]
        rows += [{"sentence1": texts[2], "sentence2": texts[2], "score": 5.0}]
    write_rows(folder / task / "test.jsonl", rows)
    return rows


def write_scifact(folder: Path) -> None:
    """A retrieval task in the layout of `mteb_local.yaml`: each topic's first text asks for its others."""
    documents = [
        {"id": f"{topic}-{i}", "title": topic.title() if i == 1 else "", "text": text}
        for topic, texts in TOPICS.items()
        for i, text in enumerate(texts[1:], 1)
    ]
    queries = [{"id": topic, "text": texts[0]} for topic, texts in TOPICS.items()]
    judged = [{"qid": topic, "did": f"{topic}-{i}", "rel": 1} for topic in TOPICS for i in (1, 2)]
    write_rows(folder / "scifact/corpus.jsonl", documents)
    write_rows(folder / "scifact/queries.test.jsonl", [*queries, {"id": "unjudged", "text": "Nobody judged this."}])
    write_rows(folder / "scifact/qrels.test.jsonl", judged)


def write_banking(folder: Path) -> None:
    """A classification task: the topics are the labels; training texts repeat, so that there are enough of each."""
    train = [{"text": f"{text} ({i})", "label": topic} for topic, texts in TOPICS.items() for text in texts for i in
             range(4)]  # fmt: skip
    test = [{"text": text, "label": topic} for topic, texts in TOPICS.items() for text in texts]
    write_rows(folder / "banking77/train.jsonl", train)
    write_rows(folder / "banking77/test.jsonl", test)
