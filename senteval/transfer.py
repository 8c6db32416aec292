"""Evaluate an encoder on a transfer task: SentEval's protocol, and a fast scikit-learn probe.

    task = load_transfer("CR", "data")
    scores, prediction = evaluate_transfer(model.encode, task)

The embeddings stay as they are; only a logistic regression on them is trained.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from senteval.tasks import SentEvalError
from senteval.transfer_tasks import TransferTask

if TYPE_CHECKING:
    from senteval.transfer_classifier import Classifier

Probe = Literal["senteval", "sklearn"]
"""senteval: the protocol of the papers. sklearn: one logistic regression without a search, to look at quickly."""

FOLD_SEED = 1111  # of SentEval's cross-validation
FEWEST = 100  # texts per part: ten folds, each with ten inner ones
Features = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Part -> (n, D) float32 features and (n,) labels, in SentEval's order."""


def evaluate_transfer(
    encode: Callable[[list[str]], np.ndarray],
    task: TransferTask,
    *,
    probe: Probe = "senteval",
    device: str = "cpu",
    settings: Classifier | None = None,
) -> tuple[dict[str, Any], np.ndarray]:
    """Embed a task's texts, train the classifier, score its predictions.

    Args:
        encode: texts -> (n, D) array. It is called once with all texts of the task.
        task: from `load_transfer`.
        probe: which classifier.
        device: where SentEval's classifier trains.
        settings: of SentEval's classifier; default: the papers' mode `test`.

    Returns:
        The scores, and (n,) int64 predictions of the scored texts in the order of the data. Scores: accuracy and
        dev_accuracy (x 100; of cross-validation the means of the folds; dev_accuracy None for the probe), folds
        (accuracy of each) and l2 (the value that each chose; [] for the probe), f1 for MRPC, texts,
        encoding_seconds, classifier_seconds, and task, probe, source, fingerprint, complete.

    Raises:
        SentEvalError: too few texts, or vectors that don't fit the texts or are not finite.
    """
    short = {name: len(part) for name, part in task.parts.items() if len(part) < FEWEST}
    if short:
        name, size = next(iter(short.items()))
        raise SentEvalError(f"{task.name}: {size} texts in {name}; ten folds with ten inner ones need {FEWEST} or more")
    started = time.perf_counter()
    features, order, texts = _embed(encode, task)
    encoded = time.perf_counter()
    run = _senteval if probe == "senteval" else _sklearn
    scores, predicted = run(task, features, device, settings)
    seconds = time.perf_counter() - encoded
    prediction = np.empty(len(task), dtype=np.int64)
    prediction[order] = predicted
    if task.name == "MRPC":
        from sklearn.metrics import f1_score

        scores["f1"] = 100 * float(f1_score(task.scored.label, prediction))
    return {
        "task": task.name,
        "probe": probe,
        "source": task.source,
        "fingerprint": task.fingerprint,
        "complete": task.complete,
        **scores,
        "texts": texts,
        "encoding_seconds": encoded - started,
        "classifier_seconds": seconds,
    }, prediction


def _embed(encode: Callable[[list[str]], np.ndarray], task: TransferTask) -> tuple[Features, np.ndarray, int]:
    """Features of every part in SentEval's order, that order of the scored part, and how many texts were encoded."""
    texts = [text for part in task.parts.values() for side in (part.text, part.second or []) for text in side]
    vectors = np.asarray(encode(texts))
    if vectors.ndim != 2 or len(vectors) != len(texts):
        raise SentEvalError(
            f"{task.name}: encode gave an array of shape {vectors.shape} for {len(texts)} texts, "
            f"expected ({len(texts)}, D)"
        )
    vectors = vectors.astype(np.float32, copy=False)
    if not np.isfinite(vectors).all():
        row = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
        raise SentEvalError(f"{task.name}: the vector of text {row} is not finite: {texts[row][:60]!r}")
    features, start = {}, 0
    for name, part in task.parts.items():
        n = len(part)
        first = vectors[start : start + n]
        if part.second is None:
            found, start = first, start + n
        else:
            second = vectors[start + n : start + 2 * n]
            found, start = np.hstack([np.abs(first - second), first * second]), start + 2 * n
        order = part.sorted_order()
        features[name] = (found[order], part.label[order])
    return features, task.scored.sorted_order(), len(texts)


