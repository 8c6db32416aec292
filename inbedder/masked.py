"""The modes of a masked model as a module, and the head that reads words off its mask tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM

from common.backbone import Backbone
from common.errors import InputError
from common.lm_head import head_name
from common.model_names import explain_missing
from common.pooling import pool
from inbedder.causal import NO_TOKEN
from inbedder.modes import Mode
from inbedder.states import run_to_layer

# States per call of the head: its logits are as wide as the vocabulary.
HEAD_ROWS = 1024


class MaskEmbedder(nn.Module):
    """The modes of a masked model: rows (B, D + M + W), fp32: the vector, the ids at the masks, the ids everywhere.

    Args:
        trunk: of the masked model.
        mode: which vector; re_encode has none (D = 0).
        eos_id: left out of prompt_mean.
        masks: M, the number of mask tokens; 0 without a head.
        head: of the masked language model; the likeliest tokens are then in the row.
        width: W, tokens of the longest sequence; 0 leaves the ids everywhere out. -1 stands behind the last.
    """

    pooling = "mode"

    def __init__(
        self,
        trunk: nn.Module,
        mode: Mode,
        *,
        eos_id: int | None,
        masks: int = 0,
        head: nn.Module | None = None,
        width: int = 0,
    ) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head
        self.mode, self.masks, self.width, self.eos_id = mode, masks, width, eos_id

    def forward(self, input_ids: Tensor, attention_mask: Tensor, pool_mask: Tensor) -> Tensor:
        """Rows of prompts (B, T) padded on the right; `pool_mask` (B, T): the mask tokens."""
        states, output = run_to_layer(self.trunk, self.mode.layer, input_ids=input_ids, attention_mask=attention_mask)
        parts = [self._vectors(states, input_ids, attention_mask, pool_mask)]
        if self.head is not None:
            ids = self._likeliest(output.last_hidden_state)
            first = pool_mask.argmax(dim=1, keepdim=True)
            parts.append(ids.gather(1, first + torch.arange(self.masks, device=ids.device)).float())
            if self.width:
                everywhere = ids.masked_fill(attention_mask == 0, NO_TOKEN).float()
                parts.append(nn.functional.pad(everywhere, (0, self.width - ids.shape[1]), value=NO_TOKEN))
        return torch.cat(parts, dim=1)

    def _vectors(self, states: Tensor, ids: Tensor, mask: Tensor, masks: Tensor) -> Tensor:
        if self.mode.name == "re_encode":
            return states[:, 0, :0].float()
        if self.mode.name == "answer_mean":
            return pool(states, mask, "mean", pool_mask=masks).float()
        if self.mode.name == "all_mean":
            return pool(states, mask, "mean").float()
        prompt = (masks == 0) & (ids != (NO_TOKEN if self.eos_id is None else self.eos_id))
        return pool(states, mask, "mean", pool_mask=prompt).float()

    def _likeliest(self, states: Tensor) -> Tensor:
        assert self.head is not None
        rows = states.flatten(0, 1).split(HEAD_ROWS)
        return torch.cat([self.head(part).argmax(dim=1) for part in rows]).view(states.shape[:2])


def load_masked_head(backbone: Backbone) -> nn.Module:
    """The masked-language-model head of a backbone: states (N, D) -> logits (N, V), frozen, on its device.

    Raises:
        InputError: a decoder, or weights that hold no such head.
    """
    source = backbone.source
    if backbone.head is not None and not backbone.is_decoder:
        return backbone.head
    options: dict[str, Any] = {**source.load_options, "dtype": backbone.dtype, "use_safetensors": True}
    try:
        model, report = AutoModelForMaskedLM.from_pretrained(source.path, output_loading_info=True, **options)
    except (OSError, ValueError) as error:
        raise explain_missing(source, error) from error
    name = head_name(backbone, model)
    if any(key.startswith(f"{name}.") for key in report["missing_keys"]):
        raise InputError(f"model {source.name}: its weights hold no masked-LM head; give the original masked model")
    head: nn.Module = model.get_submodule(name)
    return head.requires_grad_(False).eval().to(backbone.device)
