"""Training data in the JSON Lines format of `cfli/bge-e5data` and `cfli/bge-full-data`: a data set is a file."""

from __future__ import annotations

import dataclasses
import difflib
import logging
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bge_icl.data_files import SUFFIXES, data_files
from common.data import Row, RowList
from common.errors import InputError
from common.model_names import hub_reachable
from common.reading import ROW_FORMATS, data_root, read_rows

logger = logging.getLogger(__name__)

TYPES = ("normal", "only_1neg", "symmetric_sts", "symmetric_class", "symmetric_clustering")
# Another row's passage may be as right as the own one: negatives come from the own group alone.
OWN_GROUP = ("symmetric_class", "symmetric_clustering")
# Their passages are read as queries are, instruction and all.
BOTH_SIDES = ("symmetric_sts", "symmetric_clustering")
# A later version of the released code says in a file's or folder's name what we say in a column.
NO_IN_BATCH = "no_in_batch_neg"


@dataclasses.dataclass(frozen=True)
class DataSet:
    """What the rows of one data set have in common, and so each of its batches.

    Attributes:
        kind: one of `TYPES`.
        in_batch: the passages of other rows are negatives.
        group: passages per row, the positive first.
        batch: rows per process.
    """

    kind: str
    in_batch: bool
    group: int
    batch: int


def read_data(
    names: Sequence[str],
    *,
    data_dir: str | Path | None = None,
    prompt: str | None = None,
    limit: int | None = None,
) -> RowList:
    """The rows of files, of folders of files (all that are below), or of hub data sets; each checked.

    Rows have query, positive and negative (lists), instruction, type, in_batch and dataset, and where they have
    them scores (of the teacher; positives, then negatives), category, batch_size and train_group_size.

    Args:
        names: paths, names below `data_dir` (or `EMBED_DATA`), or hub ids.
        data_dir: the folder that the user named.
        prompt: the instruction of rows without one.
        limit: the first rows of each data set only.

    Raises:
        InputError: no such data, or a bad row, with file and line.
    """
    rows: list[Row] = []
    for name in names:
        for dataset, source, raw in _sets_of(name, data_dir):
            of_set = []
            for number, one in raw:
                of_set.append(checked_row(one, f"{source}:{number}", dataset, source, prompt))
                if limit is not None and len(of_set) >= limit:
                    break
            check_alike(of_set, source)
            rows += of_set
    if not rows:
        raise InputError(f"{', '.join(names)}: no row to train on")
    return RowList(rows, ", ".join(names))


def _sets_of(
    name: str, data_dir: str | Path | None
) -> Iterator[tuple[str, str, Iterable[tuple[int, Mapping[str, Any]]]]]:
    """(name, source, numbered rows) of each data set behind a name."""
    root = data_root(data_dir)
    candidates = [Path(name), *([root / name] if root else [])]
    path = next((p for p in candidates if p.exists()), None)
    if path is not None and path.is_file():
        yield _stem(path), str(path), read_rows(path)
    elif path is not None:
        files = data_files(path)
        if not files:
            raise InputError(f"{path}: holds no data set ({', '.join(ROW_FORMATS)}, .gz allowed)")
        for file in files:
            yield _stem(file.relative_to(path)), str(file), read_rows(file)
    elif data_dir or name.endswith(SUFFIXES) or name.startswith((".", "/")):
        raise InputError(f"--train_data: no file or folder {' or '.join(map(str, candidates))}")
    else:
        if not hub_reachable():
            raise InputError(f"--train_data {name}: no such file or folder, and the hub does not answer")
        from datasets import load_dataset

        try:
            splits = load_dataset(name)
        except (OSError, ValueError) as error:
            raise InputError(f"--train_data {name}: {str(error).splitlines()[0]}") from error
        for split, data in splits.items():
            yield str(split), f"{name}/{split}", enumerate(data, 1)


