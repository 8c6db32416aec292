"""What right, implicit and wrong instructions give: means, margins, and the paper's two differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from inbedder.evaluation.tasks import Kind, Task

KINDS: tuple[Kind, ...] = ("right", "implicit", "wrong")


def summary(task: Task, per_seed: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """One line of the robustness table.

    Args:
        task: its instructions by kind.
        per_seed: instruction -> score per k-means seed, x 100.

    Returns:
        Of each kind `KIND_mean`, `KIND_min`, `KIND_max` of the instructions' means over seeds, and `KIND_std`, the
        standard deviation over seeds of the mean over instructions. margin = right_mean - wrong_mean and
        implicit_margin = implicit_mean - wrong_mean, each with `..._std` over seeds. dci = right_min - wrong_max and
        dii = implicit_min - wrong_max, as in the paper: how far the worst that fits is above the best that does not.
    """
    values = {kind: np.array([per_seed[one] for one in task.of_kind(kind)], dtype=np.float64) for kind in KINDS}
    found: dict[str, Any] = {}
    for kind, scores in values.items():
        means = scores.mean(axis=1)
        found |= {
            f"{kind}_count": len(scores),
            f"{kind}_mean": float(means.mean()),
            f"{kind}_std": spread(scores.mean(axis=0)),
            f"{kind}_min": float(means.min()),
            f"{kind}_max": float(means.max()),
        }
    wrong = values["wrong"].mean(axis=0)
    for kind, name in (("right", "margin"), ("implicit", "implicit_margin")):
        margins = values[kind].mean(axis=0) - wrong  # one per seed
        found |= {name: float(margins.mean()), f"{name}_std": spread(margins)}
    found["dci"] = found["right_min"] - found["wrong_max"]
    found["dii"] = found["implicit_min"] - found["wrong_max"]
    return found


def spread(values: Sequence[float] | np.ndarray) -> float:
    """The standard deviation of a sample; 0 of one value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
