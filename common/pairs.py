"""Labelled pairs for losses that know no grades: those with a high label are positives."""

from __future__ import annotations

import logging

from common.data import RowList
from common.errors import InputError

logger = logging.getLogger(__name__)

POSITIVE_SHARE = 0.8  # of the highest label; for STS-B, 4 of 5


def positive_pairs(rows: RowList, threshold: float | None = None) -> RowList:
    """Labelled pairs as queries and positives: those with a label of at least `threshold`.

    Args:
        rows: text1, text2, label.
        threshold: None: `POSITIVE_SHARE` of the highest label.

    Raises:
        InputError: no pair has such a label.
    """
    if threshold is None:
        highest = max(row["label"] for row in rows.rows)
        threshold = POSITIVE_SHARE * highest if highest > 0 else float("inf")
    names = {"text1": "query", "text2": "positive"}
    kept = [
        {names.get(name, name): value for name, value in row.items() if name != "label"}
        for row in rows.rows
        if row["label"] >= threshold
    ]
    if not kept:
        raise InputError(f"{rows.source}: no pair has a label of {threshold:g} or more; give --label_threshold")
    logger.warning(
        "%s: %d of %d labelled pairs, those with %g or more, are positives; the loss can't use the others",
        rows.source,
        len(kept),
        len(rows),
        threshold,
    )
    return RowList(kept, f"{rows.source} (label >= {threshold:g})")
