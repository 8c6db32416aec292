"""SentEval's protocol: the batched trainings against plain ones, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import plain_transfer as plain
import pytest
import torch

from senteval import SentEvalError
from senteval import transfer_classifier as classifier
from senteval.transfer import FEWEST, evaluate_transfer, stratified
from senteval.transfer_classifier import Classifier, Rows, fit, held_out, with_bias
from senteval.transfer_load import load_transfer
from senteval.transfer_tasks import Part, TransferTask

Encode = Callable[[list[str]], np.ndarray]
DIMENSIONS = 12
FAST = Classifier(learning_rate=0.02, max_epoch=16)


def part(count: int, classes: int = 2, pairs: bool = False, seed: int = 0) -> Part:
    """Texts whose words say their class, most of the time."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, count)
    told = np.where(rng.random(count) < 0.8, label, rng.integers(0, classes, count))

    def texts(side: int) -> list[str]:
        return [f"{side} {i} class{told[i]}" + " word" * int(rng.integers(0, 6)) for i in range(count)]

    return Part(texts(1), label, texts(2) if pairs else None)


def task(name: str, **parts: Part) -> TransferTask:
    scored = parts["all" if name == "CR" else "test"]
    return TransferTask(name=name, parts=parts, source="made", index=np.arange(len(scored)), total=len(scored))


def encode(texts: list[str]) -> np.ndarray:
    """Noise of each text's own, and one number for its class word."""
    vectors = []
    for text in texts:
        words = text.split()
        noise = np.random.default_rng(int(words[0]) * 100_000 + int(words[1])).normal(size=DIMENSIONS)
        noise[int(words[2][-1])] += 1.5
        vectors.append(noise)
    return np.array(vectors, dtype=np.float32)


