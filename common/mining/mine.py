"""Better negatives for query-positive rows: retrieve texts like the query, rerank, guard against false negatives.

sentence-transformers' `mine_hard_negatives` does the same retrieval and has the same margins, and the tests hold
ours against it. It is not called here because it knows a positive only by its exact spelling and can't be told
of others, takes a SentenceTransformer or CrossEncoder alone, prints what its margins removed instead of
returning it, draws from the process's random state, and holds all candidates of all queries at once.

Nothing here imports torch; what scores texts is in `common.mining.scores`.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from common.errors import InputError
from common.flags import flag
from common.mining.task import TEXT_GUARDS, MiningTask, Row, Side, listed
from common.mining.triplets import text_key

if TYPE_CHECKING:
    import numpy as np

# Each candidate is counted under the first guard that removes it.
GUARDS = (*TEXT_GUARDS, "absolute_margin", "relative_margin", "max_score", "min_score")
Ranked = list[tuple[float, int]]  # (score, text), best first


_flag = partial(flag, group="negatives")


@dataclass(kw_only=True)
class MiningOptions:
    """Which candidates become negatives."""

    range_min: int = _flag(
        0, "skip so many of the nearest texts, beside those known to be no negatives: they may be unlabelled positives"
    )
    range_max: int = _flag(50, "look at texts up to this rank")
    relative_margin: float | None = _flag(
        0.05, "a negative scores below the query's positive by this share of it at least; none: no such guard"
    )
    absolute_margin: float | None = _flag(None, "... by so much at least; none: no such guard")
    max_score: float | None = _flag(None, "a negative scores so much at most")
    min_score: float | None = _flag(None, "a negative scores so much at least")
    num_negatives: int = _flag(1, "negatives per row, each in a row of its own")
    sampling: Literal["top", "random"] = _flag("top", "take the best candidates, or draw among them")
    replace: Literal["harder", "always"] = _flag(
        "harder", "given negatives give way to candidates that score higher, or to any"
    )
    missing: Literal["keep", "drop"] = _flag("keep", "rows without a candidate keep their negative, or are left out")
    pool: list[Side] = _flag(("positives", "negatives"), "columns whose texts are candidates (queries, too)")
    seed: int = _flag(42, "of --sampling random")

    def __post_init__(self) -> None:
        for name, least in (("range_min", 0), ("num_negatives", 1), ("relative_margin", 0), ("absolute_margin", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"--{name} {value}: must be at least {least}")
        if self.range_max < self.range_min + self.num_negatives:
            raise InputError(
                f"--range_max {self.range_max}: leaves less than --num_negatives {self.num_negatives} "
                f"above --range_min {self.range_min}"
            )
        if self.max_score is not None and self.min_score is not None and self.min_score > self.max_score:
            raise InputError(f"--min_score {self.min_score}: is above --max_score {self.max_score}")


class Retriever(Protocol):
    """What finds the texts nearest to each query."""

    def search(self, depths: Sequence[int], among: int) -> Iterator[list[list[int]]]:
        """Chunk by chunk, for each query in order its nearest texts, best first.

        Of query i the nearest `depths[i]` (or more, where there are) of the first `among` texts.
        """


class Judge(Protocol):
    """What scores texts against queries; higher is more alike."""

    def pairs(self, queries: Sequence[int], texts: Sequence[int]) -> np.ndarray:
        """Scores (n,) of n queries, each with one text, by their numbers."""


def margin_guard(score: float, positive: float, options: MiningOptions) -> str | None:
    """The margin that a score beside that of the positive breaks; None: none.

    The relative margin is a share of the positive's magnitude, so that it also holds for scores below 0.
    """
    if options.absolute_margin is not None and score + options.absolute_margin > positive:
        return "absolute_margin"
    if options.relative_margin is not None and score > positive - abs(positive) * options.relative_margin:
        return "relative_margin"
    return None


def score_guard(score: float, positive: float, options: MiningOptions) -> str | None:
    """The guard that removes a candidate for its score; None: it passes."""
    margin = margin_guard(score, positive, options)
    if margin:
        return margin
    if options.max_score is not None and score > options.max_score:
        return "max_score"
    if options.min_score is not None and score < options.min_score:
        return "min_score"
    return None


@dataclass
class MiningReport:
    """What happened: counts of rows and candidates, and scores as the judge gives them.

    Attributes:
        outcomes: rows by what became of them: "mined" (came without a negative), "replaced", "kept_harder",
            "kept_missing" (no candidate), "dropped" (no candidate, and no negative to keep).
        removed: candidates by guard; passed: candidates that no guard removed.
        positive, before, after: scores of the positives, the given and the written negatives.
        harder: rows with a candidate that scores above the given negative.
        given_within_margin: rows whose given negative breaks a margin. It stays: it is labelled.
        given_false: rows that lost their given negative: it is the query, or known to be alike.
        uses: how often each text became a negative.
        changed: of the rows that were changed the query; positive, given and new negative, each with its score.
    """

    rows_in: int = 0
    rows_out: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)
    passed: int = 0
    positive: list[float] = field(default_factory=list)
    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    harder: int = 0
    given_within_margin: int = 0
    given_false: int = 0
    uses: Counter[str] = field(default_factory=Counter)
    changed: list[tuple[str, dict[str, tuple[str, float]]]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As plain data, without texts; shares of rows are of those that came with a negative."""
        looked_at = self.passed + sum(self.removed.values())
        given = len(self.before)
        return {
            "rows": {"in": self.rows_in, "out": self.rows_out, **self.outcomes},
            "candidates": {
                "looked_at": looked_at,
                "passed": self.passed,
                "removed": {name: self.removed[name] for name in GUARDS},
                "removed_share": {name: _share(self.removed[name], looked_at) for name in GUARDS},
            },
            "mean_score": {
                "positive": _mean(self.positive),
                "negative_before": _mean(self.before),
                "negative_after": _mean(self.after),
            },
            "candidate_harder_than_given": {"rows": self.harder, "share": _share(self.harder, given)},
            "given_negative_within_margin": {
                "rows": self.given_within_margin,
                "share": _share(self.given_within_margin, given),
            },
            "given_negative_false": self.given_false,
            "negatives": {"distinct": len(self.uses), "most_used": max(self.uses.values(), default=0)},
        }

    def examples(self, count: int = 3) -> list[dict[str, str]]:
        """Changed rows, spread evenly over the data."""
        spread = self.changed[:: max(1, len(self.changed) // count)][:count]
        return [
            {"query": query, **{name: f"{text} ({score:.3f})" for name, (text, score) in scored.items()}}
            for query, scored in spread
        ]


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


class _Scores(NamedTuple):
    """The judge's scores of one query's texts, by text."""

    candidates: dict[int, float]
    positives: dict[int, float]
    negatives: dict[int, float]


def mine(
    task: MiningTask,
    retriever: Retriever,
    judge: Judge,
    options: MiningOptions,
    *,
    show_progress: bool = False,
) -> tuple[list[Row], MiningReport]:
    """Negatives for all rows.

    Per query the texts of rank `range_min` to `range_max`, after the text guards, are the candidates; the judge
    scores them and the positives. The margins are taken from the query's lowest-scoring positive, the safe
    side. They do not apply to a given negative: a contradiction may well be nearer to the premise than an
    entailed text is, and is labelled. Rows with the same query get different negatives while there are enough.

    Returns:
        Rows of query, positive, negative in the order of the rows given, and the report.
    """
    from tqdm import tqdm

    report = MiningReport(rows_in=len(task.rows))
    pairs = zip(task.rows, task.negatives_of)
    report.given_false = sum(bool(listed(row, "negative")) and not left for row, left in pairs)
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row, query in enumerate(task.query_of):
        rows_of[query].append(row)
    negatives: dict[int, list[str]] = {}
    query = 0
    with tqdm(total=len(task.queries), desc="mine", unit="query", disable=not show_progress, leave=False) as bar:
        for chunk in retriever.search([options.range_max + len(known) for known in task.known], task.candidates):
            windows = {}
            for near in chunk:
                windows[query] = _window(near, task.known[query], options, report)
                query += 1
            for number, scores in _scored(task, rows_of, windows, judge):
                negatives.update(_of_query(task, number, rows_of[number], scores, options, report))
            bar.update(len(chunk))
    rows = [
        {"query": row["query"], "positive": row["positive"], "negative": negative}
        for number, row in enumerate(task.rows)
        for negative in negatives[number]
    ]
    report.rows_out = len(rows)
    return rows, report


def _window(near: Sequence[int], known: Mapping[int, str], options: MiningOptions, report: MiningReport) -> list[int]:
    """The candidates of one query: what the text guards leave, between the ranks."""
    kept: list[int] = []
    for text in near:
        if len(kept) == options.range_max:
            break
        if text in known:
            report.removed[known[text]] += 1
        else:
            kept.append(text)
    return kept[options.range_min :]


def _scored(
    task: MiningTask, rows_of: Mapping[int, list[int]], windows: Mapping[int, list[int]], judge: Judge
) -> Iterator[tuple[int, _Scores]]:
    """Query by query the scores of its texts, asked for at once."""
    wanted: dict[int, list[list[int]]] = {}
    for query, window in windows.items():
        positives = dict.fromkeys(text for row in rows_of[query] for text in task.positives_of[row])
        negatives = dict.fromkeys(text for row in rows_of[query] for text in task.negatives_of[row])
        wanted[query] = [window, list(positives), list(negatives)]
    queries = [query for query, parts in wanted.items() for part in parts for _ in part]
    scores = iter(judge.pairs(queries, [text for parts in wanted.values() for part in parts for text in part]).tolist())
    for query, parts in wanted.items():
        yield query, _Scores(*({text: next(scores) for text in part} for part in parts))


def _of_query(
    task: MiningTask,
    query: int,
    rows: Sequence[int],
    scores: _Scores,
    options: MiningOptions,
    report: MiningReport,
) -> dict[int, list[str]]:
    """The negatives of the rows of one query."""
    positive = min(scores.positives.values())
    found: Ranked = []
    for text, score in scores.candidates.items():
        guard = score_guard(score, positive, options)
        if guard:
            report.removed[guard] += 1
        else:
            found.append((score, text))
    report.passed += len(found)
    each = options.num_negatives
    if options.sampling == "random":
        # Depends on seed and query only, not on what else is in the data.
        draw = random.Random(f"{options.seed}-{text_key(task.queries[query])}")
        found = draw.sample(found, min(len(found), each * len(rows)))
    found.sort(key=lambda item: (-item[0], item[1]))
    return {
        row: _of_row(task, row, found[turn * each :][:each] or found[:each], scores, options, report)
        for turn, row in enumerate(rows)
    }


def _of_row(
    task: MiningTask, row: int, found: Ranked, scores: _Scores, options: MiningOptions, report: MiningReport
) -> list[str]:
    """The negatives of one row, from its candidates and its given ones."""
    spelling = task.negatives_of[row]
    given = sorted(((scores.negatives[text], text) for text in spelling), reverse=True)
    best = given[: options.num_negatives]
    chosen = found
    if options.replace == "harder":
        # A given negative stays where a candidate is merely as hard.
        both = sorted([*found, *given], key=lambda item: (-item[0], item[1] not in spelling, item[1]))
        chosen = both[: options.num_negatives]
    if not found:
        outcome = "kept_missing" if given and options.missing == "keep" else "dropped"
        chosen = best if outcome == "kept_missing" else []
    elif not given:
        outcome = "mined"
    else:
        outcome = "kept_harder" if set(chosen) <= set(given) else "replaced"
    positive = [scores.positives[text] for text in task.positives_of[row]]
    report.outcomes[outcome] += 1
    report.positive.append(sum(positive) / len(positive))
    report.after += [score for score, _ in chosen]
    if given:
        report.before.append(sum(score for score, _ in best) / len(best))
        report.harder += bool(found) and found[0][0] > given[0][0]
        lowest = min(scores.positives.values())
        report.given_within_margin += margin_guard(given[0][0], lowest, options) is not None
    negatives = [spelling.get(text, task.texts[text]) for _, text in chosen]
    report.uses.update(negatives)
    if outcome in ("mined", "replaced"):
        scored = {"positive": (listed(task.rows[row], "positive")[0], positive[0])}
        if given:
            scored["given"] = (spelling[given[0][1]], given[0][0])
        report.changed.append((task.rows[row]["query"], {**scored, "negative": (negatives[0], chosen[0][0])}))
    return negatives