def stratified(labels: np.ndarray, folds: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(train, test) row numbers of SentEval's stratified folds.

    Of scikit-learn from 0.22 on; the folds of older versions, and so those of the papers, were others. A sample may
    have fewer rows of a class than there are folds: some then go without, and scikit-learn's warning is dropped.
    """
    from sklearn.model_selection import StratifiedKFold

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        splitter = StratifiedKFold(n_splits=folds, shuffle=True, random_state=FOLD_SEED)
        yield from splitter.split(np.zeros(len(labels)), labels)


def _senteval(
    task: TransferTask, features: Features, device: str, settings: Classifier | None
) -> tuple[dict[str, Any], np.ndarray]:
    """SentEval's protocol; scores and predictions in SentEval's order."""
    import torch

    from senteval import transfer_classifier as classifier

    settings = settings or classifier.Classifier()
    grid = settings.l2
    joined, places, size = [], {}, 0
    for name, (rows, _) in features.items():
        joined.append(rows)
        places[name] = np.arange(size, size + len(rows))
        size += len(rows)
    x = classifier.with_bias(np.concatenate(joined), device)
    labels = np.concatenate([y for _, y in features.values()])
    y = torch.as_tensor(labels, device=device)

    def fit(rows: list[classifier.Rows], l2: list[tuple[float, ...]]) -> classifier.Fitted:
        return classifier.fit(x, y, rows, l2, task.classes, settings)

    if task.scheme == "split":
        found = fit([classifier.Rows(places["train"], places["dev"])], [grid])
        dev = np.round(100 * found.accuracy[0], 2)
        chosen = int(np.argmax(dev))
        predicted = found.predict(x[places["test"]], 0, chosen)
        return _scores([predicted], [labels[places["test"]]], [grid[chosen]], [dev.max()]), predicted

    # One outer fold per test set; its training rows are cut in inner folds, which choose L2.
    if task.scheme == "nested":
        outer = list(stratified(labels, settings.folds))
    else:
        outer = [(places["train"], places["test"])]
    inner = [
        classifier.Rows(train[in_train], train[in_dev])
        for train, _ in outer
        for in_train, in_dev in stratified(labels[train], settings.folds)
    ]
    accuracy = fit(inner, [grid] * len(inner)).accuracy
    dev = np.round(100 * accuracy.reshape(len(outer), settings.folds, len(grid)).mean(axis=1), 2)
    chosen_l2 = [grid[i] for i in dev.argmax(axis=1)]
    final = [classifier.held_out(train, settings.seed) for train, _ in outer]
    found = fit(final, [(value,) for value in chosen_l2])
    tests = [test for _, test in outer]
    answers = [found.predict(x[test], number) for number, test in enumerate(tests)]
    predicted = np.concatenate(answers)[np.argsort(np.concatenate(tests))]
    return _scores(answers, [labels[test] for test in tests], chosen_l2, list(dev.max(axis=1))), predicted


def _sklearn(
    task: TransferTask, features: Features, device: str, settings: Classifier | None
) -> tuple[dict[str, Any], np.ndarray]:
    """One logistic regression (C = 1) on standardised features per fold or split; no search, no dev rows."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if task.scheme == "nested":
        x, y = features["all"]
        splits = [(x[train], y[train], x[test], y[test], test) for train, test in stratified(y, 10)]
    else:
        test_x, test_y = features["test"]
        splits = [(*features["train"], test_x, test_y, np.arange(len(test_y)))]
    predicted, answers = np.empty(len(task), dtype=np.int64), []
    for train_x, train_y, test_x, _, places in splits:
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, tol=1e-3))
        answers.append(model.fit(train_x, train_y).predict(test_x))
        predicted[places] = answers[-1]
    return _scores(answers, [split[3] for split in splits], [], []), predicted


def _scores(answers: list[np.ndarray], gold: list[np.ndarray], l2: list[float], dev: list[float]) -> dict[str, Any]:
    """Accuracies x 100. SentEval rounds that of each fold to two decimals before the mean; here none is rounded."""
    folds = [100 * float((found == true).mean()) for found, true in zip(answers, gold)]
    return {
        "accuracy": float(np.mean(folds)),
        "dev_accuracy": float(np.mean(dev)) if dev else None,
        "folds": folds,
        "l2": l2,
    }
