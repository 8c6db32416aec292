"""Batches of a single data set: the order of rows, in one and two processes, and after a resumption."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from training_fixtures import run_processes, sentences, write_jsonl

from common import training
from common.backbone import load_backbone
from common.contrastive_objective import ContrastiveObjective
from common.data import RowList, load_rows
from common.encoder import Encoder
from common.errors import InputError
from common.recipe import TrainConfig
from common.task_batches import SingleSetBatches, SingleSetSampler

SETS = ["a"] * 10 + ["b"] * 7 + ["c"] * 3


def batches_of(sampler: SingleSetSampler, size: int) -> list[list[int]]:
    order = list(sampler)
    return [order[i : i + size] for i in range(0, len(order), size)]


@given(
    sets=st.lists(st.sampled_from("abcd"), min_size=4, max_size=60),
    size=st.integers(1, 4),
    seed=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_every_batch_is_full_and_of_one_set(sets: list[str], size: int, seed: int) -> None:
    if max(Counter(sets).values()) < size:
        return
    sampler = SingleSetSampler(sets, size, seed)
    batches = batches_of(sampler, size)
    assert len(sampler) == size * len(batches)
    for batch in batches:
        assert len(batch) == size
        assert len({sets[i] for i in batch}) == 1
    rows = [i for batch in batches for i in batch]
    assert len(set(rows)) == len(rows)
    assert Counter(sets[batch[0]] for batch in batches) == {k: n // size for k, n in Counter(sets).items() if n >= size}


def test_batches_and_rows_are_shuffled() -> None:
    sets = ["a"] * 40 + ["b"] * 40
    batches = batches_of(SingleSetSampler(sets, 4, 1), 4)
    of_a = [batch for batch in batches if sets[batch[0]] == "a"]
    assert [sets[batch[0]] for batch in batches] != ["a"] * 10 + ["b"] * 10
    assert [i for batch in of_a for i in batch] != sorted(i for batch in of_a for i in batch)
    assert any(abs(batch[0] - batch[1]) > 4 for batch in of_a)  # not only the batches as wholes


def order_of(seed: int, epoch: int, size: int = 3) -> list[int]:
    sampler = SingleSetSampler(SETS, size, seed)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    sampler = SingleSetSampler(SETS, 3, 1)
    first = list(sampler)
    assert list(sampler) == first  # asked again, as a resumed training does
    assert order_of(2, 0) != first
    sampler.set_epoch(1)
    assert list(sampler) == order_of(1, 1) != first


def test_what_a_short_batch_leaves_out_changes() -> None:
    left_out = {frozenset(range(10)) - set(order_of(1, epoch, size=4)) for epoch in range(8)}
    assert len(left_out) > 1


def test_sets_shorter_than_a_batch_are_named(caplog: pytest.LogCaptureFixture) -> None:
    sampler = SingleSetSampler(SETS, 8, 1, source="some.jsonl")
    assert "some.jsonl: never used, shorter than one batch of 8 rows: b, c" in caplog.text
    assert {SETS[i] for i in sampler} == {"a"}
    with pytest.raises(InputError, match=r"some\.jsonl: none of its 3 data sets fills a batch of 11; lower"):
        SingleSetSampler(SETS, 11, 1, source="some.jsonl")


# -- as a batch sampler, sizes differing --------------------------------------------------------------

SIZES = {"a": 2, "b": 3, "c": 1}


@given(
    sets=st.lists(st.sampled_from("abc"), min_size=6, max_size=60),
    processes=st.integers(1, 3),
    seed=st.integers(0, 9),
    shuffle=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_the_batches_of_a_step_are_of_one_set_and_of_its_size(
    sets: list[str], processes: int, seed: int, shuffle: bool
) -> None:
    counts = Counter(sets)
    if all(n < SIZES[name] * processes for name, n in counts.items()):
        return
    sampler = SingleSetBatches(sets, SIZES, processes=processes, seed=seed, shuffle=shuffle)
    batches = list(sampler)
    assert len(sampler) == len(batches)
    rows = [i for batch in batches for i in batch]
    assert len(set(rows)) == len(rows)
    steps = [batches[i : i + processes] for i in range(0, len(batches), processes)]
    for step in steps:
        (name,) = {sets[i] for batch in step for i in batch}
        assert [len(batch) for batch in step] == [SIZES[name]] * processes
    of_sets = Counter(sets[step[0][0]] for step in steps)
    assert of_sets == {k: s for k, n in counts.items() if (s := n // (SIZES[k] * processes))}


def test_the_order_of_steps_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        sampler = SingleSetBatches(SETS, SIZES, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(2, 0)
    assert order(1, 0) != order(1, 1)
    assert [SETS[batch[0]] for batch in order(1, 0)] != ["a"] * 5 + ["b"] * 2 + ["c"] * 3
    assert {frozenset({10, 11, 12, 13, 14, 15, 16}) - {i for b in order(1, e) for i in b} for e in range(8)} != {
        frozenset({16})
    }


def test_two_processes_share_the_rows_of_one() -> None:
    """A process takes every second batch; a step of two is of the same rows as one of twice the size."""
    twice = {name: 2 * size for name, size in SIZES.items()}
    one = list(SingleSetBatches(SETS, twice, seed=4))
    two = list(SingleSetBatches(SETS, SIZES, processes=2, seed=4))
    assert [first + second for first, second in zip(two[::2], two[1::2])] == one


def test_unshuffled_batches_are_in_the_order_of_the_rows() -> None:
    sampler = SingleSetBatches(SETS, SIZES, seed=1, shuffle=False)
    assert list(sampler) == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11, 12], [13, 14, 15], [17], [18], [19]]
    sampler.sampler.set_epoch(1)
    assert next(iter(sampler)) == [0, 1]


def test_sets_shorter_than_their_batch_are_named(caplog: pytest.LogCaptureFixture) -> None:
    sampler = SingleSetBatches(SETS, {"a": 4, "b": 4, "c": 4}, seed=1, source="some folder")
    assert "some folder: never used, shorter than one batch: c" in caplog.text
    assert {SETS[i] for batch in sampler for i in batch} == {"a", "b"}
    with pytest.raises(InputError, match=r"some folder: none of its 3 data sets .* \(12 rows for a\); lower"):
        SingleSetBatches(SETS, {"a": 6, "b": 6, "c": 6}, processes=2, seed=1, source="some folder")


# -- in training ------------------------------------------------------------------------------------


def rows_of_sets() -> list[dict[str, str]]:
    """30 rows of set a, 21 of b, 5 of c; the query says which row it is."""
    rows = sentences()[:56]
    sets = ["a"] * 30 + ["b"] * 21 + ["c"] * 5
    return [{**row, "dataset": name} for row, name in zip(rows, sets)]


def train(model: Path, data: Path, out: Path, batch: int, changes: dict[str, Any] | None = None) -> None:
    """Train three epochs; every process writes the rows of each of its batches into `out`."""
    torch.set_num_threads(1)
    rank = os.environ.get("RANK", "0")
    seen: list[list[str]] = []
    kept = training.Collator.__call__

    def watching(self: Any, items: Any) -> Any:
        seen.append([row["query"] for _, row in items])
        return kept(self, items)

    config = TrainConfig(
        output_dir=out / "model", batch_size=batch, epochs=3, warmup_steps=0, logging_steps=1, save_steps=4,
        bf16=False, lora_r=2, lora_alpha=2, lora_dropout=0.1, **(changes or {}),
    )  # fmt: skip
    torch.manual_seed(0)
    encoder = Encoder(load_backbone(str(model), dtype="float32"), method="angle", pooling="mean")
    training.Collator.__call__ = watching  # type: ignore[method-assign]
    try:
        rows = load_rows(str(data))
        training.fit(encoder, rows, ContrastiveObjective(), config, single_set_batches=True)
    finally:
        training.Collator.__call__ = kept  # type: ignore[method-assign]
    (out / f"seen-{rank}.json").write_text(json.dumps(seen))


def killed(model: Path, data: Path, out: Path, batch: int, step: int) -> None:
    """As `train`, killed when the checkpoint of a step is whole."""
    kept = transformers.Trainer._maybe_log_save_evaluate

    def kill(self: Any, *args: Any, **kwargs: Any) -> None:
        kept(self, *args, **kwargs)
        if self.state.global_step >= step:
            os.kill(os.getpid(), signal.SIGKILL)

    transformers.Trainer._maybe_log_save_evaluate = kill  # type: ignore[method-assign]
    train(model, data, out, batch)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "sets.jsonl", rows_of_sets())


def without_sets(data: Path, folder: Path) -> Path:
    """The same rows, which do not say where they are from."""
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    return write_jsonl(folder / "plain.jsonl", [{k: v for k, v in row.items() if k != "dataset"} for row in rows])


def seen(folder: Path, rank: int = 0) -> dict[str, Any]:
    steps = json.loads((folder / "model" / "training.json").read_text())["steps"]
    return {"batches": json.loads((folder / f"seen-{rank}.json").read_text()), "steps": steps}


SET_OF = {row["query"]: row["dataset"] for row in rows_of_sets()}


def test_training_takes_batches_of_one_set(tiny_llama: Path, data: Path, tmp_path: Path) -> None:
    train(tiny_llama, data, tmp_path, 8)
    found = seen(tmp_path)
    assert found["steps"] == 3 * (30 // 8 + 21 // 8)
    batches = found["batches"][-found["steps"] :]
    assert all(len({SET_OF[query] for query in batch}) == 1 for batch in batches)
    epochs = [batches[i : i + 5] for i in (0, 5, 10)]
    assert epochs[0] != epochs[1] != epochs[2]


def test_rows_without_sets_are_mixed_as_ever(tiny_llama: Path, data: Path, tmp_path: Path) -> None:
    rows = load_rows(str(data))
    assert isinstance(rows, RowList)
    assert rows.columns == ("query", "positive", "negative")
    assert rows.sets == ["a"] * 30 + ["b"] * 21 + ["c"] * 5
    train(tiny_llama, without_sets(data, tmp_path), tmp_path, 8)
    batches = seen(tmp_path)["batches"]
    assert seen(tmp_path)["steps"] == 3 * (56 // 8)
    assert any(len({SET_OF[query] for query in batch}) > 1 for batch in batches)


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "sets"), [(1, True), (2, True), (2, False)])
def test_a_killed_run_goes_on_with_the_batches_that_were_left(
    tiny_llama: Path, data: Path, tmp_path: Path, processes: int, sets: bool
) -> None:
    """15 or 21 steps in three epochs; the checkpoint of step 8 is in the middle of the second."""
    batch = 8 // processes
    if not sets:
        data = without_sets(data, tmp_path)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    run_processes(train, tiny_llama, data, whole, batch, folder=tmp_path, count=processes)
    codes = run_processes(killed, tiny_llama, data, broken, batch, 10, folder=tmp_path, count=processes)
    assert codes[0] == -signal.SIGKILL
    run_processes(train, tiny_llama, data, broken, batch, folder=tmp_path, count=processes)
    for rank in range(processes):
        one, two = seen(whole, rank), seen(broken, rank)
        assert one["steps"] == two["steps"] == (15 if sets else 21)
        left = one["steps"] - 8  # the checkpoint of step 8 is the last
        assert two["batches"][-left:] == one["batches"][-left:]
        assert "checkpoint-8" in (tmp_path / "log-0.txt").read_text()
    if processes == 2 and sets:
        steps = zip(seen(whole, 0)["batches"][-15:], seen(whole, 1)["batches"][-15:])
        for first, second in steps:
            assert len({SET_OF[query] for query in first + second}) == 1
            assert not set(first) & set(second)
    losses = [json.loads((f / "model" / "training.json").read_text())["loss"] for f in (whole, broken)]
    assert losses[0] == losses[1]
