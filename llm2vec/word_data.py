"""Sentences of tagged words: CoNLL-2003, CoNLL-2000, and files of the same form.

Chunk tags (NER, chunking) are IOB2 here, whatever the source has: every chunk begins with B-. The original files of
CoNLL-2003 are IOB1 (B- only between two chunks of one type that touch), the hub's copy, on which the paper's
figures were made, is IOB2. The chunks are the same, but the classes of the tokens are not, so token accuracies
compare in one scheme only.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from common.errors import InputError
from common.io import sha256_of
from common.model_names import first_line, hub_reachable
from common.reading import ROW_FORMATS, data_root, read_rows

Split = Literal["train", "validation", "test"]
Tags = list[list[str]]

# The released name -> where the hub has it now; datasets 5 runs no loading scripts, and the old ones are scripts.
HUB = {"conll2003": "lhoestq/conll2003", "conll2000": "eriktks/conll2000"}
PARQUET = "refs/convert/parquet"  # the branch with the hub's own conversion of a data set that is a script
SPLIT_FILES: dict[str, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("validation", "valid", "dev"),
    "test": ("test",),
}
WORDS = ("tokens", "words")
OUTSIDE = "O"
_CHUNK_TAG = re.compile(r"[BIESLU]-\S+")


@dataclass(frozen=True)
class TaggedSentences:
    """Sentences, each with one tag per word and task.

    Attributes:
        words: per sentence.
        tags: task -> per sentence, one per word; chunk tags in IOB2.
        schemes: task -> how the source writes chunks: "IOB1", "IOB2", "IOBES"; "none" for tags of single words.
        source: file, or hub id and split.
    """

    words: list[list[str]]
    tags: dict[str, Tags]
    schemes: dict[str, str]
    source: str

    def __len__(self) -> int:
        return len(self.words)

    @property
    def tokens(self) -> int:
        """Words of all sentences."""
        return sum(map(len, self.words))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of words and tags."""
        return sha256_of([self.words, self.tags])

    def head(self, count: int | None) -> TaggedSentences:
        """The first sentences only."""
        return self if count is None else self._part(slice(count))

    def hold_out(self, percentage: float) -> tuple[TaggedSentences, TaggedSentences]:
        """(train, validation): the first percent of the sentences, one at least, are held out, as in the released code.

        Raises:
            InputError: nothing would be left to train on.
        """
        count = max(1, round(len(self) * percentage / 100))
        if count >= len(self):
            raise InputError(f"{self.source}: {len(self)} sentences are too few to hold out {percentage}%")
        return self._part(slice(count, None)), self._part(slice(count))

    def shuffled(self, seed: int) -> TaggedSentences:
        """The control data: all tags change places, so there is nothing to learn but how often each occurs."""
        mixed = {}
        for task, tags in self.tags.items():
            flat = [tag for sentence in tags for tag in sentence]
            random.Random(seed).shuffle(flat)
            rest = iter(flat)
            mixed[task] = [[next(rest) for _ in sentence] for sentence in tags]
        return replace(self, tags=mixed, source=f"{self.source} (tags shuffled)")

    def _part(self, rows: slice) -> TaggedSentences:
        return replace(self, words=self.words[rows], tags={task: tags[rows] for task, tags in self.tags.items()})


def read_split(
    name: str,
    split: Split,
    tasks: Sequence[str],
    *,
    data_dir: str | Path | None = None,
    subset: str | None = None,
) -> TaggedSentences | None:
    """One split of a data set; None where the data set has no such split.

    Args:
        name: "conll2003", "conll2000", another hub id, or a folder; below `data_dir` (or `EMBED_DATA`), where that
            is given. A folder holds train, valid (or validation, dev) and test, each a file of `read_file`.
        split: which.
        tasks: names of tag columns, see `read_file`.
        data_dir: the folder that the user named.
        subset: configuration of a hub data set.

    Raises:
        InputError: no such data, or a bad row.
    """
    folder = _folder(name, data_dir)
    if folder is None:
        return _read_hub(name, split, tasks, subset)
    names = [f"{stem}{suffix}" for stem in SPLIT_FILES[split] for s in ROW_FORMATS for suffix in (s, f"{s}.gz")]
    file = next((folder / file for file in names if (folder / file).is_file()), None)
    return None if file is None else read_file(file, tasks)


def read_file(path: str | Path, tasks: Sequence[str]) -> TaggedSentences:
    """The sentences of one file (`.jsonl`, `.json`, `.parquet`; `.gz` allowed), one per row.

    A row has a list of words in `tokens` (or `words`), and one tag per word in a column with the task's name; the
    name without `_tags`, and, where there is only one task, `tags`, will do.

    Raises:
        InputError: no such column, or a row that does not fit; names file and line.
    """
    return _collect(read_rows(path), tasks, str(path), {})


def is_chunk_tags(tags: Iterable[str]) -> bool:
    """Whether tags mark chunks: O, and at least one B-, I- (or E-, S-, L-, U-) with a type."""
    distinct = set(tags) - {OUTSIDE}
    return bool(distinct) and all(_CHUNK_TAG.fullmatch(tag) for tag in distinct)


