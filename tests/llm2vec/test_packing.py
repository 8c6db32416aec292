"""Packing: all tokens once and in order, documents as rows of their own, and what can be learned from nothing."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from common.errors import InputError
from llm2vec.packing import BlockCollator, Blocks, line_by_line, pack, tokenize_texts

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "llm2vec"


def documents(*lengths: int) -> list[np.ndarray]:
    """Documents whose tokens are all different: 0, 1, 2 ..."""
    starts = np.cumsum([0, *lengths])
    return [np.arange(a, b, dtype=np.int32) for a, b in itertools.pairwise(starts)]


def rows(blocks: Blocks) -> list[list[list[int]]]:
    return [[row.tolist() for row in blocks[i][1]["rows"]] for i in range(len(blocks))]


def test_documents_of_a_block_are_rows_of_their_own() -> None:
    blocks = pack(documents(3, 4, 6), 5, "s")
    assert rows(blocks) == [[[0, 1, 2], [3, 4]], [[5, 6], [7, 8, 9]], [[10, 11, 12]]]
    assert blocks.tokens == 13
    assert blocks.source == "s"
    assert blocks[1][0] == 1


def test_across_documents_a_block_is_one_row() -> None:
    blocks = pack(documents(3, 4, 6), 5, "s", cross_document=True)
    assert rows(blocks) == [[[0, 1, 2, 3, 4]], [[5, 6, 7, 8, 9]], [[10, 11, 12]]]


def test_a_row_of_one_token_teaches_nothing() -> None:
    assert rows(pack(documents(1, 1, 3, 0, 2), 4, "s")) == [[[2, 3]], [[5, 6]]]
    assert rows(line_by_line(documents(1, 3, 0, 2), "s")) == [[[1, 2, 3]], [[4, 5]]]
    for nothing in ([], documents(1, 1), documents(0, 0)):
        with pytest.raises(InputError, match="s: no text of two tokens"):
            pack(nothing, 4, "s")
        with pytest.raises(InputError, match="s: no text of two tokens"):
            line_by_line(nothing, "s")


def test_the_first_blocks_only() -> None:
    blocks = pack(documents(3, 4, 6), 5, "s")
    assert rows(blocks.head(2)) == rows(blocks)[:2]
    assert blocks.head(2).tokens == 10
    assert blocks.head(None) is blocks
    assert len(blocks.head(99)) == 3
    with pytest.raises(IndexError):
        blocks[3]


@given(
    lengths=st.lists(st.integers(0, 30), max_size=20),
    block=st.integers(2, 40),
    cross=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_every_token_stands_in_one_row_and_in_its_document(lengths: list[int], block: int, cross: bool) -> None:
    texts = documents(*lengths)
    of = {int(token): i for i, text in enumerate(texts) for token in text}
    try:
        found = rows(pack(texts, block, "s", cross_document=cross))
    except InputError:
        assert not cross or sum(lengths) < 2
        return
    flat = [token for one in found for row in one for token in row]
    assert flat == sorted(set(flat))
    for one in found:
        assert sum(map(len, one)) <= block
        assert len({row[0] // block for row in one}) == 1
        for row in one:
            assert len(row) > 1
            assert cross or len({of[token] for token in row}) == 1
    # Left out are only tokens that stand alone between two cuts.
    cuts = {*range(0, sum(lengths) + 1, block), sum(lengths)} | (set() if cross else set(np.cumsum([0, *lengths])))
    alone = [token for token in of if token in cuts and token + 1 in cuts]
    assert sorted(set(of) - set(flat)) == alone


def test_texts_are_tokenised_with_special_tokens_and_cut() -> None:
    tokenizer = AutoTokenizer.from_pretrained(GOLDEN / "tiny_llama")
    texts = ["w1 w2 w3", "", "w4"] * 400  # more than one call of the tokenizer
    found = tokenize_texts(tokenizer, texts)
    assert [ids.tolist() for ids in found[:3]] == [tokenizer(text)["input_ids"] for text in texts[:3]]
    assert found[1].tolist() == [tokenizer.bos_token_id]
    assert len(found) == 1200
    assert [len(ids) for ids in tokenize_texts(tokenizer, texts[:3], 2)] == [2, 1, 2]
    assert found[0].dtype == np.int32


def test_a_batch_holds_the_rows_of_its_blocks() -> None:
    blocks = pack(documents(3, 4, 6), 5, "s")
    batch = BlockCollator(99)([blocks[0], blocks[2]])
    assert batch["lengths"] == [3, 2, 3]
    assert batch["input_ids"].tolist() == [[0, 1, 2], [3, 4, 99], [10, 11, 12]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0], [1, 1, 1]]
    assert batch["input_ids"].dtype == torch.int64
