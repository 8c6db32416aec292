"""The texts that are clustered, and labels to compare the clusters with: from a file, or from the hub."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.infer_program import read_texts
from common.io import read_json
from common.model_names import first_line, hub_reachable
from common.reading import ROW_FORMATS, read_rows

FORMATS = (".txt", *ROW_FORMATS)
SPLIT = "test"  # of a hub data set; what the released configurations name has only this one
LABEL = "label"  # the column of a file that holds nothing but labels


@dataclass(frozen=True)
class Data:
    """Texts and, by the name of their column or file, labels: one per text."""

    texts: list[str]
    labels: dict[str, list[str]]


def read_data(source: str, text_column: str, labels: Sequence[str] = ()) -> Data:
    """Texts and labels.

    Args:
        source: a .txt (one text per line), .jsonl, .json (rows, or texts alone), .csv, .tsv, .parquet, also .gz; or the
            id of a hub data set, whose test split is taken.
        text_column: where the texts are, but in a .txt.
        labels: columns beside the texts, or files with as many rows: a .txt, or one with a column "label".

    Raises:
        InputError: no such file or data set, an unknown column, an empty text or label (file and line).
    """
    files = {name: Path(name) for name in labels if _is_format(name) and Path(name).is_file()}
    columns = [name for name in labels if name not in files]
    missing = [name for name in columns if _is_format(name)]
    if missing:
        raise InputError(f"--labels {missing[0]}: no such file")
    if _is_hub_id(source):
        found = _columns(_hub_rows(source), source, text_column, columns)
    elif _is_list_of_texts(source):
        found = {text_column: read_json(source)}
        _refuse_columns(source, columns)
    elif _plain(source).endswith(".txt"):
        found = {text_column: read_texts(Path(source), text_column)}
        _refuse_columns(source, columns)
    else:
        found = _columns(read_rows(source), source, text_column, columns)
    texts = found[text_column]
    beside = {name: found[name] for name in columns} | {name: _label_file(file) for name, file in files.items()}
    for name, column in beside.items():
        if len(column) != len(texts):
            raise InputError(f"--labels {name}: {len(column)} labels for the {len(texts)} texts of {source}")
    return Data(texts, {name: beside[name] for name in labels})


def _plain(name: str) -> str:
    return name.lower().removesuffix(".gz")


def _is_format(name: str) -> bool:
    return _plain(name).endswith(FORMATS)


def _is_hub_id(source: str) -> bool:
    return not _is_format(source) and not Path(source).exists() and bool(re.fullmatch(r"[\w.-]+/[\w.-]+", source))


def _is_list_of_texts(source: str) -> bool:
    """Whether a .json holds a list of texts, as the older released configurations had them."""
    if not _plain(source).endswith(".json") or not Path(source).is_file():
        return False
    try:
        content = read_json(source)
    except InputError:
        return False  # perhaps rows, one per line
    return isinstance(content, list) and bool(content) and all(isinstance(text, str) for text in content)


def _refuse_columns(source: str, columns: Sequence[str]) -> None:
    if columns:
        raise InputError(f"--labels {columns[0]}: {source} has no columns; give a file with one label per text")


def _columns(
    rows: Iterable[tuple[int, Mapping[str, Any]]], source: str, text_column: str, labels: Sequence[str]
) -> dict[str, list[str]]:
    """Columns of rows as text."""
    found: dict[str, list[str]] = {name: [] for name in (text_column, *labels)}
    for number, row in rows:
        for name, column in found.items():
            flag = "--text_column" if name == text_column else "--labels"
            if name not in row:
                raise InputError(f"{source}:{number}: no column {name!r} (has {', '.join(row)}); see {flag}")
            value = row[name]
            if name == text_column and not isinstance(value, str):
                raise InputError(f"{source}:{number}: column {name!r} should be text, is {type(value).__name__}")
            if value is None or isinstance(value, list | dict) or not str(value).strip():
                raise InputError(f"{source}:{number}: column {name!r} is empty or no single value; mend the row")
            column.append(str(value))
    return found


def _label_file(file: Path) -> list[str]:
    if _plain(file.name).endswith(".txt"):
        return read_texts(file, LABEL)
    return _columns(read_rows(file), str(file), LABEL, ())[LABEL]


def _hub_rows(name: str) -> list[tuple[int, Mapping[str, Any]]]:
    if not hub_reachable():
        raise InputError(f"--texts {name}: no such file, and the hub does not answer; give a file")
    from datasets import load_dataset

    try:
        return list(enumerate(load_dataset(name, split=SPLIT), 1))
    except (OSError, ValueError) as error:
        raise InputError(f"--texts {name}: {first_line(error)}") from error
