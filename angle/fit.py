"""AnglE's training: its objective in the shared trainer; what train.py and the benchmarks call."""

from __future__ import annotations

from dataclasses import fields

from common.angle_objective import AngleObjective
from common.data import RowList, RowStream
from common.encoder import Encoder, Role
from common.recipe import TrainConfig
from common.training import fit as fit_shared


def objective_of(config: TrainConfig) -> AngleObjective:
    """The objective of a configuration; settings that a plain `TrainConfig` lacks have their defaults."""
    names = [f.name for f in fields(AngleObjective) if f.init and f.name != "compat"]
    given = {name: getattr(config, name) for name in names if hasattr(config, name)}
    return AngleObjective(**given, compat=frozenset(config.compat))


def fit(encoder: Encoder, rows: RowList | RowStream, config: TrainConfig, *, valid: RowList | None = None) -> Encoder:
    """Train an encoder with AnglE's objective, in place; settings as in `common.training.fit`."""
    roles: dict[str, Role] = {}
    if getattr(config, "query_prompt", None):
        roles["query"] = "query"
    if getattr(config, "doc_prompt", None):
        roles |= {"positive": "document", "negative": "document"}
    return fit_shared(
        encoder,
        rows,
        objective_of(config),
        config,
        roles=roles,
        valid=valid,
        gather_batches="angle:per-device-negatives" not in config.compat,
    )