def data(count: int = 150, classes: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    one = part(count, classes, seed=seed)
    return encode(one.text), one.label


# ------------------------------ the classifier


@pytest.mark.parametrize("classes", [2, 6])
def test_trainings_side_by_side_are_those_one_by_one(classes: int) -> None:
    x, y = data(205, classes)
    # 128, 129 and 192 training rows: one has a step less than the others, one a last batch of a single row.
    rows = [Rows(np.arange(n), np.arange(n, 205)) for n in (128, 129, 192, 128)]
    grid = (1e-5, 1e-2)
    found = fit(with_bias(x), torch.as_tensor(y), rows, [grid] * 4, classes, Classifier())
    for f, one in enumerate(rows):
        for column, l2 in enumerate(grid):
            model, accuracy = plain.train_one(x[one.train], y[one.train], (x[one.dev], y[one.dev]), l2, classes)
            assert found.accuracy[f, column] == pytest.approx(accuracy, abs=1e-9)
            expected = torch.cat([model.weight, model.bias[:, None]], dim=1).detach()
            torch.testing.assert_close(found.weight[f, column], expected, rtol=1e-3, atol=1e-4)
            np.testing.assert_array_equal(found.predict(with_bias(x), f, column), plain.predict(model, x))


def test_l2_is_weight_decay_of_the_bias_too() -> None:
    x, y = data(128)
    rows = [Rows(np.arange(100), np.arange(100, 128))]
    small, large = fit(
        with_bias(x), torch.as_tensor(y), rows, [(0.0, 100.0)], 2, Classifier(max_epoch=200, tenacity=50)
    ).weight[0]
    first = classifier.initial_weight(DIMENSIONS, 2, 1111)
    assert large[:, -1].abs().max() < first[:, -1].abs().max() < 1
    assert large.abs().max() < small.abs().max()


def test_the_share_held_out_is_drawn_before_the_first_epoch() -> None:
    x, y = data(140)
    rows = held_out(np.arange(140), 1111)
    assert (len(rows.train), len(rows.dev)) == (133, 7)
    found = fit(with_bias(x), torch.as_tensor(y), [rows], [(1e-3,)], 2, Classifier())
    model, accuracy = plain.train_one(x, y, None, 1e-3, 2)
    assert found.accuracy[0, 0] == pytest.approx(accuracy, abs=1e-9)
    torch.testing.assert_close(found.weight[0, 0, :, :-1], model.weight.detach(), rtol=1e-3, atol=1e-4)


def test_a_training_ends_with_the_round_after_its_last_tolerated_miss() -> None:
    """No accuracy above that of the first round: 1 + tenacity + 1 rounds; the counter never starts again."""
    x, y = np.zeros((120, 3), dtype=np.float32), np.zeros(120, dtype=np.int64)
    y[:10] = 1
    rows = [Rows(np.arange(100), np.arange(100, 120))]
    found = fit(with_bias(x), torch.as_tensor(y), rows, [(1e-5, 1e-2)], 2, Classifier(learning_rate=0.5))
    assert found.epochs.tolist() == [[4 * 7, 4 * 7]]
    found = fit(with_bias(x), torch.as_tensor(y), rows, [(1e-5,)], 2, Classifier(learning_rate=0.5, max_epoch=8))
    assert found.epochs.tolist() == [[12]]  # SentEval's loop goes on while the epochs are not above the largest


def test_few_at_once_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = data(160)
    rows = [Rows(np.delete(np.arange(160), np.s_[s : s + 30 + s]), np.arange(s, s + 30 + s)) for s in (0, 10, 20)]
    arguments = (with_bias(x), torch.as_tensor(y), rows, [(1e-4, 1e-2)] * 3, 2, FAST)
    whole = fit(*arguments)
    monkeypatch.setattr(classifier, "GATHERED", 1)
    single = fit(*arguments)
    np.testing.assert_array_equal(whole.accuracy, single.accuracy)
    torch.testing.assert_close(whole.weight, single.weight, rtol=1e-4, atol=1e-5)


def test_torchs_own_random_state_stays_as_it_was() -> None:
    x, y = data(120)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    fit(with_bias(x), torch.as_tensor(y), [held_out(np.arange(120), 1111)], [(1e-3,)], 2, FAST)
    assert torch.equal(torch.rand(1), expected)


# ------------------------------ the protocol


def test_nested_cross_validation_is_that_of_the_plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "GRID", [1e-3, 1e-1])
    monkeypatch.setattr(plain, "RATE", 0.02)  # so that few steps suffice to learn something
    one = part(120)
    settings = Classifier(l2=(1e-3, 1e-1), learning_rate=0.02)
    scores, prediction = evaluate_transfer(encode, task("CR", all=one), settings=settings)
    order = one.sorted_order()
    expected = plain.cross_validate(encode(one.text)[order], one.label[order])
    assert abs(int((prediction == one.label).sum()) - sum(expected["correct"])) <= 1
    np.testing.assert_array_equal(prediction[order], expected["predicted"])
    assert scores["l2"] == expected["l2"]
    assert scores["accuracy"] == pytest.approx(np.mean([100 * c / 12 for c in expected["correct"]]))
    assert (len(scores["folds"]), scores["texts"]) == (10, 120)
    assert 65 < scores["accuracy"] < 100


def test_given_train_and_test_with_classes_and_pairs() -> None:
    for name, classes, pairs in (("TREC", 6, False), ("MRPC", 2, True)):
        parts = {"train": part(130, classes, pairs, seed=1), "test": part(101, classes, pairs, seed=2)}
        scores, prediction = evaluate_transfer(encode, task(name, **parts))
        features = {}
        for key, one in parts.items():
            order = one.sorted_order()
            first = encode(one.text)
            if pairs:
                second = encode(one.second)
                first = np.hstack([np.abs(first - second), first * second])
            features[key] = first[order], one.label[order], order
        train_x, train_y, _ = features["train"]
        expected, l2 = plain.train_and_test(train_x, train_y, features["test"][0], classes)
        np.testing.assert_array_equal(prediction[features["test"][2]], expected)
        assert scores["l2"] == [l2]
        assert ("f1" in scores) == pairs
        if pairs:
            hits = ((prediction == 1) & (parts["test"].label == 1)).sum()
            f1 = 200 * hits / ((prediction == 1).sum() + (parts["test"].label == 1).sum())
            assert scores["f1"] == pytest.approx(f1)
            assert scores["texts"] == 2 * 231


