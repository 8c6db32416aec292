"""The contrastive objective that the methods share: each query finds its positive among all texts of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

from torch import Tensor

from common.errors import InputError
from common.losses import contrastive_loss, duplicate_mask

FORMATS = (("query", "positive"), ("query", "positive", "negative"))


@dataclass(frozen=True)
class ContrastiveObjective:
    """`contrastive_loss` of a batch from its embeddings (LLM2Vec's HardNegativeNLLLoss, SimCSE).

        s_ij = scale * cos(query_i, document_j),   documents = all positives, then all hard negatives
        L    = mean over i of the cross entropy of s_i against i

    A pure function of embeddings: GradCache may call it on leaf embeddings.
    """

    scale: float = 20.0

    def __post_init__(self) -> None:
        if not isfinite(self.scale) or self.scale <= 0:
            raise InputError(f"--loss_scale must be a number above 0, got {self.scale}")

    def __call__(
        self, columns: Mapping[str, Tensor], labels: Tensor | None, *, text_ids: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """The loss, a scalar. columns: name -> (N, D) embeddings of the whole batch (of all processes).

        labels: of no use here; None.
        text_ids: column -> (N,) whole numbers, equal where the texts are equal; with them a duplicate of a
            row's query or positive is no negative of that row (its own positive stays). Without them it is
            one, as in the original.

        Raises:
            InputError: columns of another format.
        """
        names = next((names for names in FORMATS if set(names) == set(columns)), None)
        if names is None:
            known = "; ".join(", ".join(names) for names in FORMATS)
            raise InputError(f"the contrastive loss takes {known}; the rows have {', '.join(sorted(columns))}")
        same = None if text_ids is None else duplicate_mask(*(text_ids[name] for name in names))
        return contrastive_loss(*(columns[name] for name in names), scale=self.scale, same=same)
