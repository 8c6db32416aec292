"""BGE-ICL's loss: each query finds its positive, among all passages of all processes or among its own alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor, nn

from common.distributed import world_size
from common.errors import InputError
from common.losses import distillation_loss, duplicate_mask, group_scores, info_nce_loss

DDP_MEAN = "bge_icl:ddp-mean"


@dataclass(frozen=True)
class IclObjective:
    """The loss of a batch from its embeddings, a pure function (GradCache may call it on leaves).

        s = q @ p^T / temperature
        in_batch:      L = mean over i of -log softmax(s_i over the passages of all rows)[own positive]
        not in_batch:  L = mean over i of -log softmax(s_i over the own group)[own positive]
        with teacher scores t, in_batch only: L += mean over i of -sum_g softmax(t_i)_g log softmax(s_i own)_g

    Attributes:
        temperature: 0.02; 1 where vectors are not normalised, as released.
        normalize: L2-normalise; no: dot products of the vectors as they are.
        in_batch: the passages of other rows are negatives.
        teacher: add the distillation where there are scores.
        ddp_mean: the released gradient over W processes: 1/W of the in-batch part.
    """

    temperature: float = 0.02
    normalize: bool = True
    in_batch: bool = True
    teacher: bool = True
    ddp_mean: bool = False

    def __post_init__(self) -> None:
        if not isfinite(self.temperature) or self.temperature <= 0:
            raise InputError(f"--temperature must be a number above 0, got {self.temperature}")

    def over_own_group(self) -> IclObjective:
        """The same, without the passages of other rows."""
        return dataclasses.replace(self, in_batch=False)

    def __call__(
        self, columns: Mapping[str, Tensor], labels: Tensor | None, *, text_ids: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """The loss, a scalar.

        columns: query, positive, negative_1, ... -> (N, D), of all processes.
        labels: (N, G), the teacher's scores, the positive's first; None: no distillation.
        text_ids: column -> (N,), equal where the texts are equal; with them a passage that is a row's query or
            positive again (or the positive of another copy of its query) is no negative of that row.

        Raises:
            InputError: no query, or no passages.
        """
        if "query" not in columns or "positive" not in columns:
            raise InputError(f"the loss takes query, positive and negatives; the rows have {', '.join(columns)}")
        names = [name for name in columns if name != "query"]
        unit = nn.functional.normalize if self.normalize else (lambda x, dim: x)
        query = unit(columns["query"].float(), dim=1)
        # (N, G, D) -> rows i*G ... are those of query i, its positive first
        passages = torch.stack([unit(columns[name].float(), dim=1) for name in names], dim=1).flatten(0, 1)
        temperature = self.temperature if self.normalize else 1.0
        same = None if text_ids is None else self._same(text_ids, names)
        loss = info_nce_loss(query, passages, temperature=temperature, in_batch=self.in_batch, same=same)
        if self.ddp_mean and self.in_batch:
            # All ranks compute the same loss; released, each keeps the gradient of its own rows, and DDP averages.
            loss = loss.detach() + (loss - loss.detach()) / world_size()
        if labels is not None and self.teacher and self.in_batch:
            loss = loss + distillation_loss(group_scores(query, passages, temperature=temperature), labels)
        return loss

    def _same(self, text_ids: Mapping[str, Tensor], names: list[str]) -> Tensor:
        """`same` of `info_nce_loss`: (N, N*G), or (N, G) over the own group."""
        ids = torch.stack([text_ids[name] for name in names], dim=1)  # (N, G)
        if not self.in_batch:
            return (ids == ids[:, :1]) | (ids == text_ids["query"][:, None])
        count, size = ids.shape
        others = ids[:, 1:].T.flatten() if size > 1 else None  # as columns come: all first negatives, ...
        mask = duplicate_mask(text_ids["query"], ids[:, 0], others)
        return mask.view(count, size, count).transpose(1, 2).reshape(count, count * size)