def _stem(path: Path) -> str:
    suffix = next(s for s in sorted(SUFFIXES, key=len, reverse=True) if path.name.endswith(s))
    return str(path)[: -len(suffix)]


def checked_row(raw: Mapping[str, Any], place: str, dataset: str, source: str = "", prompt: str | None = None) -> Row:
    """A row of the released format in our words.

    Args:
        raw: query, pos, neg, pos_scores, neg_scores, prompt, type, category, in_batch_negatives, batch_size,
            train_group_size; all but query and pos may be missing or None.
        place: file and line, for messages.
        dataset: the name of its data set.
        source: the file or folder, whose name may end in "no_in_batch_neg".
        prompt: the instruction, where the row has none.

    Raises:
        InputError: naming the place and the column.
    """
    given = {k: v for k, v in raw.items() if v is not None}
    kind = given.get("type", "normal")
    if kind not in TYPES:
        close = difflib.get_close_matches(str(kind), TYPES, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(TYPES)}"
        raise InputError(f"{place}: type {kind!r} is not known; {hint}")
    instruction = given.get("prompt", prompt)
    if instruction is None:
        raise InputError(f"{place}: no prompt (the instruction of the row); add it, or give --prompt")
    positive, negative = _texts(given, "pos", place), _texts(given, "neg", place, [])
    if not positive:
        raise InputError(f"{place}: pos is an empty list")
    if kind in OWN_GROUP and not negative:
        raise InputError(f"{place}: neg is empty; rows of type {kind} have no other negatives than their own")
    in_batch = kind not in OWN_GROUP and not _says_no_in_batch(source)
    row: Row = {
        "query": _text(given, "query", place),
        "positive": positive,
        "negative": negative,
        "instruction": sys.intern(_text({"prompt": instruction}, "prompt", place)),
        "type": kind,
        "in_batch": _flag(given, "in_batch_negatives", place, in_batch),
        "dataset": sys.intern(dataset),
    }
    if kind == "symmetric_clustering" and "category" not in given:
        raise InputError(f"{place}: no category (the text that answers the row in an example)")
    if "category" in given:
        row["category"] = _text(given, "category", place)
    if given.get("pos_scores") or given.get("neg_scores"):
        row["scores"] = _scores(given, "pos", positive, place) + _scores(given, "neg", negative, place)
    for name in ("batch_size", "train_group_size"):
        if name in given:
            if isinstance(given[name], bool) or not isinstance(given[name], int) or given[name] < 1:
                raise InputError(f"{place}: {name} should be a whole number above 0, is {given[name]!r:.40}")
            row[name] = given[name]
    return row


def _says_no_in_batch(source: str) -> bool:
    """Whether a file's name, or that of a folder it is in, ends as the released code has it."""
    parts = Path(source).parts
    stems = [*parts[:-1], _stem(Path(parts[-1])) if parts[-1].endswith(SUFFIXES) else parts[-1]] if parts else []
    return any(stem.endswith(NO_IN_BATCH) for stem in stems)


def _text(given: Mapping[str, Any], column: str, place: str) -> str:
    value = given.get(column)
    if not isinstance(value, str):
        what = "is missing" if value is None else f"should be text, is {type(value).__name__}"
        raise InputError(f"{place}: {column} {what}")
    if column == "query" and not value.strip():
        raise InputError(f"{place}: query is empty")
    return value


def _texts(given: Mapping[str, Any], column: str, place: str, default: list[str] | None = None) -> list[str]:
    value = given.get(column, default)
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        what = "is missing" if value is None else f"should be a list of texts, is {type(value).__name__}"
        raise InputError(f"{place}: {column} {what}")
    for i, text in enumerate(value):
        if not isinstance(text, str) or not text.strip():
            what = "empty" if isinstance(text, str) else f"no text but {type(text).__name__}"
            raise InputError(f"{place}: {column}[{i}] is {what}")
    return value


