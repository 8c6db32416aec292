"""Plain text to train on: lines of a file, a hub data set, or the text that ships."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.data import data_path
from common.errors import InputError
from common.model_names import hub_reachable
from common.reading import SHIPPED, data_root, read_lines, read_rows

# The shipped files that are for training; passages and the others are test sets.
SHIPPED_FILES = ("triplets", "questions")
TEXT_SUFFIXES = (".txt", ".txt.gz")


@dataclass(frozen=True)
class Texts:
    """Texts in their order, and where they are from."""

    texts: list[str]
    source: str


def shipped_texts() -> Texts:
    """The sentences of the shipped training files: anchors, positives, negatives, short texts, questions."""
    columns = ("query", "positive", "negative", "text", "question")
    rows = [row for name in SHIPPED_FILES for _, row in read_rows(SHIPPED / f"{name}.jsonl")]
    texts = [row[column] for row in rows for column in columns if column in row]
    return Texts(list(dict.fromkeys(texts)), " and ".join(f"shipped:{name}" for name in SHIPPED_FILES))


def read_texts(
    name: str,
    *,
    data_dir: str | Path | None = None,
    split: str = "train",
    subset: str | None = None,
    rename: Mapping[str, str] | None = None,
) -> Texts:
    """The texts behind a name; one line of a .txt file, or one row of any other, is one text.

    Args:
        name: a local file (.txt, .jsonl, .json, .csv, .tsv, .parquet; .gz allowed), a file under `data_dir` (or
            `EMBED_DATA`), "shipped:NAME", or a hub id. Of several columns "text" is read, else the first.
        data_dir: the folder that the user named.
        split: of a hub data set; subset: its configuration.
        rename: old column -> new column, applied first.

    Raises:
        InputError: no such data, or a row without text; names file and line.
    """
    path = _text_file(name, data_dir)
    if path is not None:
        return Texts(_lines(path), str(path))
    path = data_path(name, data_dir)
    if path is not None:
        return Texts(_column(read_rows(path), str(path), rename), str(path))
    if not hub_reachable():
        raise InputError(
            f"data {name!r}: no such local file, and the hub does not answer; give --train_file FILE, or --shipped"
        )
    from datasets import load_dataset

    try:
        data: Any = load_dataset(name, subset, split=split)
    except (OSError, ValueError) as error:
        raise InputError(f"data {name!r}: {str(error).splitlines()[0]}") from error
    return Texts(_column(_numbered(data), name, rename), f"{name} ({subset or 'default'}, {split})")


def has_validation_split(name: str, subset: str | None, data_dir: str | Path | None = None) -> bool:
    """Whether a data set is one of the hub with a split "validation"."""
    if _text_file(name, data_dir) or data_path(name, data_dir) is not None or not hub_reachable():
        return False
    from datasets import get_dataset_split_names

    try:
        return "validation" in get_dataset_split_names(name, subset)
    except (OSError, ValueError) as error:
        raise InputError(f"data {name!r}: {str(error).splitlines()[0]}") from error


def hold_out(texts: Texts, percentage: float) -> tuple[Texts, Texts]:
    """(train, validation): as in the released code the first percent of the texts, one at least, are held out.

    Raises:
        InputError: nothing would be left to train on.
    """
    count = max(1, round(len(texts.texts) * percentage / 100))
    if count >= len(texts.texts):
        raise InputError(f"{texts.source}: {len(texts.texts)} texts are too few to hold out {percentage}%")
    return (
        Texts(texts.texts[count:], f"{texts.source} (from text {count + 1})"),
        Texts(texts.texts[:count], f"{texts.source} (first {count} texts)"),
    )


def _text_file(name: str, data_dir: str | Path | None) -> Path | None:
    """The path of a .txt file; None for other names."""
    if not name.endswith(TEXT_SUFFIXES):
        return None
    root = data_root(data_dir)
    candidates = [Path(name).expanduser(), *([root / name] if root else [])]
    for path in candidates:
        if path.is_file():
            return path
    raise InputError(f"data: no file {' or '.join(map(str, candidates))}; check --train_file and --data_dir")


def _lines(path: Path) -> list[str]:
    texts = [text for _, text in read_lines(path)]
    if not any(text.strip() for text in texts):
        raise InputError(f"{path}: holds no text")
    return texts


def _numbered(data: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a hub data set, from 1; read in batches, which is many times as fast as row by row."""
    number = 0
    for batch in data.iter(batch_size=1000):
        for values in zip(*batch.values()):
            number += 1
            yield number, dict(zip(batch, values))


def _column(rows: Iterable[tuple[int, Mapping[str, Any]]], source: str, rename: Mapping[str, str] | None) -> list[str]:
    texts = []
    for number, raw in rows:
        row = {(rename or {}).get(name, name): value for name, value in raw.items()}
        column = "text" if "text" in row else next(iter(row), None)
        text = row[column] if column is not None else None
        if not isinstance(text, str):
            raise InputError(f"{source}:{number}: column {column!r} should be text, is {type(text).__name__}")
        texts.append(text)
    return texts
