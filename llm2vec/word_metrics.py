"""How good predicted tags are: token accuracy, as the paper's table has it, and F1 of entities or chunks.

Token accuracy counts all words, O included (LLM2Vec, arXiv 2404.05961, Table 4: the "precision" of the released
script, averaged micro). A tagger that finds no entity at all has 82.5% of it on CoNLL-2003. The field's usual figure
is the F1 of whole entities, seqeval's default mode, which counts as conlleval does.
"""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from common.errors import InputError
from llm2vec.word_data import TaggedSentences, is_chunk_tags

Tags = Sequence[Sequence[str]]


@dataclass(frozen=True)
class ClassScore:
    """One tag, or one type of entity: fractions, and how many there are, are predicted, and agree."""

    name: str
    precision: float
    recall: float
    f1: float
    gold: int
    predicted: int
    correct: int


@dataclass(frozen=True)
class SpanScores:
    """Whole entities or chunks (type, first and last word must agree); fractions; `macro_f1`: mean over types."""

    kind: str
    precision: float
    recall: float
    f1: float
    macro_f1: float
    gold: int
    predicted: int
    correct: int
    types: tuple[ClassScore, ...]


@dataclass(frozen=True)
class WordScores:
    """Scores of one tagger on one task; fractions.

    Attributes:
        token_accuracy: over all words, O included.
        token_macro_f1: mean of the tags' F1, over all tags that occur or are predicted.
        sentences, tokens, correct_tokens: counts.
        classes: per tag.
        spans: of whole entities or chunks; None where the tags mark none (POS).
    """

    token_accuracy: float
    token_macro_f1: float
    sentences: int
    tokens: int
    correct_tokens: int
    classes: tuple[ClassScore, ...]
    spans: SpanScores | None

    def to_dict(self) -> dict[str, Any]:
        """As plain data; whole entities under `entity_f1` and so on, chunks under `chunk_f1`."""
        plain: dict[str, Any] = {
            "token_accuracy": self.token_accuracy,
            "token_macro_f1": self.token_macro_f1,
            "counts": {"sentences": self.sentences, "tokens": self.tokens, "correct_tokens": self.correct_tokens},
        }
        spans = self.spans
        if spans is not None:
            names = ("f1", "precision", "recall", "macro_f1")
            plain |= {f"{spans.kind}_{name}": getattr(spans, name) for name in names}
            counts = {"gold": spans.gold, "predicted": spans.predicted, "correct": spans.correct}
            plain["counts"] |= {f"{name}_{span_plural(spans.kind)}": count for name, count in counts.items()}
            plain[f"per_{spans.kind}_type"] = {score.name: _without_name(score) for score in spans.types}
        plain["per_tag"] = {score.name: _without_name(score) for score in self.classes}
        return plain


def score(gold: Tags, predicted: Tags, kind: str = "chunk") -> WordScores:
    """Compare tags, sentence by sentence.

    Args:
        gold, predicted: one tag per word; chunk tags in IOB2.
        kind: what chunks are called: "entity" or "chunk".

    Raises:
        InputError: nothing to score, or seqeval is missing.
    """
    pairs = [(g, p) for one, other in zip(gold, predicted, strict=True) for g, p in zip(one, other, strict=True)]
    if not pairs:
        raise InputError("word level: no word to score")
    correct = sum(g == p for g, p in pairs)
    classes = _class_scores(
        Counter(g for g, _ in pairs), Counter(p for _, p in pairs), Counter(g for g, p in pairs if g == p)
    )
    return WordScores(
        token_accuracy=correct / len(pairs),
        token_macro_f1=sum(c.f1 for c in classes) / len(classes),
        sentences=len(gold),
        tokens=len(pairs),
        correct_tokens=correct,
        classes=classes,
        spans=_span_scores(gold, predicted, kind) if is_chunk_tags(tag for tags in gold for tag in tags) else None,
    )


def check_seqeval() -> None:
    """InputError unless seqeval is there."""
    try:
        import seqeval  # noqa: F401
    except ImportError as error:
        raise InputError("entity and chunk F1 need seqeval: pip install seqeval==1.2.2") from error