def _scores(given: Mapping[str, Any], side: str, texts: list[str], place: str) -> list[float]:
    column = f"{side}_scores"
    values = given.get(column) or []
    if not isinstance(values, list) or len(values) != len(texts):
        count = len(values) if isinstance(values, list) else 0
        raise InputError(f"{place}: {column} has {count} scores for {len(texts)} texts of {side}")
    for i, value in enumerate(values):
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number:
            raise InputError(f"{place}: {column}[{i}] should be a number, is {value!r:.40}")
    return [float(value) for value in values]


def _flag(given: Mapping[str, Any], column: str, place: str, default: bool) -> bool:
    value = given.get(column, default)
    if not isinstance(value, bool):
        raise InputError(f"{place}: {column} should be true or false, is {value!r:.40}")
    return value


def check_alike(rows: Sequence[Row], source: str) -> None:
    """Rows of one data set go into one batch, so they must say the same of it.

    Raises:
        InputError: naming the first row that says something else.
    """
    for what in ("type", "in_batch", "batch_size", "train_group_size"):
        for i, row in enumerate(rows):
            if row.get(what) != rows[0].get(what):
                was, now = rows[0].get(what), row.get(what)
                raise InputError(f"{source}: row {i + 1}: {what} {now!r}, but rows before have {was!r}; "
                                 "give every kind of rows a file of its own")  # fmt: skip
    for what, have in (("scores", [bool(r.get("scores")) for r in rows]), ("neg", [bool(r["negative"]) for r in rows])):
        if rows and any(have) and not all(have):
            number = have.index(not have[0]) + 1
            raise InputError(f"{source}: row {number}: some rows have {what} and some have none; "
                             "rows of one data set must all have them, or none")  # fmt: skip


def triplets_as_rows(rows: RowList, prompt: str, kind: str = "normal") -> RowList:
    """Rows of pairs or triplets (`common.data`) as rows of this format.

    Args:
        rows: query, positive, maybe negative; each a text or a list of texts.
        prompt: the instruction of rows without one.
        kind: of `TYPES`; by default as in retrieval, queries with the instruction and the other texts bare, so that
            texts are trained both ways they can be read.
    """
    made = []
    for row in rows.rows:
        texts = {name: _listed(row.get(name, [])) for name in ("positive", "negative")}
        raw = {"query": row["query"], "pos": texts["positive"], "neg": texts["negative"], "type": kind}
        raw["prompt"] = row.get("instruction", prompt)
        for query in _listed(raw["query"]):
            made.append(checked_row({**raw, "query": query}, rows.source, row.get("dataset", "data")))
    return RowList(made, rows.source)


def _listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def data_sets(rows: RowList, config: Any) -> dict[str, DataSet]:
    """What each data set's batches look like, by the rules of the released code.

    The size of a group is never more than one positive and the negatives that a row of the set has at most
    (released: negatives are repeated up to the size). A row with fewer repeats its own.

    Args:
        rows: of `read_data`.
        config: `bge_icl.recipe.IclConfig`.
    """
    of_set: dict[str, list[Row]] = {}
    for row in rows.rows:
        of_set.setdefault(row["dataset"], []).append(row)
    found = {}
    for name, some in of_set.items():
        first = some[0]
        kind = first["type"]
        if "train_group_size" in first:
            wanted = first["train_group_size"]
        elif kind == "only_1neg":
            wanted = 2
        elif kind == "symmetric_class":
            wanted = config.max_class_neg + 1
        else:
            wanted = config.symmetric_train_group_size if kind in BOTH_SIDES else config.train_group_size
        group = min(wanted, 1 + max(len(row["negative"]) for row in some))
        in_batch = first["in_batch"] and not (kind == "symmetric_sts" and "bge_icl:sts-no-in-batch" in config.compat)
        found[name] = DataSet(kind, in_batch, group, config.batch_of(first))
    return found
