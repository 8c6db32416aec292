"""The second published convention of masked models: `UseCase.ipynb` and `KomeijiForce/inbedder-roberta-large`.

Text and instruction are a pair, `<s> text </s></s> instruction<mask><mask><mask> </s>`, without the `###` template; the
last layer's states at the masks go through the first part of the masked-LM head (linear, gelu, norm), their mean is
standardised: mean 0, (unbiased) standard deviation 1 over the dimensions of each vector.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from common.backbone import Backbone
from common.encoder import Encoder
from common.errors import InputError
from common.pooling import pool
from common.prompts import Template
from inbedder.masked import load_masked_head
from inbedder.prompts import template_of


class PairEncoder(Encoder):
    """An `Encoder` of this convention; it can't be saved, since a saved folder holds no head."""

    def __init__(self, backbone: Backbone, **arguments: Any) -> None:
        super().__init__(backbone, **arguments)
        head = load_masked_head(backbone)
        if not all(hasattr(head, name) for name in ("dense", "layer_norm")):
            raise InputError(f"model {backbone.source.name}: convention 'pair' needs the head of RoBERTa")
        self.embedder = PairEmbedder(backbone.model, head)  # type: ignore[assignment]

    def save_pretrained(self, folder: str | Path, *, merge: bool = False) -> None:
        """Not possible.

        Raises:
            InputError: always.
        """
        raise InputError("convention 'pair' reads the masked-LM head, which is not saved; save convention 'prompt'")


class PairEmbedder(nn.Module):
    """Token ids -> vectors (B, D), fp32: mask states, first part of the head, mean, standardised."""

    pooling = "mean"

    def __init__(self, trunk: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.dense, self.layer_norm = head.dense, head.layer_norm

    def forward(self, input_ids: Tensor, attention_mask: Tensor, pool_mask: Tensor) -> Tensor:
        """Vectors of prompts (B, T); `pool_mask` (B, T): the mask tokens."""
        states = self.trunk(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        states = self.layer_norm(nn.functional.gelu(self.dense(states)))  # type: ignore[operator]
        vectors = pool(states, attention_mask, "mean", pool_mask=pool_mask).float()
        return (vectors - vectors.mean(dim=1, keepdim=True)) / vectors.std(dim=1, keepdim=True)


def pair_template(backbone: Backbone, masks: str) -> Template:
    """A pair as one string: RoBERTa's tokenizers put two end tokens between the parts of a pair."""
    return template_of("{input}" + 2 * str(backbone.tokenizer.eos_token) + "{instruction}", masks)
