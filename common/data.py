"""Training rows: where a data set name is looked up, which columns it may have, and batches of token ids."""

from __future__ import annotations

import hashlib
import logging
import random
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from common.batching import pad, span_mask
from common.encoder import Encoder, Role
from common.errors import InputError
from common.model_names import hub_reachable
from common.reading import SHIPPED, data_root, read_rows

logger = logging.getLogger(__name__)

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")

# The canonical name of each column, and the names that other projects give it.
ALIASES = {
    "text1": ("text1", "sentence1", "s1"),
    "text2": ("text2", "sentence2", "s2"),
    "label": ("label", "score", "similarity"),
    "query": ("query", "anchor", "text", "sent0"),
    "positive": ("positive", "pos", "sent1"),
    "negative": ("negative", "neg", "hard_neg"),
}
FORMATS = {
    "A": ("text1", "text2", "label"),
    "B": ("query", "positive"),
    "C": ("query", "positive", "negative"),
}
# What a row may say besides its texts: the instruction of the query (or text1), that of the other texts, and the
# data set it is from (`common.task_batches`).
SAID_OF_ROWS = ("instruction", "document_instruction", "dataset")
INSTRUCTED = ("query", "text1")
# Released NLI files carry words; AnglE drops the neutral pairs.
NLI_LABELS = {"entailment": 1.0, "contradiction": 0.0, "neutral": None}
# Their numbers in the hub's SNLI and MultiNLI; -1 is a pair without a gold label.
NLI_NUMBERS = {0: "entailment", 1: "neutral", 2: "contradiction", -1: "neutral"}

Row = dict[str, Any]


def data_path(name: str, data_dir: str | Path | None = None) -> Path | None:
    """The local file behind a data set name: a path, a file under `data_dir` (or `EMBED_DATA`), shipped data.

    "shipped:triplets" names a file of `common/shipped`. None: not local, so a hub id.
    """
    if name.startswith("shipped:"):
        path = SHIPPED / f"{name.removeprefix('shipped:')}.jsonl"
        if not path.is_file():
            known = ", ".join(sorted(f"shipped:{p.stem}" for p in SHIPPED.glob("*.jsonl")))
            raise InputError(f"data {name!r}: no such file ships with the project; known: {known}")
        return path
    if Path(name).is_file():
        return Path(name)
    root = data_root(data_dir)
    if root and (root / name).is_file():
        return root / name
    if Path(name).is_dir():
        raise InputError(f"data {name}: is a folder; name one file in it ({', '.join(SUFFIXES)}, .gz allowed)")
    if data_dir or name.removesuffix(".gz").endswith(SUFFIXES) or name.startswith((".", "/")):
        where = f"{name} or {root / name}" if root else name
        raise InputError(f"data: no file {where}; check --train_name_or_path and --data_dir")
    return None


def load_rows(
    name: str,
    *,
    data_dir: str | Path | None = None,
    split: str = "train",
    subset: str | None = None,
    streaming: bool = False,
    rename: Mapping[str, str] | None = None,
    limit: int | None = None,
) -> RowList | RowStream:
    """Rows of one format, checked.

    Local files are read and checked in full before training starts; the hub streams row by row on demand.

    Args:
        name: a local file, a file under `data_dir`, "shipped:NAME", or a hub id.
        data_dir: the folder that the user named.
        split: of a hub data set; subset: its configuration.
        streaming: read the hub data set while training.
        rename: old column -> new column, applied first.
        limit: the first rows only.

    Raises:
        InputError: missing data, unknown columns, a bad row (with file and line).
    """
    path = data_path(name, data_dir)
    if path is not None:
        # AllNLI.tsv.gz holds all splits in one file, named in a column.
        of_split = ((number, row) for number, row in read_rows(path) if row.get("split", split) == split)
        rows = RowList(_checked(of_split, str(path), rename, limit), str(path))
        if len(rows) == 0:
            raise InputError(f"{path}: no row to train on (of the split {split!r}, where it has such a column)")
        return rows
    if not hub_reachable():
        raise InputError(f"data {name!r}: no such local file, and the hub does not answer; give a file or --data_dir")
    from datasets import load_dataset

    try:
        data = load_dataset(name, subset, split=split, streaming=streaming)
    except (OSError, ValueError) as error:
        raise InputError(f"data {name!r}: {str(error).splitlines()[0]}") from error
    if streaming:
        return RowStream(data, name, rename, limit)
    return RowList(_checked(enumerate(data, 1), name, rename, limit), name)


