"""Scores of predicted similarities against human grades, and the geometry of embeddings. All vectorised."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import ConstantInputWarning, pearsonr, spearmanr

from senteval.tasks import WHOLE, SentEvalError

_BLOCK = 2**22
"""Numbers in one block of intermediate results: 32 MiB in float64."""


def _vectors(x: ArrayLike, what: str) -> np.ndarray:
    """(n, D) as a floating-point array with finite values; the error names the first bad row."""
    array = np.asarray(x)
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise SentEvalError(f"{what}: expected numbers of shape (n, D), got {array.dtype} of shape {array.shape}")
    if array.dtype.kind != "f":
        array = array.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if bad.size:
        raise SentEvalError(f"{what}: {bad.size} vectors are not finite, the first at index {bad[0]}")
    return array


def _scaled(block: np.ndarray) -> np.ndarray:
    """Rows in float64, each times a power of two so that squares neither overflow nor vanish.

    Such a factor changes no bit of a cosine, unlike a division by the norm.
    """
    block = block.astype(np.float64)
    _, exponent = np.frexp(np.abs(block).max(axis=1, initial=0.0))
    return np.ldexp(block, -exponent[:, None])


def pairwise_cosine(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Cosine of row i of `a` with row i of `b`.

    Computed in float64 whatever the input, in blocks; equal rows give exactly 1. A zero row gives 0, as
    SentEval's `nan_to_num` does.

    Args:
        a: (n, D).
        b: (n, D).

    Returns:
        (n,) float64 in [-1, 1].

    Raises:
        SentEvalError: shapes differ, or a vector is not finite (SentEval would silently make it zero).
    """
    a, b = _vectors(a, "first vectors"), _vectors(b, "second vectors")
    if a.shape != b.shape:
        raise SentEvalError(f"vectors of pairs must have one shape, got {a.shape} and {b.shape}")
    n, dim = a.shape
    cosine = np.zeros(n)
    step = max(1, _BLOCK // max(dim, 1))
    for start in range(0, n, step):
        rows = slice(start, start + step)
        x, y = _scaled(a[rows]), _scaled(b[rows])
        # sqrt(s * s) is exactly s in IEEE arithmetic, so equal rows tie at 1 and rounding does not rank them.
        norms = np.sqrt(np.einsum("nd,nd->n", x, x) * np.einsum("nd,nd->n", y, y))
        np.divide(np.einsum("nd,nd->n", x, y), norms, out=cosine[rows], where=norms > 0)
    return np.clip(cosine, -1.0, 1.0)


def _correlations(prediction: np.ndarray, gold: np.ndarray) -> tuple[float, float] | None:
    """(Spearman, Pearson) x 100, or None where they are undefined: one side is constant."""
    if prediction.size < 2 or np.ptp(prediction) == 0 or np.ptp(gold) == 0:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        spearman = spearmanr(prediction, gold).statistic
        pearson = pearsonr(prediction, gold).statistic
    if not (np.isfinite(spearman) and np.isfinite(pearson)):  # constant up to rounding
        return None
    return 100.0 * float(spearman), 100.0 * float(pearson)


def score_pairs(prediction: ArrayLike, gold: ArrayLike, subset: Sequence[str] | None = None) -> dict[str, Any]:
    """Scores of n predicted similarities, all x 100 in full precision.

    Args:
        prediction: (n,) similarities, higher = more similar.
        gold: (n,) human grades.
        subset: n subset names; None means one subset.

    Returns:
        spearman, pearson: over all pairs, subsets concatenated; `spearman` is the score that papers print.
        spearman_mean, spearman_weighted_mean, pearson_mean, pearson_weighted_mean: over the subsets, with
            equal weights or weighted by pairs.
        subsets: name -> {pairs, spearman, pearson}, in the order of the data.
        pairs: n.
        constant: names of the subsets ("all" for the whole) whose correlation is undefined, since predictions
            or grades do not vary; they score 0, not NaN.

    Raises:
        SentEvalError: lengths differ, there is no pair, or a value is not finite.
    """
    prediction, gold = np.asarray(prediction, dtype=np.float64), np.asarray(gold, dtype=np.float64)
    names = np.array([WHOLE] * len(gold) if subset is None else list(subset), dtype=object)
    if not (prediction.ndim == gold.ndim == 1 and prediction.size == gold.size == names.size > 0):
        raise SentEvalError(
            f"prediction {prediction.shape}, gold {gold.shape} and subset ({names.size},) must be lists of "
            "one length, at least 1"
        )
    for what, values in (("prediction", prediction), ("gold", gold)):
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise SentEvalError(f"{what}: {bad.size} values are not finite, the first at index {bad[0]}")

    constant: list[str] = []

    def correlate(name: str, rows: np.ndarray | slice) -> tuple[float, float]:
        found = _correlations(prediction[rows], gold[rows])
        if found is None and name not in constant:
            constant.append(name)
        return found or (0.0, 0.0)

    spearman, pearson = correlate(WHOLE, slice(None))
    subsets: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(names.tolist()):
        rows = names == name
        rho, r = correlate(name, rows)
        subsets[name] = {"pairs": int(rows.sum()), "spearman": rho, "pearson": r}
    weights = [entry["pairs"] for entry in subsets.values()]
    scores: dict[str, Any] = {"spearman": spearman, "pearson": pearson}
    for metric in ("spearman", "pearson"):
        values_of = [entry[metric] for entry in subsets.values()]
        scores[f"{metric}_mean"] = float(np.mean(values_of))
        scores[f"{metric}_weighted_mean"] = float(np.average(values_of, weights=weights))
    return scores | {"pairs": int(gold.size), "subsets": subsets, "constant": constant}


def alignment(a: ArrayLike, b: ArrayLike) -> float:
    """Wang & Isola (2020), L_align with alpha = 2: mean of ||f(a) - f(b)||^2 over positive pairs.

    Which pairs are positive is the caller's choice; `evaluate_pairs` takes those graded 4 or more.

    Args:
        a: (n, D), L2-normalised here; a zero row stays zero.
        b: (n, D), likewise.

    Returns:
        From 0 (best) to 4.
    """
    a, b = _vectors(a, "first vectors"), _vectors(b, "second vectors")
    cosine = pairwise_cosine(a, b)
    if not cosine.size:
        raise SentEvalError("alignment needs at least one positive pair")
    squares = a.any(axis=1).astype(np.float64) + b.any(axis=1)
    return float(np.mean(squares - 2.0 * cosine))


def uniformity(x: ArrayLike, t: float = 2.0) -> float:
    """Wang & Isola (2020), L_uniform: log of the mean of exp(-t ||f(x) - f(y)||^2) over all pairs of rows.

    Memory is bounded: the (n, n) distances are made in blocks, and never kept. Products are in float32 unless
    the input is float64; sums are in float64.

    Args:
        x: (n, D) with n >= 2, L2-normalised here; a zero row stays zero.
        t: positive scale; the paper's default is 2.

    Returns:
        From -4 t (not reached) to 0; lower = more uniform.
    """
    x = _vectors(x, "vectors")
    n, dim = x.shape
    if n < 2:
        raise SentEvalError(f"uniformity needs at least two vectors, got {n}")
    unit = np.empty((n, dim), dtype=np.float64 if x.dtype == np.float64 else np.float32)
    step = max(1, _BLOCK // max(dim, 1))
    for start in range(0, n, step):
        block = _scaled(x[start : start + step])
        norms = np.linalg.norm(block, axis=1, keepdims=True)
        unit[start : start + step] = block / np.where(norms > 0, norms, 1.0)
    squares = np.einsum("nd,nd->n", unit, unit)
    total = 0.0
    step = max(1, _BLOCK // n)
    for start in range(0, n, step):
        rows = unit[start : start + step]
        distances = squares[start : start + step, None] + squares[None, start:] - 2.0 * (rows @ unit[start:].T)
        kernel = np.exp(-t * np.maximum(distances, 0.0))
        width = len(rows)
        total += float(np.triu(kernel[:, :width], k=1).sum(dtype=np.float64))
        total += float(kernel[:, width:].sum(dtype=np.float64))
    return float(np.log(total / (n * (n - 1) / 2)))
