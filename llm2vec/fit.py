"""LLM2Vec's supervised training: a contrastive loss with hard negatives; what the benchmarks call too."""

from __future__ import annotations

import copy
from typing import Any

from common.contrastive_objective import ContrastiveObjective
from common.data import Collator, RowList, RowStream
from common.encoder import Encoder
from common.errors import InputError
from common.pairs import positive_pairs
from common.pooling import POOL_EVERYTHING
from common.recipe import TrainConfig
from common.training import fit as fit_shared

SCALE = 50.0  # of the released supervised script


def fit(encoder: Encoder, rows: RowList | RowStream, config: TrainConfig, *, valid: RowList | None = None) -> Encoder:
    """Train an encoder with `common.contrastive_objective`, in place; settings as in `common.training.fit`.

    Rows are pairs or triplets. Of labelled pairs (format A) those with a high label are taken as positive
    pairs, the others are left out (`positive_pairs`): the loss has no grades. Rows that name their data set
    come in batches of a single one.

    Raises:
        InputError: labelled pairs from a stream, or none that is positive.
    """
    if POOL_EVERYTHING in config.compat:
        raise InputError(f"--compat {POOL_EVERYTHING}: is a quirk of SimCSE training alone; leave it out")
    threshold = getattr(config, "label_threshold", None)
    return fit_shared(
        encoder,
        _pairs(rows, threshold),
        ContrastiveObjective(getattr(config, "loss_scale", SCALE)),
        config,
        valid=None if valid is None else _pairs(valid, threshold),
        collator=Collator(reader_of(encoder), seed=config.seed),
        single_set_batches=True,
        stop_after_steps=getattr(config, "stop_after_n_steps", None),
    )


def reader_of(encoder: Encoder) -> Encoder:
    """The encoder as training reads texts: only `max_length` counts, not the shorter length of texts at inference."""
    reader = copy.copy(encoder)
    reader.templates = dict(encoder.templates)
    reader.max_text_length = None
    return reader


def _pairs(rows: Any, threshold: float | None) -> Any:
    """The rows without labels, whichever kind they are."""
    if "label" not in rows.columns:
        return rows
    if not isinstance(rows, RowList):
        raise InputError(f"{rows.source}: labelled pairs can't be streamed here; leave out --streaming")
    return positive_pairs(rows, threshold)