def _checked(
    rows: Iterable[tuple[int, Mapping[str, Any]]], source: str, rename: Mapping[str, str] | None, limit: int | None
) -> Iterator[Row]:
    expected: tuple[str, ...] | None = None
    kept = 0
    for number, raw in rows:
        row = canonical_row(raw, f"{source}:{number}", rename)
        if row is None:
            continue
        columns = columns_of(row)
        if expected is None:
            expected = columns
        elif columns != expected:
            raise InputError(
                f"{source}:{number}: columns {', '.join(columns)}, but rows before have {', '.join(expected)}"
            )
        yield row
        kept += 1
        if limit is not None and kept >= limit:
            return


def columns_of(row: Row) -> tuple[str, ...]:
    """The canonical columns of a row: its texts and its label, not what is said of it."""
    return tuple(name for name in row if name not in SAID_OF_ROWS)


def canonical_row(raw: Mapping[str, Any], place: str, rename: Mapping[str, str] | None = None) -> Row | None:
    """A row with the canonical columns of one format; None for a neutral NLI pair, which is dropped.

    Formats are known by their columns, never by their letter (released letters B and C changed places).
    `SAID_OF_ROWS` go along where the row has them; other columns are left out.

    Raises:
        InputError: naming the place and the column.
    """
    row = {(rename or {}).get(k, k): v for k, v in raw.items()}
    if {"premise", "hypothesis", "label"} <= set(row):
        label = row["label"]
        if not isinstance(label, str):
            if label not in NLI_NUMBERS:
                raise InputError(f"{place}: NLI label {label!r} is not one of {', '.join(NLI_LABELS)}, -1 to 2")
            label = NLI_NUMBERS[label]
        row = {"text1": row["premise"], "text2": row["hypothesis"], "label": label}
    found = {}
    for name, aliases in ALIASES.items():
        present = [a for a in aliases if row.get(a) is not None]
        if present:
            found[name] = row[present[0]]
    for columns in (FORMATS["C"], FORMATS["B"], FORMATS["A"]):
        if all(c in found for c in columns):
            result = {c: _value(c, found[c], place) for c in columns}
            if result.get("label", 0.0) is None:
                return None
            return result | {name: _said(name, row[name], place) for name in SAID_OF_ROWS if row.get(name) is not None}
    shape = "; ".join(", ".join(c) for c in FORMATS.values())
    raise InputError(f"{place}: columns {', '.join(map(str, raw))} are of no known format ({shape}); "
                     "use --column_rename_mapping old:new")  # fmt: skip


def _value(column: str, value: Any, place: str) -> Any:
    if column == "label":
        return _label(value, place)
    texts = value if isinstance(value, list) else [value]
    if not texts:
        raise InputError(f"{place}: column {column!r} is an empty list")
    for text in texts:
        if not isinstance(text, str):
            raise InputError(f"{place}: column {column!r} should be text, is {type(text).__name__}")
        if not text.strip():
            raise InputError(f"{place}: column {column!r} is empty")
    return value


