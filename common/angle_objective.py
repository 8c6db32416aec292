"""AnglE's training objective: how cosine, in-batch negatives and angle are put together per data format."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, fields
from math import isfinite
from typing import ClassVar

import torch
from torch import Tensor

from common.errors import InputError
from common.losses import (
    angle_loss,
    contrastive_loss,
    cosent_loss,
    duplicate_mask,
    in_batch_negatives_loss,
    symmetric_duplicate_mask,
)

logger = logging.getLogger(__name__)

INT_LABELS = "angle:int-labels"


@dataclass(frozen=True)
class AngleObjective:
    """The loss of a batch from its embeddings; weights, taus and defaults of angle_emb 0.6.1.

    The format is known by the columns, never by its letter (B and C changed places at 0.6.0):

    ====================================== =================================================================
    A: text1, text2, with labels           cosine_w cosent + ibn_w in_batch_negatives + angle_w angle
    B: query, positive                     contrastive(q, p); all weights are without effect
    C: query, positive, negative           (ibn_w contrastive(q, p) + cln_w contrastive(q, p, n)) / 2
                                           + angle_w angle(Z) + cosine_w cosent(Z)
    ====================================== =================================================================

    Z are the pairs (q, p) with label 1 and (q, n) with label 0, so that every positive pair ranks against
    every negative one. The contrastive terms take ibn_tau. A tau multiplies the similarity. The division
    by 2 in C stays where one of the two weights is 0.

    `ibn_positive_threshold`: pairs with a higher label are positives of the in-batch term; None is the
    original's rule, label >= 1. A first batch with graded labels is warned about where it is None.
    `compat`: the run's compat names; only `INT_LABELS` counts here (angle/compat.py says what it does).

    A pure function of embeddings and labels: GradCache may call it on leaf embeddings. Settings that have
    no effect in a batch's format, and differ from their default, are warned about once.
    """

    columns_by_format: ClassVar[dict[str, tuple[str, ...]]] = {
        "A": ("text1", "text2"),
        "B": ("query", "positive"),
        "C": ("query", "positive", "negative"),
    }
    used_by_format: ClassVar[dict[str, frozenset[str]]] = {
        "A": frozenset({"cosine_w", "ibn_w", "angle_w", "cosine_tau", "ibn_tau", "angle_tau"}),
        "B": frozenset({"ibn_tau"}),
        "C": frozenset({"cosine_w", "ibn_w", "cln_w", "angle_w", "cosine_tau", "ibn_tau", "angle_tau"}),
    }

    cosine_w: float = 0.0
    ibn_w: float = 1.0
    cln_w: float = 1.0
    angle_w: float = 0.02
    cosine_tau: float = 20.0
    ibn_tau: float = 20.0
    angle_tau: float = 20.0
    angle_pooling_strategy: str = "sum"
    ibn_positive_threshold: float | None = None
    compat: Set[str] = frozenset()
    _seen: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in self.used_by_format["C"]:
            value = getattr(self, name)
            if not isfinite(value) or value < 0 or (name.endswith("_tau") and value == 0):
                kind = "a number above 0" if name.endswith("_tau") else "0 or more"
                raise InputError(f"--{name} must be {kind}, got {value}")
        if self.angle_pooling_strategy not in ("sum", "mean"):
            raise InputError(f"--angle_pooling_strategy must be 'sum' or 'mean', got {self.angle_pooling_strategy!r}")
        if INT_LABELS in self.compat and self.ibn_positive_threshold is not None:
            raise InputError(f"--ibn_positive_threshold has no meaning under --compat {INT_LABELS}; leave one out")

    def __call__(
        self,
        columns: Mapping[str, Tensor],
        labels: Tensor | None,
        *,
        text_ids: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """The loss, a scalar. columns: name -> (N, D) embeddings of the whole batch (of all processes).

        labels: (N,) for format A; ignored for B and C, which carry none.
        text_ids: column -> (N,) whole numbers, equal where the texts are equal; with them duplicate texts
        are neither positive nor negative. Without them a duplicate is a negative, as in the original.
        """
        data_format = self.format_of(columns)
        for line in self.without_effect(data_format):
            self._warn(line)
        names = self.columns_by_format[data_format]
        vectors = [columns[name] for name in names]
        ids = None if text_ids is None else [text_ids[name] for name in names]
        if data_format == "A":
            if labels is None:
                raise InputError("text1/text2 data (format A) needs labels; the batch has none")
            return self._pairs(vectors[0], vectors[1], labels, ids)
        if data_format == "B":
            same = None if ids is None else duplicate_mask(*ids)
            return contrastive_loss(*vectors, scale=self.ibn_tau, same=same)
        return self._triplets(vectors[0], vectors[1], vectors[2], ids)

    @classmethod
    def format_of(cls, columns: Mapping[str, object]) -> str:
        """The letter of the format with exactly these columns; InputError for any other set."""
        for letter, names in cls.columns_by_format.items():
            if set(names) == set(columns):
                return letter
        known = "; ".join(", ".join(names) for names in cls.columns_by_format.values())
        raise InputError(f"no AnglE format has the columns {', '.join(sorted(columns))} (known: {known})")

    def without_effect(self, data_format: str) -> list[str]:
        """One line for each setting that was changed from its default but does nothing in this format."""
        unused = self.used_by_format["C"] - self.used_by_format[data_format]
        return [
            f"{setting.name}={getattr(self, setting.name)} has no effect on format {data_format} data "
            f"({', '.join(self.columns_by_format[data_format])})"
            for setting in fields(self)
            if setting.name in unused and getattr(self, setting.name) != setting.default
        ]

    def _pairs(self, a: Tensor, b: Tensor, labels: Tensor, ids: list[Tensor] | None) -> Tensor:
        targets = None
        if INT_LABELS in self.compat:
            labels = labels.trunc() if labels.is_floating_point() else labels
            targets = _colliding_targets(labels)
        elif self.ibn_w and self.ibn_positive_threshold is None:
            self._warn_graded(labels)
        loss = _zero(a, b)
        if self.cosine_w:
            loss = loss + self.cosine_w * cosent_loss(a, b, labels, scale=self.cosine_tau)
        if self.ibn_w:
            loss = loss + self.ibn_w * in_batch_negatives_loss(
                a,
                b,
                labels,
                scale=self.ibn_tau,
                positive_threshold=self.ibn_positive_threshold,
                same=None if ids is None else symmetric_duplicate_mask(*ids),
                targets=targets,
            )
        if self.angle_w:
            loss = loss + self.angle_w * self._angle(a, b, labels)
        return loss

    def _triplets(self, query: Tensor, positive: Tensor, negative: Tensor, ids: list[Tensor] | None) -> Tensor:
        loss = _zero(query, positive, negative)
        if self.ibn_w:
            same = None if ids is None else duplicate_mask(*ids[:2])
            loss = loss + self.ibn_w / 2 * contrastive_loss(query, positive, scale=self.ibn_tau, same=same)
        if self.cln_w:
            same = None if ids is None else duplicate_mask(*ids)
            loss = loss + self.cln_w / 2 * contrastive_loss(query, positive, negative, scale=self.ibn_tau, same=same)
        if self.angle_w or self.cosine_w:
            a, b = torch.cat([query, query]), torch.cat([positive, negative])
            labels = torch.cat([query.new_ones(len(positive)), query.new_zeros(len(negative))])
            if self.angle_w:
                loss = loss + self.angle_w * self._angle(a, b, labels)
            if self.cosine_w:
                loss = loss + self.cosine_w * cosent_loss(a, b, labels, scale=self.cosine_tau)
        return loss

    def _angle(self, a: Tensor, b: Tensor, labels: Tensor) -> Tensor:
        return angle_loss(a, b, labels, scale=self.angle_tau, reduction=self.angle_pooling_strategy)

    def _warn_graded(self, labels: Tensor) -> None:
        # On an accelerator this look makes the queue wait, so it is taken at the first batch only.
        if labels.device.type != "cpu":
            if "looked" in self._seen:
                return
            self._seen.add("looked")
        if bool(((labels != 0) & (labels != 1)).any()):
            self._warn(
                "the labels are graded: in the in-batch term only pairs with a label of 1 or more are "
                "positives; set --ibn_positive_threshold (or --ibn_w 0)"
            )

    def _warn(self, line: str) -> None:
        if line not in self._seen:
            self._seen.add(line)
            logger.warning("%s", line)


def _zero(*embeddings: Tensor) -> Tensor:
    """A 0 that hangs on the embeddings, so that a batch in which no term has a weight can go backward."""
    return sum((x[:0].sum(dtype=torch.promote_types(x.dtype, torch.float32)) for x in embeddings), torch.zeros(()))


def _colliding_targets(labels: Tensor) -> Tensor:
    """(2N, 2N) positives of the original's in-batch term under `angle:int-labels`.

    It compares row index times label where the index alone is meant. With r, c the positions in the order
    a_0, b_0, a_1, b_1, ..., text c is a positive of r where partner(r) * label_r = c * label_c and neither
    label is 0; for labels 0 and 1 that is the partner alone. Rows and columns: all of a, then all of b.
    """
    pairs = torch.arange(len(labels), device=labels.device)
    position = torch.cat([2 * pairs, 2 * pairs + 1])
    partner = torch.cat([2 * pairs + 1, 2 * pairs])
    grades = labels.long().repeat(2)
    collide = (partner * grades)[:, None] == (position * grades)[None, :]
    return (collide & (grades != 0)[:, None] & (grades != 0)[None, :]).to(torch.float32)
