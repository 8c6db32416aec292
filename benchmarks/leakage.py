"""Test sentences that stand in training data too, word for word or in part."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.data import ALIASES, data_path
from common.errors import InputError
from common.overlap import key, runs, words
from common.reading import data_root, read_lines, read_rows

EXCERPT = 32  # characters of a sentence that a report shows, at most; and at most half of it
TEXT_COLUMNS = tuple(
    dict.fromkeys([*(a for name, names in ALIASES.items() if name != "label" for a in names), "premise", "hypothesis"])
)

Items = Sequence[Sequence[str]]  # per test item its texts: two of a pair, one of a text to classify
TrainRow = tuple[str, Sequence[str]]  # where a training row stands, and its texts


@dataclass(frozen=True)
class Example:
    """A test text that was found: never the whole of it.

    Attributes:
        item: the number of the test item, from 0; side: which of its texts, from 0.
        kind: "exact" or "near".
        share: of its words, how many lie in runs that one training text has, too.
        train: the training row.
        excerpt: how the test text begins.
    """

    item: int
    side: int
    kind: str
    share: float
    train: str
    excerpt: str


@dataclass(frozen=True)
class TaskLeakage:
    """What of one test set was found.

    Attributes:
        task: its name; items: how many it has.
        texts: distinct texts; of these exact, near, and short (not exact, too few words to tell whether near).
        exact_items: items with an exact text; all_items: with exact texts only; near_items: with a near text and
            no exact one.
        together: items whose texts all stand in one training row, so that the row may tell their relation.
        examples: some, the exact ones first.
    """

    task: str
    items: int
    texts: int
    exact: int
    near: int
    short: int
    exact_items: list[int]
    all_items: list[int]
    near_items: list[int]
    together: list[int]
    examples: list[Example]


@dataclass(frozen=True)
class Leakage:
    """What of some test sets stands in training data.

    Attributes:
        rows, texts: of the training data; the texts are distinct ones.
        rows_exact: training rows with a text that is a test text.
        ngram, share: what counts as near.
        tasks: per test set.
    """

    rows: int
    texts: int
    rows_exact: int
    ngram: int
    share: float
    tasks: list[TaskLeakage]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)

    def summary(self) -> str:
        """One line for the report of a training or a study."""
        exact, near, texts = (sum(getattr(t, name) for t in self.tasks) for name in ("exact", "near", "texts"))
        together = sum(len(t.together) for t in self.tasks)
        return (
            f"{exact:,} of {texts:,} test texts stand in the training data ({self.rows:,} rows), {near:,} more share "
            f"runs of {self.ngram} words; {together:,} test pairs stand there in one row"
        )


def leakage(
    train: Iterable[TrainRow],
    tasks: Mapping[str, Items],
    *,
    ngram: int = 8,
    share: float = 0.5,
    examples: int = 5,
) -> Leakage:
    """Look for test texts among training texts.

    Exact: the same letters and digits (`common.overlap.key`: case, marks and tokenisation do not count). Near: not
    exact, and one training text has runs of `ngram` words in a row with it that cover `share` of its words.

    Args:
        train: training rows; read once, as a stream.
        tasks: name -> test items.
        ngram: words of a run.
        share: of the words of the test text; 0: one run is enough.
        examples: per task, at most.
    """
    index = _TestTexts(tasks, ngram)
    rows = rows_exact = 0
    seen: set[str] = set()
    for place, texts in train:
        rows += 1
        keys = [key(text) for text in texts]
        found = [k for k in keys if k in index.of_key]
        rows_exact += bool(found)
        if len(found) > 1:
            index.note_row(set(found))
        for text, its_key in zip(texts, keys):
            if its_key not in seen:
                seen.add(its_key)
                index.note(its_key, text, place)
    found_tasks = [index.task(name, items, share, examples) for name, items in tasks.items()]
    return Leakage(rows, len(seen), rows_exact, ngram, share, found_tasks)


class _TestTexts:
    """The distinct texts of all tasks, and what was found of each; `note` is called once per training text."""

    def __init__(self, tasks: Mapping[str, Items], ngram: int) -> None:
        self.ngram = ngram
        self.of_key: dict[str, int] = {}
        self.length: list[int] = []
        self.exact: dict[int, str] = {}  # text -> training row
        self.near: dict[int, tuple[float, str]] = {}  # text -> share, training row
        self.together: set[frozenset[int]] = set()
        self._runs: dict[int, list[tuple[int, int]]] = {}  # hash -> text, first word
        self._pairs: dict[int, set[frozenset[int]]] = {}
        for items in tasks.values():
            for item in items:
                members = frozenset(self._add(text) for text in item)
                if len(item) > 1:
                    self._pairs.setdefault(min(members), set()).add(members)

    def _add(self, text: str) -> int:
        number = self.of_key.setdefault(key(text), len(self.of_key))
        if number == len(self.length):
            tokens = words(text)
            self.length.append(len(tokens))
            for start, run in enumerate(runs(tokens, self.ngram)):
                self._runs.setdefault(hash(run), []).append((number, start))
        return number

    def note_row(self, keys: set[str]) -> None:
        """The keys of a training row that are test texts."""
        members = {self.of_key[k] for k in keys}
        for number in members:
            self.together |= {pair for pair in self._pairs.get(number, ()) if pair <= members}

    def note(self, its_key: str, text: str, place: str) -> None:
        """A training text."""
        number = self.of_key.get(its_key)
        if number is not None:
            self.exact.setdefault(number, place)
        covered: dict[int, set[int]] = {}
        for run in runs(words(text), self.ngram):
            for other, start in self._runs.get(hash(run), ()):
                covered.setdefault(other, set()).update(range(start, start + self.ngram))
        for other, positions in covered.items():
            part = len(positions) / self.length[other]
            if other != number and part > self.near.get(other, (0.0, ""))[0]:
                self.near[other] = (part, place)

    def task(self, name: str, items: Items, share: float, examples: int) -> TaskLeakage:
        """What was found of one task."""
        numbers = [[self.of_key[key(text)] for text in item] for item in items]
        distinct = {n for item in numbers for n in item}
        exact = distinct & self.exact.keys()
        near = {n for n in distinct - exact if n in self.near and self.near[n][0] >= share}
        exact_items = [i for i, item in enumerate(numbers) if exact.intersection(item)]
        found = [
            Example(i, side, kind, round(part, 3), place, _excerpt(items[i][side]))
            for i, item in enumerate(numbers)
            for side, n in enumerate(item)
            for kind, among in (("exact", exact), ("near", near))
            if n in among
            for part, place in [(1.0, self.exact[n]) if kind == "exact" else self.near[n]]
        ]
        return TaskLeakage(
            task=name,
            items=len(items),
            texts=len(distinct),
            exact=len(exact),
            near=len(near),
            short=sum(self.length[n] < self.ngram for n in distinct - exact),
            exact_items=exact_items,
            all_items=[i for i, item in enumerate(numbers) if exact.issuperset(item)],
            near_items=[
                i for i, item in enumerate(numbers) if near.intersection(item) and not exact.intersection(item)
            ],
            together=[i for i, item in enumerate(numbers) if len(item) > 1 and frozenset(item) in self.together],
            examples=sorted(found, key=lambda e: (e.kind, -e.share, e.item, e.side))[:examples],
        )


def _excerpt(text: str) -> str:
    return text[: min(EXCERPT, (len(text) + 1) // 2)] + "..."


# ------------------------------------------------------------------------------------------ test and training texts


def suite_items(suite: str, tasks: Sequence[str] = (), data_dir: Path | None = None) -> dict[str, Items]:
    """The texts of a suite of pairs, by task.

    Raises:
        InputError: unknown suite or task, or missing data.
    """
    from benchmarks import suites

    chosen = suites.get_suite(suite, list(tasks))
    loaded = {name: suites.load(chosen, name, data_dir, compat=frozenset()) for name in chosen.tasks}
    return {name: list(zip(task.text1, task.text2)) for name, task in loaded.items()}


def training_rows(
    names: Iterable[str], data_dir: Path | None = None, columns: Sequence[str] = ()
) -> Iterator[TrainRow]:
    """The texts of training files, row by row.

    Args:
        names: files (.txt: a text per line; else rows with columns, .gz allowed), or names as in training.
        data_dir: where they are looked up, too.
        columns: those that hold texts, or lists of texts; default: the names that training knows.

    Raises:
        InputError: no such file, or a row without texts.
    """
    for name, path in [(name, training_file(name, data_dir)) for name in names]:
        source = Path(name).name
        if path.name.removesuffix(".gz").endswith(".txt"):
            yield from ((f"{source}:{number}", [line]) for number, line in read_lines(path) if line.strip())
            continue
        for number, row in read_rows(path):
            texts = [text for column in columns or TEXT_COLUMNS for text in _as_list(row.get(column))]
            if not texts:
                known = ", ".join(row)
                raise InputError(f"{path}:{number}: no text in it (columns {known}); say which by --columns")
            yield f"{source}:{number}", texts


def training_file(name: str, data_dir: Path | None = None) -> Path:
    """The local file behind the name of training data: a path, a file under the folder, or shipped:NAME.

    Raises:
        InputError: it is not local; names both places.
    """
    root = data_root(data_dir)
    for path in (Path(name), *([root / name] if root else [])):
        if path.is_file():
            return path
    found = data_path(name) if name.startswith("shipped:") else None
    if found is None:
        raise InputError(f"--train {name}: no such file" + (f", nor {root / name}" if root else ""))
    return found


def _as_list(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str) and text.strip()]
