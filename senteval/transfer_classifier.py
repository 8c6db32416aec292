"""SentEval's logistic regression (its PyTorch classifier with nhid 0), many trainings at once in one tensor program.

What one training is, as in SentEval:

- a linear layer with bias, initialised by torch under the seed; mean cross-entropy; Adam (lr 1e-3, betas 0.9 and 0.999)
  with the L2 coefficient as weight decay on weights and bias; batches of 64, shuffled anew every epoch by numpy's
  legacy generator under the seed.
- after every `epoch_size` epochs the accuracy on the dev rows; the best weights so far are kept (the first of
  equals). Every round without a gain counts, and counts do not start again after a gain: the training ends with the
  round after the `tenacity`-th, or past `max_epoch` epochs.

Every training starts from the same seed, so those that differ in L2 alone see the same batches in the same order: their
weights are rows of one matrix, and a batch is gathered once for all of them. Trainings on other rows are the leading
dimension of a batched matrix product. Equal to one-by-one training up to the rounding of sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # of Adam, torch's defaults
GATHERED = 2**26  # numbers of one gathered batch (rows x features), which bounds how many trainings run at once


@dataclass(frozen=True)
class Classifier:
    """Settings of the classifier; the defaults are those of SentEval in the papers' mode `test`."""

    batch_size: int = 64
    tenacity: int = 5
    epoch_size: int = 4
    max_epoch: int = 200
    learning_rate: float = 1e-3
    folds: int = 10
    l2: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2)  # SentEval's grid: 10**t for t in range(-5, -1)
    seed: int = 1111


@dataclass(frozen=True)
class Rows:
    """The rows of one training.

    Attributes:
        train: (n,) row numbers, in the order that shuffling starts from.
        dev: (m,) row numbers whose accuracy chooses the weights.
        drawn: numbers that the generator permuted before the first epoch, to choose `dev`; 0: none.
    """

    train: np.ndarray
    dev: np.ndarray
    drawn: int = 0


@dataclass(frozen=True)
class Fitted:
    """Results of `fit`: F trainings' rows, R values of L2 each, C classes, D features.

    Attributes:
        weight: (F, R, C, D + 1); the last feature is the constant 1.
        accuracy: (F, R) float64, the best on the dev rows.
        epochs: (F, R) epochs run, at a time when `epoch_size` of them are run together.
    """

    weight: Tensor
    accuracy: np.ndarray
    epochs: np.ndarray

    def predict(self, x: Tensor, training: int, column: int = 0) -> np.ndarray:
        """(n,) classes of the rows of x (n, D + 1)."""
        return (x @ self.weight[training, column].T).argmax(dim=1).cpu().numpy()


def held_out(rows: np.ndarray, seed: int, share: float = 0.05) -> Rows:
    """A random share of the rows as dev rows, as SentEval's final trainings have it."""
    permutation = np.random.RandomState(seed).permutation(len(rows))
    cut = int(share * len(rows))
    return Rows(train=rows[permutation[cut:]], dev=rows[permutation[:cut]], drawn=len(rows))


def with_bias(x: np.ndarray, device: str | torch.device = "cpu") -> Tensor:
    """(n, D) features -> (n, D + 1) float32 with a constant 1, so that the bias is one more weight."""
    features = torch.as_tensor(np.ascontiguousarray(x, dtype=np.float32), device=device)
    return torch.cat([features, torch.ones(len(features), 1, device=device)], dim=1)


