"""AnglE's training: its objective in the shared trainer; what train.py and the benchmarks call."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from angle.objective import AngleObjective
from common.data import RowList, RowStream
from common.encoder import Encoder, Role
from common.recipe import TrainConfig
from common.training import fit as fit_shared


def _loss(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help, "group": "loss"})


@dataclass(kw_only=True)
class AngleConfig(TrainConfig):
    """The shared settings, and those of AnglE; defaults of angle_emb 0.6.1."""

    pooling_strategy: str | None = field(
        default=None, metadata={"help": "default: last token for LLMs, cls for encoders", "group": "model"}
    )
    is_llm: bool | None = field(
        default=None, metadata={"help": "checked against the model; default: what it is", "group": "model"}
    )
    text_prompt: str | None = field(
        default=None, metadata={"help": "A, B, C or a prompt with {text}; of text1/text2", "group": "prompts"}
    )
    query_prompt: str | None = field(
        default=None, metadata={"help": "of the query column; default: text_prompt", "group": "prompts"}
    )
    doc_prompt: str | None = field(
        default=None, metadata={"help": "of positive and negative; default: text_prompt", "group": "prompts"}
    )
    cosine_w: float = _loss(0.0, "weight of the CoSENT term")
    ibn_w: float = _loss(1.0, "weight of the in-batch-negative term")
    cln_w: float = _loss(1.0, "weight of the term with hard negatives")
    angle_w: float = _loss(0.02, "weight of the angle term")
    cosine_tau: float = _loss(20.0, "scale of the CoSENT term")
    ibn_tau: float = _loss(20.0, "scale of the contrastive terms")
    angle_tau: float = _loss(20.0, "scale of the angle term")
    angle_pooling_strategy: str = _loss("sum", "sum or mean over the complex parts")
    ibn_positive_threshold: float | None = _loss(
        None, "pairs with a higher label are positives; default: label >= 1"
    )


def objective_of(config: TrainConfig) -> AngleObjective:
    """The objective of a configuration; settings that a plain `TrainConfig` lacks have their defaults."""
    names = [f.name for f in fields(AngleObjective) if f.init and f.name != "compat"]
    given = {name: getattr(config, name) for name in names if hasattr(config, name)}
    return AngleObjective(**given, compat=frozenset(config.compat))


def fit(
    encoder: Encoder, rows: RowList | RowStream, config: TrainConfig, *, valid: RowList | None = None
) -> Encoder:
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