def test_given_train_dev_and_test() -> None:
    parts = {name: part(n, seed=n) for name, n in (("train", 200), ("dev", 110), ("test", 105))}
    scores, prediction = evaluate_transfer(encode, task("SST2", **parts))
    features = {}
    for key, one in parts.items():
        order = one.sorted_order()
        features[key] = encode(one.text)[order], one.label[order], order
    expected, l2 = plain.train_dev_test(*features["train"][:2], features["dev"][:2], features["test"][0], 2)
    np.testing.assert_array_equal(prediction[features["test"][2]], expected)
    assert scores["l2"] == [l2]
    assert scores["accuracy"] == pytest.approx(100 * np.mean(prediction == parts["test"].label))


def test_the_order_of_the_data_matters_as_in_senteval_and_predictions_come_back_in_it() -> None:
    one = Part(["a b c", "a", "", "a b", "b"], np.array([0, 1, 0, 1, 0]))
    assert one.sorted_order().tolist() == [2, 4, 1, 3, 0]
    pair = Part(["a b", "a", "a"], np.array([0, 1, 0]), ["a", "a b", "a b"])
    assert pair.sorted_order().tolist() == [2, 1, 0]


def test_folds_are_stratified_and_cover_every_row_once() -> None:
    labels = np.array([0] * 70 + [1] * 33)
    tests = [test for _, test in stratified(labels, 10)]
    assert sorted(np.concatenate(tests).tolist()) == list(range(103))
    assert {int(labels[test].sum()) for test in tests} == {3, 4}


def test_the_quick_probe_has_the_same_folds_and_no_search() -> None:
    one = part(200)
    scores, prediction = evaluate_transfer(encode, task("CR", all=one), probe="sklearn")
    assert (scores["probe"], scores["l2"], scores["dev_accuracy"]) == ("sklearn", [], None)
    order = one.sorted_order()
    tests = [test for _, test in stratified(one.label[order], 10)]
    right = (prediction == one.label)[order]
    assert scores["folds"] == pytest.approx([100 * right[test].mean() for test in tests])
    assert 65 < scores["accuracy"] < 95


def test_what_the_vectors_do_not_say_is_not_found() -> None:
    one = part(300)
    shuffled = Part(one.text, np.random.default_rng(3).permutation(one.label))
    scores, _ = evaluate_transfer(encode, task("CR", all=shuffled), settings=FAST)
    assert scores["accuracy"] < 60


def test_wrong_vectors_and_too_few_texts_are_told() -> None:
    one = task("CR", all=part(FEWEST))
    with pytest.raises(SentEvalError, match=r"CR: encode gave an array of shape \(99, 12\) for 100 texts"):
        evaluate_transfer(lambda texts: encode(texts)[1:], one)

    def broken(texts: list[str]) -> np.ndarray:
        vectors = encode(texts)
        vectors[7, 3] = np.nan
        return vectors

    with pytest.raises(SentEvalError, match="CR: the vector of text 7 is not finite"):
        evaluate_transfer(broken, one)
    with pytest.raises(SentEvalError, match=r"CR: 99 texts in all; .* need 100 or more"):
        evaluate_transfer(encode, task("CR", all=part(FEWEST - 1)))


@pytest.mark.slow
def test_a_real_task_is_within_one_example_of_the_plain_run(shared_data: Path, weights: tuple[str, str]) -> None:
    from common.registry import load

    cr = load_transfer("CR", shared_data, limit=600)
    model = load("sentence-transformer", weights[1], dtype="float32", device="cpu")
    vectors = 4 * model.encode(cr.parts["all"].text)  # longer vectors: the classifier leaves the larger class sooner
    _, prediction = evaluate_transfer(lambda texts: vectors, cr)
    label, order = cr.parts["all"].label, cr.parts["all"].sorted_order()
    expected = plain.cross_validate(vectors[order], label[order])
    assert abs(int((prediction == label).sum()) - sum(expected["correct"])) <= 1
    assert sum(expected["correct"]) > 1.1 * max(np.bincount(label))