def initial_weight(features: int, classes: int, seed: int) -> Tensor:
    """(C, D + 1): weight and bias of torch's own initial linear layer under the seed, made on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = torch.nn.Linear(features, classes)
    return torch.cat([layer.weight.detach(), layer.bias.detach()[:, None]], dim=1)


def fit(
    x: Tensor, y: Tensor, rows: Sequence[Rows], l2: Sequence[Sequence[float]], classes: int, settings: Classifier
) -> Fitted:
    """Train on every set of rows with every one of its L2 values.

    Args:
        x: (N, D + 1) of `with_bias`.
        y: (N,) int64 classes on the same device.
        rows: F trainings.
        l2: for each of them R values.
        classes: C.
        settings: of the classifier.
    """
    order = sorted(range(len(rows)), key=lambda f: -len(rows[f].train))
    at_once = max(1, GATHERED // (settings.batch_size * x.shape[1]))
    weight = torch.empty(len(rows), len(l2[0]), classes, x.shape[1], device=x.device)
    accuracy, epochs = np.zeros((len(rows), len(l2[0]))), np.zeros((len(rows), len(l2[0])), dtype=np.int64)
    for start in range(0, len(order), at_once):
        chosen = order[start : start + at_once]
        group = _Group(x, y, [rows[f] for f in chosen], [l2[f] for f in chosen], classes, settings)
        group.run()
        weight[chosen], accuracy[chosen], epochs[chosen] = group.best, group.top, group.epochs
    return Fitted(weight, accuracy, epochs)


class _Shuffles:
    """The permutations that every training of n rows sees: each starts from the same seed."""

    def __init__(self, rows: Rows, seed: int) -> None:
        self.size = len(rows.train)
        self.generator = np.random.RandomState(seed)
        if rows.drawn:
            self.generator.permutation(rows.drawn)

    def next(self) -> np.ndarray:
        """The order of the next epoch."""
        return self.generator.permutation(self.size)


class _Group:
    """Trainings that run together, from the one with the most rows to the one with the fewest.

    In a step at the end of an epoch only the first k of them may still have rows, so what takes part in a step is
    always a leading slice.
    """

    def __init__(
        self, x: Tensor, y: Tensor, rows: list[Rows], l2: list[Sequence[float]], classes: int, settings: Classifier
    ) -> None:
        self.x, self.y, self.rows, self.settings = x, y, rows, settings
        first = initial_weight(x.shape[1] - 1, classes, settings.seed).to(x.device)
        shape = (len(rows), len(l2[0]))
        self.weight = first.expand(*shape, -1, -1).clone()  # (F, R, C, D + 1)
        self.mean, self.square = torch.zeros_like(self.weight), torch.zeros_like(self.weight)
        decay = torch.tensor([list(values) for values in l2], dtype=torch.float32, device=x.device)
        self.decay = decay[:, :, None, None]
        self.steps = np.zeros(len(rows), dtype=np.int64)
        self.batch = torch.empty(len(rows) * settings.batch_size, x.shape[1], device=x.device)
        self.shuffles: dict[tuple[int, int], _Shuffles] = {}
        for one in rows:
            self.shuffles.setdefault((len(one.train), one.drawn), _Shuffles(one, settings.seed))
        # Results of all; what runs is the trainings in `alive`, whose tensors are those above.
        self.alive = np.arange(len(rows))
        self.best = self.weight.clone()
        self.top = np.full(shape, -1.0)
        self.misses = np.zeros(shape, dtype=np.int64)
        self.stopped = np.zeros(shape, dtype=bool)
        self.epochs = np.zeros(shape, dtype=np.int64)

    def run(self) -> None:
        """Train until every training has stopped."""
        epochs = 0
        while len(self.alive) and epochs <= self.settings.max_epoch:
            for _ in range(self.settings.epoch_size):
                self._epoch()
            epochs += self.settings.epoch_size
            self._judge(epochs)
            self._drop_stopped()

    def _epoch(self) -> None:
        """One pass over the training rows of each."""
        permutations = {key: shuffle.next() for key, shuffle in self.shuffles.items()}
        running = [self.rows[f] for f in self.alive]
        sizes = np.array([len(one.train) for one in running])
        table = np.zeros((len(running), sizes[0]), dtype=np.int64)
        for place, one in enumerate(running):
            table[place, : sizes[place]] = one.train[permutations[len(one.train), one.drawn]]
        rows = torch.as_tensor(table, device=self.x.device)
        labels = self.y[rows]
        width = self.settings.batch_size
        for start in range(0, int(sizes[0]), width):
            taking = int((sizes > start).sum())
            filled = np.minimum(sizes[:taking] - start, width)
            part = slice(start, start + int(filled[0]))
            share = torch.as_tensor(1.0 / filled, dtype=torch.float32, device=self.x.device).view(-1, 1, 1, 1)
            if filled[-1] < filled[0]:  # some have a shorter last batch: the rows they lack weigh nothing
                there = np.arange(filled[0])[None, :] < filled[:, None]
                share = share * torch.as_tensor(there, device=self.x.device)[:, None, None, :]
            self._step(rows[:taking, part], labels[:taking, part], share)

    def _step(self, rows: Tensor, labels: Tensor, share: Tensor) -> None:
        """One step of Adam of the first k trainings.

        Args:
            rows: (k, B) row numbers.
            labels: (k, B) their classes.
            share: (k, 1, 1, 1 or B), the weight of a row in the mean.
        """
        k, size = rows.shape
        weight, mean, square = self.weight[:k], self.mean[:k], self.square[:k]
        values, classes, width = weight.shape[1:]
        batch = self.batch[: k * size]
        torch.index_select(self.x, 0, rows.reshape(-1), out=batch)
        x = batch.view(k, size, width)
        logits = torch.bmm(weight.view(k, -1, width), x.transpose(1, 2)).view(k, values, classes, size)
        # The gradient of mean cross-entropy by the logits: probability minus one-hot label, over the batch size.
        slope = logits.softmax(dim=2)
        slope -= torch.nn.functional.one_hot(labels, classes).transpose(1, 2)[:, None]
        slope *= share
        gradient = torch.bmm(slope.view(k, -1, size), x).view(weight.shape).addcmul_(weight, self.decay[:k])
        self.steps[:k] += 1
        mean.lerp_(gradient, 1 - BETA1)
        square.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        rate = self.settings.learning_rate / (1 - BETA1 ** self.steps[:k].astype(np.float64))
        root = np.sqrt(1 - BETA2 ** self.steps[:k].astype(np.float64))
        if self.steps[0] == self.steps[k - 1]:
            weight.addcdiv_(mean, torch.sqrt(square, out=gradient).div_(root[0]).add_(EPSILON), value=-float(rate[0]))
        else:  # those with fewer batches an epoch have made fewer steps
            rates, roots = (
                torch.as_tensor(value, dtype=torch.float32, device=weight.device).view(-1, 1, 1, 1)
                for value in (rate, root)
            )
            weight -= rates * mean / torch.sqrt(square, out=gradient).div_(roots).add_(EPSILON)

    def _judge(self, epochs: int) -> None:
        """Keep what is best on the dev rows so far, and stop what has missed too often."""
        _, values, classes, width = self.weight.shape
        for place, f in enumerate(self.alive):
            dev = torch.as_tensor(self.rows[f].dev, device=self.x.device)
            logits = (self.x[dev] @ self.weight[place].view(-1, width).T).view(len(dev), values, classes)
            correct = (logits.argmax(dim=-1) == self.y[dev][:, None]).sum(dim=0).cpu().numpy()
            accuracy = correct / len(dev)
            running = ~self.stopped[f]
            self.epochs[f, running] = epochs
            better = running & (accuracy > self.top[f])
            chosen = torch.as_tensor(np.flatnonzero(better), device=self.x.device)
            self.best[f, chosen] = self.weight[place, chosen]
            self.top[f, better] = accuracy[better]
            missed = running & ~better
            self.stopped[f] |= missed & (self.misses[f] >= self.settings.tenacity)
            self.misses[f] += missed

    def _drop_stopped(self) -> None:
        """Go on with those trainings only of which some L2 value still runs."""
        going = np.flatnonzero(~self.stopped[self.alive].all(axis=1))
        if len(going) == len(self.alive):
            return
        kept = torch.as_tensor(going, device=self.x.device)
        self.weight, self.mean, self.square = self.weight[kept], self.mean[kept], self.square[kept]
        self.decay, self.steps, self.alive = self.decay[kept], self.steps[going], self.alive[going]
