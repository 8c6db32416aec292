"""BeLLM's training: its objective in the shared trainer; what train.py and the benchmarks call."""

from __future__ import annotations

from dataclasses import fields

from bellm.objective import BellmObjective
from common.data import RowList, RowStream
from common.encoder import Encoder
from common.recipe import TrainConfig
from common.training import fit as fit_shared


def objective_of(config: TrainConfig) -> BellmObjective:
    """The objective of a configuration; settings that a plain `TrainConfig` lacks have their defaults."""
    names = [f.name for f in fields(BellmObjective) if f.init and f.name != "compat"]
    given = {name: getattr(config, name) for name in names if hasattr(config, name)}
    return BellmObjective(**given, compat=frozenset(config.compat))


def fit(encoder: Encoder, rows: RowList | RowStream, config: TrainConfig, *, valid: RowList | None = None) -> Encoder:
    """Train an encoder with BeLLM's objective, in place; settings as in `common.training.fit`."""
    together = "angle:per-device-negatives" not in config.compat
    return fit_shared(encoder, rows, objective_of(config), config, valid=valid, gather_batches=together)
