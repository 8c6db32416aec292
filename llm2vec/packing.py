"""Texts -> blocks of a fixed number of tokens, that remember where their texts begin."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from common.batching import pad
from common.data import RowList
from common.errors import InputError

logger = logging.getLogger(__name__)

CHUNK = 1000  # texts per call of the tokenizer
WORTH_A_BAR = 100_000  # texts


class Blocks(RowList):
    """Blocks of tokens; each is one or several rows, and no token sees one of another row.

    As an item a block is (its number, {"rows": [token ids (t,), ...]}).

    Args:
        ids: all tokens, one after the other.
        rows: (R, 2) first and end position of each row in `ids`.
        first: (N + 1,) block b holds the rows first[b] to before first[b + 1].
        source: where the texts are from.
    """

    def __init__(self, ids: NDArray[np.int32], rows: NDArray[np.int64], first: NDArray[np.int64], source: str) -> None:
        super().__init__((), source)
        self.ids, self.spans, self.first = ids, rows, first

    def __len__(self) -> int:
        return len(self.first) - 1

    def __getitem__(self, index: int) -> tuple[int, dict[str, Any]]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        spans = self.spans[self.first[index] : self.first[index + 1]]
        return index, {"rows": [self.ids[start:end] for start, end in spans]}

    @property
    def tokens(self) -> int:
        """Tokens of all rows."""
        return int((self.spans[:, 1] - self.spans[:, 0]).sum())

    def head(self, count: int | None) -> Blocks:
        """The first blocks only."""
        if count is None or count >= len(self):
            return self
        first = self.first[: count + 1]
        return Blocks(self.ids, self.spans[: first[-1]], first, self.source)


def tokenize_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int | None = None
) -> list[NDArray[np.int32]]:
    """Token ids of each text, with the special tokens that the tokenizer puts around one; cut to `max_length`."""
    options: dict[str, Any] = {"truncation": True, "max_length": max_length} if max_length else {}
    found = []
    starts: Iterable[int] = range(0, len(texts), CHUNK)
    for start in tqdm(starts, desc="tokenising", unit_scale=CHUNK, unit=" texts", disable=len(texts) < WORTH_A_BAR):
        chunk = list(texts[start : start + CHUNK])
        # verbose=False: texts longer than the model reads are cut into blocks, no reason for a warning.
        encoded = tokenizer(chunk, return_attention_mask=False, verbose=False, **options)
        found += [np.asarray(ids, dtype=np.int32) for ids in encoded["input_ids"]]
    return found


def pack(
    documents: Sequence[NDArray[np.int32]], block_length: int, source: str, *, cross_document: bool = False
) -> Blocks:
    """Concatenate documents and cut the whole into blocks of `block_length` tokens; the last may be shorter.

    A document that a cut divides goes on in the next block as a row of its own. A row of one token is left
    out: there is nothing in it that could be predicted. (The released code also drops the remainder of every
    1,000 lines.)

    Args:
        documents: token ids of each.
        block_length: tokens per block.
        source: where they are from.
        cross_document: a block is one row, so that tokens see other documents, as in the released code.

    Raises:
        InputError: no block at all.
    """
    ids, starts = _joined(documents)
    cuts = np.arange(0, len(ids), block_length)
    if not cross_document:
        cuts = np.union1d(cuts, starts[starts < len(ids)])
    rows = _spans(cuts, len(ids))
    return _blocks(ids, rows, rows[:, 0] // block_length, source)


def line_by_line(documents: Sequence[NDArray[np.int32]], source: str) -> Blocks:
    """Each document is a block.

    Raises:
        InputError: no block at all.
    """
    ids, starts = _joined(documents)
    rows = _spans(starts, len(ids))
    return _blocks(ids, rows, np.arange(len(rows)), source)


def _joined(documents: Sequence[NDArray[np.int32]]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """All tokens, and where each document begins."""
    if not documents:
        return np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int64)
    lengths = np.array([len(document) for document in documents], dtype=np.int64)
    return np.concatenate(documents), np.cumsum(lengths) - lengths


def _spans(starts: NDArray[np.int64], end: int) -> NDArray[np.int64]:
    """(R, 2): from each start to the next, the last to the end."""
    return np.stack([starts, np.append(starts, end)[1:]], axis=1)


def _blocks(ids: NDArray[np.int32], rows: NDArray[np.int64], block: NDArray[np.int64], source: str) -> Blocks:
    keep = rows[:, 1] - rows[:, 0] > 1
    rows, block = rows[keep], block[keep]
    if not len(rows):
        raise InputError(f"{source}: no text of two tokens or more in it")
    _, first = np.unique(block, return_index=True)
    return Blocks(ids, rows.astype(np.int64), np.append(first, len(rows)), source)


class BlockCollator:
    """Blocks -> one batch of all their rows, padded on the right, not masked yet."""

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, items: Sequence[tuple[int, dict[str, Any]]]) -> dict[str, Any]:
        """input_ids and attention_mask (R, T) int64; lengths: tokens per row."""
        rows = [ids for _, block in items for ids in block["rows"]]
        input_ids, attention_mask = pad(rows, self.pad_id)
        return {"input_ids": input_ids, "attention_mask": attention_mask, "lengths": [len(ids) for ids in rows]}
