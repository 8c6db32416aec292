"""Trunk and pooling as one module: what is run to encode, and what is trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from common.batching import plan
from common.pooling import POOL_EVERYTHING, canonical_strategy, pool

# Padded tokens per group when a training batch is split by length: enough to keep the matrix units busy.
SPLIT_TOKENS = {"cpu": 1024, "cuda": 16384}
# Released quirks of training alone.
TRAINING_COMPAT = {POOL_EVERYTHING}


class Embedder(nn.Module):
    """Trunk and pooling: token ids (B, T) and mask (B, T) -> vectors (B, D) in fp32. This is what is trained."""

    def __init__(self, trunk: nn.Module, pooling: str, compat: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.trunk = trunk
        self.pooling = pooling if pooling == "pooler" else canonical_strategy(pooling)
        self.compat = compat

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pool_mask: Tensor | None = None,
        lengths: list[int] | None = None,
    ) -> Tensor:
        """Vectors (B, D), fp32. Rows may be padded on either side.

        `pool_mask` (B, T): which tokens are pooled (`common.pooling.pool`); None: all real ones.

        With `lengths` (real tokens per row, rows padded on the right) rows of like length go through the trunk
        together, in one graph, so that a batch of mixed lengths costs no work on padding.
        """
        if lengths is not None:
            groups = plan(lengths, SPLIT_TOKENS.get(input_ids.device.type, SPLIT_TOKENS["cuda"]))
            if len(groups) > 1:
                return self._grouped(groups, lengths, input_ids, attention_mask, pool_mask)
        return self._vectors(input_ids, attention_mask, pool_mask)

    def _vectors(self, input_ids: Tensor, attention_mask: Tensor, pool_mask: Tensor | None) -> Tensor:
        # Without padding the mask says nothing, and attention is faster without one. (Looking costs a
        # synchronisation on an accelerator.)
        padded = attention_mask.device.type != "cpu" or bool((attention_mask == 0).any())
        output = self.trunk(input_ids=input_ids, attention_mask=attention_mask if padded else None)
        if self.pooling == "pooler":
            return output.pooler_output.float()
        compat = self.compat if self.training else self.compat - TRAINING_COMPAT
        states = output.last_hidden_state
        return pool(states, attention_mask, self.pooling, pool_mask=pool_mask, compat=compat).float()

    def _grouped(
        self, groups: list[list[int]], lengths: list[int], ids: Tensor, mask: Tensor, pool_mask: Tensor | None
    ) -> Tensor:
        parts = []
        for rows in groups:
            width = max(lengths[i] for i in rows)
            pooled = None if pool_mask is None else pool_mask[rows, :width]
            # Not `self.forward`: a trainer wraps that in one autocast context, which must not be entered twice.
            parts.append(self._vectors(ids[rows, :width], mask[rows, :width], pooled))
        back = torch.tensor([i for rows in groups for i in rows], device=ids.device).argsort()
        return torch.cat(parts)[back]