def to_iob2(tags: Sequence[str]) -> list[str]:
    """A sentence's chunk tags in IOB2: the first word of every chunk has B-, the others I-.

    Reads IOB1, IOB2 and IOBES (BILOU); what is inside a chunk and what begins one is decided as conlleval does.
    """
    found: list[str] = []
    before = OUTSIDE
    for tag in tags:
        if tag == OUTSIDE:
            found.append(tag)
        else:
            goes_on = tag[0] in "IEL" and before[0] in "BI" and before[2:] == tag[2:]
            found.append(("I" if goes_on else "B") + tag[1:])
        before = tag
    return found


def scheme_of(sentences: Iterable[Sequence[str]]) -> str:
    """How chunk tags are written: "IOB1", "IOB2" or "IOBES"."""
    sentences = list(sentences)
    if any(tag[0] in "ESLU" for tags in sentences for tag in tags):
        return "IOBES"
    return "IOB2" if all(to_iob2(tags) == list(tags) for tags in sentences) else "IOB1"


def _folder(name: str, data_dir: str | Path | None) -> Path | None:
    """The local folder of a data set; None: look it up on the hub."""
    root = data_root(data_dir)
    candidates = [Path(name).expanduser(), *([root / name] if root else [])]
    if data_dir:
        candidates.append(Path(data_dir).expanduser())
    for folder in candidates:
        if folder.is_dir() and any(folder.glob("train.*")):
            return folder
    if data_dir or name.startswith((".", "/", "~")):
        where = " or ".join(map(str, candidates))
        raise InputError(f"--dataset_name {name}: no train{ROW_FORMATS[0]}.gz (or its like) in {where}")
    return None


def _read_hub(name: str, split: str, tasks: Sequence[str], subset: str | None) -> TaggedSentences | None:
    if not hub_reachable():
        raise InputError(
            f"--dataset_name {name}: no such local folder, and the hub does not answer; give --data_dir FOLDER"
        )
    import datasets

    identifier = HUB.get(name, name)
    try:
        try:
            data: Any = datasets.load_dataset(identifier, subset)
        except RuntimeError:  # "Dataset scripts are no longer supported"
            data = datasets.load_dataset(identifier, subset, revision=PARQUET)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"--dataset_name {name}: {first_line(error)}") from error
    found = next((s for s in SPLIT_FILES[split] if s in data), None)
    if found is None:
        return None
    classes = {}
    for column, feature in data[found].features.items():
        labels = getattr(getattr(feature, "feature", None), "names", None)
        if labels:
            classes[column] = list(labels)
    return _collect(enumerate(data[found], 1), tasks, f"{identifier} ({found})", classes)


def _collect(
    rows: Iterable[tuple[int, Mapping[str, Any]]], tasks: Sequence[str], source: str, classes: Mapping[str, list[str]]
) -> TaggedSentences:
    words: list[list[str]] = []
    tags: dict[str, Tags] = {task: [] for task in tasks}
    for number, row in rows:
        place = f"{source}:{number}"
        sentence = _list(row, _column(row, WORDS, place), place)
        if not sentence or not all(isinstance(word, str) and word.strip() for word in sentence):
            raise InputError(f"{place}: the words should be a list of texts, none of them empty")
        for task in tasks:
            choices = [task, task.removesuffix("_tags"), *(["tags"] if len(tasks) == 1 else [])]
            column = _column(row, choices, place)
            names = classes.get(column)
            found = [names[tag] if names and isinstance(tag, int) else tag for tag in _list(row, column, place)]
            if len(found) != len(sentence):
                raise InputError(f"{place}: {len(sentence)} words, but {len(found)} tags in {column!r}")
            if not all(isinstance(tag, str) and tag for tag in found):
                raise InputError(f"{place}: the tags in {column!r} should be texts, such as NN or B-PER")
            tags[task].append(found)
        words.append(list(sentence))
    if not words:
        raise InputError(f"{source}: holds no sentence")
    schemes = dict.fromkeys(tasks, "none")
    for task in tasks:
        if is_chunk_tags(tag for sentence in tags[task] for tag in sentence):
            schemes[task] = scheme_of(tags[task])
            tags[task] = [to_iob2(sentence) for sentence in tags[task]]
    return TaggedSentences(words, tags, schemes, source)


def _column(row: Mapping[str, Any], choices: Sequence[str], place: str) -> str:
    found = next((name for name in choices if name in row), None)
    if found is None:
        names = " or ".join(dict.fromkeys(choices))
        raise InputError(f"{place}: no column {names} (it has {', '.join(map(str, row))}); check --task")
    return found


def _list(row: Mapping[str, Any], column: str, place: str) -> list[Any]:
    value = row[column]
    if not isinstance(value, list):
        raise InputError(f"{place}: column {column!r} should be a list, is {type(value).__name__}")
    return value
