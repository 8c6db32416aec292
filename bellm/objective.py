"""BeLLM's objective: AnglE's losses with the weights of the release that BeLLM was made with."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from torch import Tensor

from common.angle_objective import AngleObjective


@dataclass(frozen=True)
class BellmObjective:
    """The loss of a batch: on triplets ibn_w contrastive(q, p, n) + angle_w angle(Z) + cosine_w cosent(Z).

    angle_emb 0.3 to 0.5, which BeLLM stands on, has one contrastive term, with the hard negatives in it; later
    releases (and `AngleObjective`) halve the sum of one with and one without. Pairs with labels are AnglE's
    format A. The paper's own loss is the contrastive term alone (the defaults).
    """

    cosine_w: float = 0.0
    ibn_w: float = 1.0
    angle_w: float = 0.0
    cosine_tau: float = 20.0
    ibn_tau: float = 20.0
    angle_tau: float = 20.0
    angle_pooling_strategy: str = "sum"
    ibn_positive_threshold: float | None = None
    compat: Set[str] = frozenset()
    _pairs: AngleObjective = field(init=False, repr=False, compare=False)
    _triplets: AngleObjective = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        shared = {
            name: getattr(self, name)
            for name in ("cosine_w", "angle_w", "cosine_tau", "ibn_tau", "angle_tau", "angle_pooling_strategy")
        }
        shared |= {"ibn_positive_threshold": self.ibn_positive_threshold, "compat": self.compat}
        object.__setattr__(self, "_pairs", AngleObjective(ibn_w=self.ibn_w, **shared))
        # The division by 2 is undone, the term without hard negatives left out.
        object.__setattr__(self, "_triplets", AngleObjective(ibn_w=0.0, cln_w=2 * self.ibn_w, **shared))

    def __call__(
        self, columns: Mapping[str, Tensor], labels: Tensor | None, *, text_ids: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """The loss, a scalar; arguments as of `AngleObjective`."""
        objective = self._triplets if "negative" in columns else self._pairs
        return objective(columns, labels, text_ids=text_ids)
