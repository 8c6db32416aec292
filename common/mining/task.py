"""The texts of rows as numbers, and what is known to be no negative of a query. Used by `common.mining.mine`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from common.errors import InputError
from common.mining.triplets import text_key

Row = dict[str, Any]
Side = Literal["queries", "positives", "negatives"]
# Why a text is no candidate, in the order of asking.
TEXT_GUARDS = ("same_as_query", "same_as_positive", "entailed", "given_negative")


@dataclass
class MiningTask:
    """Rows with their texts numbered, equal ones (by `text_key`) once.

    Attributes:
        rows: as given.
        queries, texts: the spellings to encode; the first `candidates` texts are the pool.
        query_of, positives_of: the numbers of each row's texts.
        negatives_of: per row its given negatives, number -> spelling, without those known to be none.
        known: per query, text -> the text guard that keeps it from being a candidate.
    """

    rows: list[Row]
    queries: list[str]
    texts: list[str]
    candidates: int
    query_of: list[int]
    positives_of: list[list[int]]
    negatives_of: list[dict[int, str]] = field(default_factory=list)
    known: list[dict[int, str]] = field(default_factory=list)


def prepare(
    rows: Iterable[Row],
    *,
    pool: Sequence[Side] = ("positives", "negatives"),
    entailed: Iterable[tuple[str, str]] = (),
    corpus: Iterable[str] = (),
) -> MiningTask:
    """Number the texts and collect what is no candidate.

    For a query these are: itself; all positives of all rows with this query; in either direction, what stands
    beside it as query and positive in other rows or in `entailed`; and its given negatives, which need no
    mining. A given negative that is one of the former is dropped.

    Args:
        rows: with query, positive and, where there is one, negative; positives and negatives may be lists.
        pool: the columns whose texts are candidates.
        entailed: further pairs known to be alike (the entailment pairs of NLI data).
        corpus: further candidates.

    Raises:
        InputError: rows without query and positive, or an empty pool.
    """
    rows = list(rows)
    for number, row in enumerate(rows, 1):
        if not isinstance(row.get("query"), str) or "positive" not in row:
            raise InputError(
                f"row {number}: mining needs one query and a positive, not {', '.join(row)}; "
                "make triplets of NLI pairs first (python -m common.mining.make_triplets)"
            )
    columns: dict[Side, Iterable[str]] = {
        "queries": (row["query"] for row in rows),
        "positives": (text for row in rows for text in listed(row, "positive")),
        "negatives": (text for row in rows for text in listed(row, "negative")),
    }
    texts, queries = _Numbers(), _Numbers()
    for text in (*(text for side in pool for text in columns[side]), *corpus):
        texts.add(text)
    if not texts.of:
        raise InputError(f"--pool {' '.join(pool) or 'none'}: there is no text in it")
    candidates = len(texts.of)  # what is added from here on is scored, but is no candidate
    task = MiningTask(
        rows,
        candidates=candidates,
        queries=queries.spellings,
        texts=texts.spellings,
        query_of=[queries.add(row["query"]) for row in rows],
        positives_of=[[texts.add(text) for text in listed(row, "positive")] for row in rows],
    )
    task.known = _known(task, queries, texts, entailed)
    for query, row in zip(task.query_of, rows):
        given = {texts.add(text): text for text in listed(row, "negative")}
        task.negatives_of.append({n: t for n, t in given.items() if n not in task.known[query]})
    for query, given in zip(task.query_of, task.negatives_of):
        task.known[query].update(dict.fromkeys(given, "given_negative"))
    return task


def listed(row: Row, column: str) -> list[str]:
    """The texts of a column that may hold one, a list, or nothing."""
    value = row.get(column) or []
    return [value] if isinstance(value, str) else value


class _Numbers:
    """Texts by number, equal ones once, in their first spelling."""

    def __init__(self) -> None:
        self.spellings: list[str] = []
        self.of: dict[str, int] = {}

    def add(self, text: str) -> int:
        key = text_key(text)
        if key not in self.of:
            self.of[key] = len(self.spellings)
            self.spellings.append(text)
        return self.of[key]


def _known(
    task: MiningTask, queries: _Numbers, texts: _Numbers, entailed: Iterable[tuple[str, str]]
) -> list[dict[int, str]]:
    known: list[dict[int, str]] = [{} for _ in queries.spellings]
    for key, query in queries.of.items():
        if key in texts.of:
            known[query][texts.of[key]] = "same_as_query"
    for query, positives in zip(task.query_of, task.positives_of):
        for text in positives:
            known[query].setdefault(text, "same_as_positive")
    given = ((row["query"], text) for row in task.rows for text in listed(row, "positive"))
    for pairs in (given, entailed):
        for one, other in pairs:
            keys = text_key(one), text_key(other)
            for query_key, key in (keys, keys[::-1]):
                if query_key in queries.of and key in texts.of:
                    known[queries.of[query_key]].setdefault(texts.of[key], "entailed")
    return known