def _said(name: str, value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{place}: column {name!r} should be text, is {type(value).__name__}")
    return sys.intern(value)  # thousands of rows say the same


def _label(value: Any, place: str) -> float | None:
    if isinstance(value, str) and value.strip().lower() in NLI_LABELS:
        return NLI_LABELS[value.strip().lower()]
    try:
        label = float(value)
    except (TypeError, ValueError):
        label = float("nan")
    if isinstance(value, bool) or label != label or label in (float("inf"), float("-inf")):
        raise InputError(f"{place}: column 'label' should be a number, is {value!r}")
    return label


class RowList(Dataset):
    """Rows in memory; an item is the row with its number, for reproducible draws."""

    def __init__(self, rows: Iterable[Row], source: str) -> None:
        self.rows = list(rows)
        self.source = source

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[int, Row]:
        return index, self.rows[index]

    @property
    def columns(self) -> tuple[str, ...]:
        """The canonical columns."""
        return columns_of(self.rows[0])

    @property
    def sets(self) -> list[str] | None:
        """The data set of each row ("" where it is not said); None where no row says one."""
        names = [row.get("dataset", "") for row in self.rows]
        return names if any(names) else None


class RowStream(IterableDataset):
    """Rows of a hub data set, read and checked while training."""

    def __init__(self, data: Any, source: str, rename: Mapping[str, str] | None, limit: int | None) -> None:
        self.data, self.source, self.rename, self.limit = data, source, rename, limit

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        return iter(enumerate(_checked(enumerate(self.data, 1), self.source, self.rename, self.limit)))

    @property
    def columns(self) -> tuple[str, ...]:
        """The canonical columns, from the first row."""
        return columns_of(next(iter(self))[1])


class Collator:
    """Rows -> one padded batch of all their texts.

    The texts of all columns go through the model together, as one batch (C*B, T): column after column, each
    in row order. A row's own instruction goes before that of its column; where the template has no place for
    one it is left out, with one warning.

    Args:
        encoder: whose templates and tokenizer are used.
        roles: column -> which template ("text", "query", "document"); others are "text".
        instructions: column -> instruction, where its template has a place for one.
        seed: decides which text is drawn where a field is a list.
        pad_side: "left" is for quirks that look at padding; such batches have no lengths, so the trunk runs
            them whole.
    """

    def __init__(
        self,
        encoder: Encoder,
        roles: Mapping[str, Role] | None = None,
        instructions: Mapping[str, str] | None = None,
        seed: int = 0,
        pad_side: Literal["right", "left"] = "right",
    ) -> None:
        self.encoder = encoder
        self.roles = dict(roles or {})
        self.instructions = dict(instructions or {})
        self.seed = seed
        self.pad_side = pad_side
        self._warned = False

    def __call__(self, items: Sequence[tuple[int, Row]]) -> dict[str, Any]:
        """A batch.

        Returns:
            input_ids, attention_mask: (C*B, T); pool_mask: (C*B, T), 1 = pooled, where the encoder leaves real
            tokens out; text_ids: (C*B,) int64, equal for equal token ids (for equal texts, where rows have
            instructions); columns: names, in order; lengths: tokens per text; labels: (B,) float32 where the
            rows have labels.
        """
        rows = [self._drawn(number, row) for number, row in items]
        columns = [c for c in columns_of(rows[0]) if c != "label"]
        ids: list[list[int]] = []
        spans: list[tuple[int, int]] | None = []
        for column in columns:
            role = self.roles.get(column, "text")
            given = self._instructions(column, role, rows)
            tokens = self.encoder.tokens([row[column] for row in rows], role, given)
            ids += tokens.ids
            spans = None if spans is None or tokens.pooled is None else spans + tokens.pooled
        tokenizer = self.encoder.backbone.tokenizer
        input_ids, attention_mask = pad(ids, tokenizer.pad_token_id or 0, side=self.pad_side)
        instructed = any("instruction" in row or "document_instruction" in row for row in rows)
        texts = [row[column] for column in columns for row in rows]
        same = texts if instructed else [",".join(map(str, s)) for s in ids]
        batch: dict[str, Any] = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "text_ids": torch.tensor([stable_hash(s) for s in same], dtype=torch.int64),
            "columns": columns,
            "lengths": [len(s) for s in ids] if self.pad_side == "right" else None,
        }
        if spans is not None:
            width = input_ids.shape[1]
            shifts = [0 if self.pad_side == "right" else width - len(s) for s in ids]
            batch["pool_mask"] = span_mask([(b + by, e + by) for (b, e), by in zip(spans, shifts)], width)
        if "label" in rows[0]:
            batch["labels"] = torch.tensor([row["label"] for row in rows], dtype=torch.float32)
        return batch

    def _instructions(self, column: str, role: Role, rows: Sequence[Row]) -> list[str | None]:
        key = "instruction" if column in INSTRUCTED else "document_instruction"
        given = [row.get(key, self.instructions.get(column)) for row in rows]
        if any(key in row for row in rows) and not self.encoder.template_for(role).takes_instruction:
            if not self._warned:
                self._warned = True
                pattern = self.encoder.template_for(role).pattern
                logger.warning("the rows have instructions, but template %r has no place for one", pattern)
            return [self.instructions.get(column)] * len(rows)
        return given

    def _drawn(self, number: int, row: Row) -> Row:
        if not any(isinstance(v, list) for v in row.values()):
            return row
        # Depends on seed and row only, so that a resumed run draws as the uninterrupted one did.
        draw = random.Random(f"{self.seed}-{number}")
        return {k: draw.choice(v) if isinstance(v, list) else v for k, v in row.items()}


def stable_hash(text: str) -> int:
    """A 63-bit hash that is the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def split_columns(vectors: Tensor, columns: Sequence[str]) -> dict[str, Tensor]:
    """(C*B, D) as column -> (B, D)."""
    return dict(zip(columns, vectors.chunk(len(columns))))
