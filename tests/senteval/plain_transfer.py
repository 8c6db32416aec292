"""SentEval's protocol as a plain loop: one nn.Linear and torch.optim.Adam at a time, from the description alone.

Shares no code with `senteval.transfer` but the order of a part's rows.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import StratifiedKFold

GRID = [1e-5, 1e-4, 1e-3, 1e-2]
SEED = 1111
RATE = 1e-3


def train_one(
    x: np.ndarray,
    y: np.ndarray,
    dev: tuple[np.ndarray, np.ndarray] | None,
    l2: float,
    classes: int,
    max_epoch: int = 200,
) -> tuple[torch.nn.Linear, float]:
    """One classifier and its best accuracy on the dev rows; without those, on 5% of x."""
    np.random.seed(SEED)
    torch.manual_seed(SEED)
    model = torch.nn.Linear(x.shape[1], classes)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, weight_decay=l2)
    if dev is None:
        permutation, cut = np.random.permutation(len(x)), int(0.05 * len(x))
        dev = (x[permutation[:cut]], y[permutation[:cut]])
        x, y = x[permutation[cut:]], y[permutation[cut:]]
    features, labels = torch.tensor(x), torch.tensor(y)
    epoch, best, best_model, count, stop = 0, -1.0, model, 0, False
    while not stop and epoch <= max_epoch:
        for _ in range(4):
            order = torch.tensor(np.random.permutation(len(features)))
            for start in range(0, len(order), 64):
                rows = order[start : start + 64]
                loss = torch.nn.functional.cross_entropy(model(features[rows]), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        epoch += 4
        accuracy = float((predict(model, dev[0]) == dev[1]).mean())
        if accuracy > best:
            best, best_model = accuracy, copy.deepcopy(model)
        else:
            stop = count >= 5
            count += 1
    return best_model, best


def predict(model: torch.nn.Linear, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(torch.tensor(x)).argmax(dim=1).numpy()


def best_l2(x: np.ndarray, y: np.ndarray, classes: int) -> float:
    """The L2 value with the best mean accuracy over ten folds."""
    means = []
    for l2 in GRID:
        splits = StratifiedKFold(10, shuffle=True, random_state=SEED).split(x, y)
        found = [train_one(x[train], y[train], (x[dev], y[dev]), l2, classes)[1] for train, dev in splits]
        means.append(round(100 * float(np.mean(found)), 2))
    return GRID[int(np.argmax(means))]


def cross_validate(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """MR, CR, SUBJ, MPQA: correct answers and L2 of every fold, and a prediction for every row."""
    predicted, correct, chosen = np.empty(len(y), dtype=np.int64), [], []
    for train, test in StratifiedKFold(10, shuffle=True, random_state=SEED).split(x, y):
        chosen.append(best_l2(x[train], y[train], 2))
        model, _ = train_one(x[train], y[train], None, chosen[-1], 2)
        predicted[test] = predict(model, x[test])
        correct.append(int((predicted[test] == y[test]).sum()))
    return {"predicted": predicted, "correct": correct, "l2": chosen}


def train_and_test(x: np.ndarray, y: np.ndarray, test_x: np.ndarray, classes: int) -> tuple[np.ndarray, float]:
    """TREC and MRPC: predictions for the test rows, and the L2."""
    l2 = best_l2(x, y, classes)
    return predict(train_one(x, y, None, l2, classes)[0], test_x), l2


def train_dev_test(
    x: np.ndarray, y: np.ndarray, dev: tuple[np.ndarray, np.ndarray], test_x: np.ndarray, classes: int
) -> tuple[np.ndarray, float]:
    """SST2: predictions for the test rows, and the L2."""
    fits = [train_one(x, y, dev, l2, classes) for l2 in GRID]
    chosen = int(np.argmax([round(100 * accuracy, 2) for _, accuracy in fits]))
    return predict(fits[chosen][0], test_x), GRID[chosen]
