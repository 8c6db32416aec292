"""Question-answer rows: a text (or none), a question about it, and its answer."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

from common.data import RowList, RowStream, columns_of, data_path, load_rows
from common.errors import InputError
from common.model_names import first_line, hub_reachable
from common.reading import read_rows
from inbedder.answers import simplify
from inbedder.prompts import DEFAULT_INSTRUCTION

logger = logging.getLogger(__name__)

PRETRAIN_DATA = "KomeijiForce/Inbedder-Pretrain-Data"  # the authors' 198,000 rows
QUESTION, TEXT, ANSWER = "instruction", "input", "output"


def load_qa(
    name: str,
    *,
    data_dir: str | Path | None = None,
    split: str = "train",
    subset: str | None = None,
    rename: Mapping[str, str] | None = None,
    limit: int | None = None,
) -> RowList:
    """Rows {instruction, input, output} of a file or a hub data set, checked.

    `input` may be "" or missing; `output` is a str, or a list of acceptable ones; rows whose output is blank are left
    out, with a notice. Rows without `output` are read as
    pairs or triplets of texts (`common.data.load_rows`); `answered` makes question-answer rows of those.

    Args:
        name: a local file (a JSON list or JSON Lines, .gz allowed; .csv, .tsv, .parquet, too), a file under
            `data_dir`, "shipped:NAME", or a hub id such as `PRETRAIN_DATA`.
        data_dir: the folder that the user named.
        split: of a hub data set; subset: its configuration.
        rename: old column -> new column, applied first.
        limit: the first rows only.

    Raises:
        InputError: missing data, or a bad row (with file and line).
    """
    path = data_path(name, data_dir)
    renamed = dict(rename or {})
    if path is not None:
        numbered: Iterator[tuple[int, Mapping[str, Any]]] = read_rows(path)
        source = str(path)
    else:
        numbered, source = _from_hub(name, split, subset), name
    first = next(numbered, None)
    if first is None:
        raise InputError(f"{source}: no row to train on")
    if ANSWER not in {renamed.get(column, column) for column in first[1]}:
        texts = load_rows(name, data_dir=data_dir, split=split, subset=subset, rename=rename, limit=limit)
        assert isinstance(texts, RowList)
        return texts
    without: list[str] = []
    rows = RowList(islice(_kept(chain([first], numbered), source, renamed, without), limit), source)
    if without:
        logger.warning("%d rows without an answer are left out, first %s", len(without), without[0])
    if not len(rows):
        raise InputError(f"{source}: no row with an answer to train on")
    return rows


def _kept(
    rows: Iterable[tuple[int, Mapping[str, Any]]], source: str, rename: Mapping[str, str], without: list[str]
) -> Iterator[dict[str, Any]]:
    """The rows that have an answer; the places of the others go to `without`."""
    for number, raw in rows:
        row = qa_row(raw, f"{source}:{number}", rename)
        if row[ANSWER]:
            yield row
        else:
            without.append(f"{source}:{number}")


def qa_row(raw: Mapping[str, Any], place: str, rename: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A row with instruction, input and output, checked; its output is "" where it holds no answer.

    Raises:
        InputError: naming the place and the column.
    """
    row = {(rename or {}).get(column, column): value for column, value in raw.items()}
    for column in (QUESTION, ANSWER):
        if row.get(column) is None:
            raise InputError(
                f"{place}: no column {column!r} (columns: {', '.join(map(str, raw))}); a row is instruction, input, "
                "output; use --column_rename_mapping old:new"
            )
    text = "" if row.get(TEXT) is None else row[TEXT]
    answers = row[ANSWER] if isinstance(row[ANSWER], list) else [row[ANSWER]]
    for column, value in ((QUESTION, row[QUESTION]), (TEXT, text), *((ANSWER, answer) for answer in answers)):
        if not isinstance(value, str):
            raise InputError(f"{place}: column {column!r} should be text, is {type(value).__name__}")
    if not row[QUESTION].strip():
        raise InputError(f"{place}: column {QUESTION!r} is empty")
    kept = [answer for answer in answers if answer.strip()]
    output = (kept if isinstance(row[ANSWER], list) else kept[0]) if kept else ""
    return {QUESTION: row[QUESTION], TEXT: text if text.strip() else "", ANSWER: output}


def answered(rows: RowList | RowStream, *, simplified: bool = True, question: str | None = None) -> RowList:
    """Rows to train on, as question-answer rows.

    Rows of pairs or triplets (NLI: query, positive, negative) have no questions: the query becomes the text, the
    positive its answer, and `question` is asked, where the row has no instruction of its own. Their negatives are not
    used: nothing in this objective pushes apart.

    Args:
        rows: question-answer rows, pairs or triplets, in memory.
        simplified: answers go through `inbedder.answers.simplify`.
        question: default: `inbedder.prompts.DEFAULT_INSTRUCTION`.

    Raises:
        InputError: a stream, or labelled pairs, which hold no answer.
    """
    if not isinstance(rows, RowList):
        raise InputError(f"{rows.source}: question-answer rows can't be streamed; leave out --streaming")
    found: Iterable[dict[str, Any]] = rows.rows
    source = rows.source
    if ANSWER not in rows.columns:
        if "positive" not in rows.columns:
            raise InputError(
                f"{rows.source}: columns {', '.join(columns_of(rows.rows[0]))} hold no answers; give rows of "
                "instruction, input, output, or pairs or triplets of texts"
            )
        source = f"{rows.source} (query as text, positive as answer)"
        logger.info("%s: rows without questions; the query is the text, the positive its answer", rows.source)
        asked = question or DEFAULT_INSTRUCTION
        found = (
            {QUESTION: row.get(QUESTION, asked), TEXT: _one(row["query"]), ANSWER: row["positive"]} for row in rows.rows
        )
    return RowList(({**row, ANSWER: _simplified(row[ANSWER])} for row in found) if simplified else found, source)


def _simplified(answers: str | list[str]) -> str | list[str]:
    return [simplify(answer) for answer in answers] if isinstance(answers, list) else simplify(answers)


def _one(texts: str | list[str]) -> str:
    """The first of several: the others say the same, and a text and its answer must not change places."""
    return texts[0] if isinstance(texts, list) else texts


def _from_hub(name: str, split: str, subset: str | None) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if not hub_reachable():
        raise InputError(f"data {name!r}: no such local file, and the hub does not answer; give a file or --data_dir")
    from datasets import load_dataset

    try:
        data: Any = load_dataset(name, subset, split=split)
    except (OSError, ValueError) as error:
        raise InputError(f"data {name!r}: {first_line(error)}") from error
    return iter(enumerate(data, 1))
