from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.batching import distinct, pad, plan, span_mask

lengths_of = st.lists(st.integers(1, 60), max_size=60)


@given(lengths=lengths_of, budget=st.integers(1, 300), rows=st.none() | st.integers(1, 7))
def test_plan(lengths: list[int], budget: int, rows: int | None) -> None:
    batches = plan(lengths, budget, rows)
    flat = [i for batch in batches for i in batch]
    assert sorted(flat) == list(range(len(lengths)))  # every position once
    assert all(batches)
    for batch, following in zip(batches, [*batches[1:], None]):
        longest = max(lengths[i] for i in batch)
        assert len(batch) == 1 or len(batch) * longest <= budget
        assert rows is None or len(batch) <= rows
        if following is not None:  # a batch ends only because it is full
            assert len(batch) == rows or (len(batch) + 1) * longest > budget
    ordered = [lengths[i] for i in flat]
    assert ordered == sorted(ordered, reverse=True)  # longest first


def test_equal_lengths_keep_their_order() -> None:
    assert plan([3, 3, 5, 3], 6) == [[2], [0, 1], [3]]


def test_sequences_of_like_length_go_together_where_that_is_worth_a_pass() -> None:
    lengths = [100, 40, 90, 38, 5, 76, 4, 39]
    assert plan(lengths, 1000, worth=64) == [[0, 2, 5], [1, 7, 3], [4, 6]]
    assert plan(lengths, 1000, worth=200) == [[0, 2, 5], [1, 7, 3, 4, 6]]
    assert plan(lengths, 1000, worth=1000) == plan(lengths, 1000) == [[0, 2, 5, 1, 7, 3, 4, 6]]
    assert plan(lengths, 200, worth=64) == [[0, 2], [5], [1, 7, 3], [4, 6]]


@given(lengths=lengths_of, budget=st.integers(1, 300), worth=st.integers(0, 200))
def test_a_plan_of_like_lengths_is_a_plan(lengths: list[int], budget: int, worth: int) -> None:
    batches = plan(lengths, budget, worth=worth)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch, following in zip(batches, [*batches[1:], None]):
        longest = max(lengths[i] for i in batch)
        assert len(batch) == 1 or len(batch) * longest <= budget
        if following is not None and (len(batch) + 1) * longest <= budget:
            assert len(batch) * longest >= worth
            assert lengths[following[0]] < 0.75 * longest


@given(st.lists(st.text(max_size=2)))
def test_distinct(items: list[str]) -> None:
    unique, index = distinct(items)
    assert [unique[i] for i in index] == items
    assert unique == list(dict.fromkeys(items))


@pytest.mark.parametrize("side", ["right", "left"])
def test_pad_sides(side: str) -> None:
    ids, mask = pad([[5, 6, 7], [8]], 9, side=side)
    assert ids.dtype == mask.dtype == torch.long
    assert ids.tolist() == [[5, 6, 7], [8, 9, 9] if side == "right" else [9, 9, 8]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0] if side == "right" else [0, 0, 1]]


def test_span_mask() -> None:
    mask = span_mask([(0, 3), (1, 2), (2, 2), (3, 4)], 4)
    assert mask.dtype == torch.long
    assert mask.tolist() == [[1, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    assert span_mask([], 4).shape == (0, 4)
