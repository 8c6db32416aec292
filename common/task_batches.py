"""Batches from one data set each: in-batch negatives of another task are too easy, and some are no negatives."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Mapping, Sequence

from torch.utils.data import Sampler

from common.errors import InputError

logger = logging.getLogger(__name__)


class SingleSetSampler(Sampler[int]):
    """Row numbers in an order in which every `batch` of them in turn are rows of one data set.

    As in LLM2Vec: each set is shuffled and cut into batches, those that are too short are dropped, and the
    batches are shuffled. The order depends on seed and epoch alone, so all processes have the same one, and a
    resumed training that skips what it had goes on as if nothing had been. (What a short batch holds in one
    epoch, a full one holds in another.)

    Args:
        sets: the data set of each row.
        batch: rows of all processes together, of one forward pass.
        seed: of all shuffling.
        source: what the rows are from, for messages.

    Raises:
        InputError: no set fills a batch.
    """

    def __init__(self, sets: Sequence[str], batch: int, seed: int, *, source: str = "data") -> None:
        self.rows_of: dict[str, list[int]] = {}
        for number, name in enumerate(sets):
            self.rows_of.setdefault(name, []).append(number)
        self.batch, self.seed, self.epoch = batch, seed, 0
        short = [name for name, rows in self.rows_of.items() if len(rows) < batch]
        if len(short) == len(self.rows_of):
            raise InputError(
                f"{source}: none of its {len(short)} data sets fills a batch of {batch}; lower --batch_size"
            )
        if short:
            logger.warning("%s: never used, shorter than one batch of %d rows: %s", source, batch, ", ".join(short))

    def set_epoch(self, epoch: int) -> None:
        """Which pass over the data comes next (`common.training_callbacks.TellEpoch`)."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Rows per epoch."""
        return sum(len(rows) // self.batch for rows in self.rows_of.values()) * self.batch

    def __iter__(self) -> Iterator[int]:
        draw = random.Random(f"{self.seed}-{self.epoch}")
        batches = []
        for rows in self.rows_of.values():
            shuffled = draw.sample(rows, len(rows))
            batches += [shuffled[i : i + self.batch] for i in range(0, len(rows) - self.batch + 1, self.batch)]
        draw.shuffle(batches)
        for batch in batches:
            yield from batch


class SingleSetBatches(Sampler[list[int]]):
    """`SingleSetSampler` as a batch sampler, where data sets differ in the size of their batches.

    The batches of all processes of one step come in turn, each of the step's data set and of its size. `batch_size`
    and `drop_last` are what accelerate looks for in a sampler of batches of several sizes.

    Args:
        sets: the data set of each row.
        sizes: data set -> rows per process and batch.
        processes: how many processes take one batch each per step.
        seed: of all shuffling.
        source: what the rows are from, for messages.
        shuffle: False: rows in their order, as for validation.

    Raises:
        InputError: no set fills a batch.
    """

    batch_size = None
    drop_last = True

    def __init__(
        self,
        sets: Sequence[str],
        sizes: Mapping[str, int],
        *,
        processes: int = 1,
        seed: int,
        source: str = "data",
        shuffle: bool = True,
    ) -> None:
        self.rows_of: dict[str, list[int]] = {}
        for number, name in enumerate(sets):
            self.rows_of.setdefault(name, []).append(number)
        self.sizes, self.processes, self.seed, self.shuffle, self.epoch = dict(sizes), processes, seed, shuffle, 0
        short = [name for name, rows in self.rows_of.items() if len(rows) < sizes[name] * processes]
        if len(short) == len(self.rows_of):
            raise InputError(f"{source}: none of its {len(short)} data sets fills a batch of its size "
                             f"({sizes[short[0]] * processes} rows for {short[0]}); lower --batch_size")  # fmt: skip
        if short:
            logger.warning("%s: never used, shorter than one batch: %s", source, ", ".join(short))

    @property
    def sampler(self) -> SingleSetBatches:
        """Itself: whoever sets the epoch looks for it here (`common.training_callbacks.TellEpoch`)."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Which pass over the data comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches of all processes per epoch."""
        steps = sum(len(rows) // (self.sizes[name] * self.processes) for name, rows in self.rows_of.items())
        return steps * self.processes

    def __iter__(self) -> Iterator[list[int]]:
        draw = random.Random(f"{self.seed}-{self.epoch}")
        steps: list[list[int]] = []
        for name, rows in self.rows_of.items():
            order = draw.sample(rows, len(rows)) if self.shuffle else rows
            size = self.sizes[name] * self.processes
            steps += [order[i : i + size] for i in range(0, len(order) - size + 1, size)]
        if self.shuffle:
            draw.shuffle(steps)
        for step in steps:
            size = len(step) // self.processes
            yield from (step[i : i + size] for i in range(0, len(step), size))
