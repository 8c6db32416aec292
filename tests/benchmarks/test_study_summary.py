"""Means, spreads, intervals and differences of a study, against plain ways to compute them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from benchmarks.results import write_result
from benchmarks.study_summary import Line, check_same_pairs, draws_of, mean_over_drawn_seeds, summarise
from common.errors import InputError

TASKS = ("STS12", "STS13")
N = 80


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory, pair_folder: Callable[..., Path]) -> list[Line]:
    """A baseline, a system of three seeds that is better on STS12 alone, and one equal to the baseline."""
    root, rng = tmp_path_factory.mktemp("study"), np.random.default_rng(1)
    gold = rng.random(N)
    weak = {task: gold + rng.random(N) * 3 for task in TASKS}
    seeds = []
    for seed in range(3):
        strong = {"STS12": gold + rng.random(N) * 0.3, "STS13": weak["STS13"] + rng.random(N) * 0.05}
        seeds.append(pair_folder(root / f"strong-{seed}", strong, gold))
    return [
        Line("weak", (pair_folder(root / "weak", weak, gold),)),
        Line("strong", tuple(seeds), (1, 2, 3), trained=True),
        Line("same", (pair_folder(root / "same", weak, gold),)),
    ]


def test_mean_and_spread_over_seeds(lines: list[Line]) -> None:
    row = summarise(lines, samples=50)["rows"][1]
    by_seed = [[results[task].score for results in lines[1].results] for task in TASKS]
    assert row["scores"]["STS12"]["mean"] == pytest.approx(np.mean(by_seed[0]))
    assert row["scores"]["STS12"]["spread"] == pytest.approx(np.std(by_seed[0], ddof=1))
    assert row["average"]["mean"] == pytest.approx(np.mean(by_seed))
    assert row["average"]["spread"] == pytest.approx(np.std(np.mean(by_seed, axis=0), ddof=1))
    assert summarise(lines, samples=50)["rows"][0]["average"]["spread"] is None


def test_draws_are_scores_of_drawn_pairs_and_seeds(lines: list[Line]) -> None:
    draws = draws_of(lines, TASKS, samples=400, seed=0)
    assert np.array_equal(draws["weak"]["STS12"], draws["same"]["STS12"])
    rng, plain = np.random.default_rng(7), []
    for _ in range(400):
        pairs, seeds = rng.integers(0, N, N), rng.integers(0, 3, 3)
        loaded = [np.load(lines[1].folders[s] / "STS12.npz") for s in seeds]
        plain.append(np.mean([spearmanr(f["prediction"][pairs], f["gold"][pairs]).statistic * 100 for f in loaded]))
    ours = draws["strong"]["STS12"]  # its seeds differ little, so that widening them (by half) changes little
    assert np.mean(ours) == pytest.approx(np.mean(plain), abs=0.3)
    assert np.std(ours) == pytest.approx(np.std(plain), rel=0.25)


def test_drawn_seeds_vary_as_the_mean_of_fresh_ones_would() -> None:
    """Without any noise of items: the variance of the mean of n seeds is s^2 / n."""
    for by_seed in ([60.0, 70.0, 80.0], [60.0, 61.0], [1.0, 5.0, 2.0, 9.0, 4.0]):
        count = len(by_seed)
        drawn = np.random.default_rng(0).integers(0, count, (40_000, count))
        found = mean_over_drawn_seeds(np.repeat([by_seed], 40_000, axis=0).T, drawn)
        assert found.mean() == pytest.approx(np.mean(by_seed), abs=0.1)
        assert found.var() == pytest.approx(np.var(by_seed, ddof=1) / count, rel=0.03)
    assert np.array_equal(mean_over_drawn_seeds(np.array([[3.0, 4.0]]), np.zeros((2, 1), dtype=int)), [3.0, 4.0])


def test_seeds_widen_the_interval(tmp_path: Path, pair_folder: Callable[..., Path]) -> None:
    """Two seeds far apart: the interval of their mean covers both, which that over pairs alone does not."""
    gold, rng = np.random.default_rng(0).random(500), np.random.default_rng(1)
    good, bad = gold + 0.1 * rng.random(500), gold + 3 * rng.random(500)
    folders = tuple(pair_folder(tmp_path / str(i), {"STS12": p}, gold) for i, p in enumerate((good, bad)))
    score = summarise([Line("both", folders, (1, 2), trained=True)], samples=300)["rows"][0]["scores"]["STS12"]
    assert score["interval"][0] <= min(score["by_seed"]) + 5
    assert score["interval"][1] >= max(score["by_seed"]) - 5


def test_differences_have_intervals_and_holm(lines: list[Line]) -> None:
    found = summarise(lines, baseline="weak", samples=500)["differences"]
    better, nothing, average = found["strong"]
    assert better["task"] == "STS12"
    assert better["low"] > 0
    assert better["mark"] == "**"
    assert better["p_holm"] == pytest.approx(2 * better["p"])
    assert nothing["low"] < 0 < nothing["high"]
    assert average["task"] == "average"
    assert average["p_holm"] is None
    assert average["difference"] == pytest.approx((better["difference"] + nothing["difference"]) / 2)
    assert {d["difference"] for d in found["same"]} == {0.0}
    assert {d["p"] for d in found["same"]} == {1.0}


def test_other_pairs_are_refused(lines: list[Line], tmp_path: Path, pair_folder: Callable[..., Path]) -> None:
    gold = np.random.default_rng(2).random(N)
    other = pair_folder(tmp_path / "other", {"STS12": gold}, gold, data={"source": "x", "sha256": "another"})
    with pytest.raises(InputError, match=r"weak/STS12\.json and .*other/STS12\.json: are over other items"):
        check_same_pairs([*lines, Line("other", (other,))])
    mteb = pair_folder(tmp_path / "mteb", {"STS12": gold}, gold, protocol="mteb")
    with pytest.raises(InputError, match="protocol senteval and mteb"):
        check_same_pairs([*lines, Line("mteb", (mteb,))])


def test_a_task_that_a_seed_lacks_is_left_out(lines: list[Line], tmp_path: Path) -> None:
    import shutil

    half = tmp_path / "half"
    shutil.copytree(lines[1].folders[0], half)
    (half / "STS13.json").unlink()
    row = summarise([lines[0], Line("half", (lines[1].folders[1], half), (1, 2))], samples=20)["rows"][1]
    assert row["scores"]["STS13"] is None
    assert row["average"] is None
    assert len(row["scores"]["STS12"]["by_seed"]) == 2


def test_accuracies_have_intervals_of_accuracies(tmp_path: Path, payload: Callable[..., dict[str, Any]]) -> None:
    gold = np.random.default_rng(0).integers(0, 2, 900)
    prediction = np.where(np.random.default_rng(1).random(900) < 0.8, gold, 1 - gold)
    right = 100 * float(np.mean(prediction == gold))
    facts = {"suite": "transfer", "metric": "accuracy", "n": 900, "score": right}
    write_result(tmp_path, payload("MRPC", **facts), {"prediction": prediction, "gold": gold})
    low, high = summarise([Line("one", (tmp_path,))], samples=500)["rows"][0]["scores"]["MRPC"]["interval"]
    assert low < right < high
    assert high - low == pytest.approx(4 * 100 * np.sqrt(0.16 / 900), rel=0.2)