def floors(train: TaggedSentences, task: str, words: Sequence[Sequence[str]]) -> dict[str, list[list[str]]]:
    """What taggers without any model predict for sentences: the floor under a probe's scores.

    Returns:
        name -> tags: "majority_tag", always the training data's most frequent tag; "majority_tag_of_word", the tag
        that the word has most often in the training data, and the former for words that are new.
    """
    totals: Counter[str] = Counter()
    by_word: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for sentence, tags in zip(train.words, train.tags[task], strict=True):
        totals.update(tags)
        for word, tag in zip(sentence, tags, strict=True):
            by_word[word][tag] += 1
    most = _most(totals)
    of_word = {word: _most(counts) for word, counts in by_word.items()}
    return {
        "majority_tag": [[most] * len(sentence) for sentence in words],
        "majority_tag_of_word": [[of_word.get(word, most) for word in sentence] for sentence in words],
    }


def table(rows: Mapping[str, WordScores]) -> str:
    """Taggers, one per line; x 100, two decimals."""
    from prettytable import PrettyTable

    first = next(iter(rows.values()))
    columns = ["", "token accuracy", "token macro F1"]
    if first.spans:
        kind = first.spans.kind
        columns += [f"{kind} F1", "precision", "recall", f"{kind} macro F1", "predicted", "right"]
    printed = PrettyTable(columns)
    printed.align = "r"
    printed.align[""] = "l"
    for name, scores in rows.items():
        cells = [name, f"{100 * scores.token_accuracy:.2f}", f"{100 * scores.token_macro_f1:.2f}"]
        if scores.spans:
            spans = scores.spans
            cells += [f"{100 * value:.2f}" for value in (spans.f1, spans.precision, spans.recall, spans.macro_f1)]
            cells += [f"{spans.predicted:,}", f"{spans.correct:,}"]
        printed.add_row(cells)
    return str(printed)


def class_table(scores: WordScores) -> str:
    """Types of entities or chunks, else tags, one per line, the most frequent first; x 100, two decimals."""
    from prettytable import PrettyTable

    lines = scores.spans.types if scores.spans else scores.classes
    printed = PrettyTable([scores.spans.kind if scores.spans else "tag", "F1", "precision", "recall", "gold"])
    printed.align = "r"
    for one in sorted(lines, key=lambda c: (-c.gold, c.name)):
        values = [f"{100 * value:.2f}" for value in (one.f1, one.precision, one.recall)]
        printed.add_row([one.name, *values, f"{one.gold:,}"])
    return str(printed)


def span_plural(kind: str) -> str:
    """What several of them are called."""
    return "entities" if kind == "entity" else f"{kind}s"


def _class_scores(gold: Counter[Any], predicted: Counter[Any], correct: Counter[Any]) -> tuple[ClassScore, ...]:
    scores = []
    for name in sorted(gold | predicted):
        precision = correct[name] / predicted[name] if predicted[name] else 0.0
        recall = correct[name] / gold[name] if gold[name] else 0.0
        both = gold[name] + predicted[name]
        f1 = 2 * correct[name] / both if both else 0.0
        scores.append(ClassScore(name, precision, recall, f1, gold[name], predicted[name], correct[name]))
    return tuple(scores)


def _span_scores(gold: Tags, predicted: Tags, kind: str) -> SpanScores:
    check_seqeval()
    from seqeval.metrics import f1_score, precision_score, recall_score
    from seqeval.metrics.sequence_labeling import get_entities

    one, other = ([list(tags) for tags in side] for side in (gold, predicted))
    with warnings.catch_warnings():
        # A type that is never predicted has a precision of 0 / 0, which is 0 here.
        warnings.simplefilter("ignore")
        micro = [metric(one, other, zero_division=0) for metric in (f1_score, precision_score, recall_score)]
        macro = f1_score(one, other, average="macro", zero_division=0)
    spans = [set(get_entities(side)) for side in (one, other)]
    counts = [Counter(kind for kind, _, _ in found) for found in (*spans, spans[0] & spans[1])]
    f1, precision, recall = map(float, micro)
    true, found, right = (counter.total() for counter in counts)
    return SpanScores(kind, precision, recall, f1, float(macro), true, found, right, _class_scores(*counts))


def _most(counts: Counter[str]) -> str:
    """The most frequent; of several, the first in the alphabet."""
    return min(counts, key=lambda tag: (-counts[tag], tag))


def _without_name(score: ClassScore) -> dict[str, Any]:
    return {name: value for name, value in asdict(score).items() if name != "name"}
