"""Short answers of a causal model, token by token, with the states that the modes need and no others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.backbone import Backbone
from common.lm_head import LMHead
from inbedder.decoding import Decoding
from inbedder.states import position_ids, run_to_layer


@dataclass(frozen=True)
class Step:
    """One forward pass: of the prompt (the first step), or of one token of the answer.

    Attributes:
        states: (B, T, D) at the layer asked for; T = 1 after the first.
        tokens: (B,) the tokens predicted by the last state; the padding id in rows that have ended.
    """

    states: Tensor
    tokens: Tensor


def generate(
    trunk: nn.Module,
    head: LMHead,
    ids: Tensor,
    mask: Tensor,
    decoding: Decoding,
    *,
    layer: int,
    end_ids: Sequence[int],
    pad_id: int,
    at_least: int = 1,
) -> Iterator[Step]:
    """The steps of a batch of prompts (B, T), padded on the left; it stops where all rows have ended.

    Args:
        trunk: causal; run with a cache of keys and values.
        head: of the trunk.
        ids: (B, T). mask: (B, T), 1: real.
        decoding: how.
        layer: whose states are yielded.
        end_ids: tokens that end an answer.
        pad_id: put in rows that have ended.
        at_least: steps to run even if all rows have ended.
    """
    picker = _Picker(decoding, ids, mask)
    ends = torch.tensor(list(end_ids), dtype=torch.long, device=ids.device)
    inputs: dict[str, Any] = {"input_ids": ids, **position_ids(trunk, mask)}
    ended = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    for step in range(decoding.max_new_tokens):
        states, output = run_to_layer(trunk, layer, attention_mask=mask, use_cache=True, **inputs)
        tokens = picker.pick(head(output.last_hidden_state[:, -1], trunk), step)
        tokens = torch.where(ended, pad_id, tokens)
        yield Step(states, tokens)
        ended = ended | torch.isin(tokens, ends)
        if step + 1 >= at_least and bool(ended.all()):
            return
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        inputs = {"input_ids": tokens[:, None], "past_key_values": output.past_key_values}
        inputs |= {name: positions[:, -1:] for name, positions in position_ids(trunk, mask).items()}


def left_padded(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (B, T) that are padded on the right, padded on the left instead."""
    width = ids.shape[1]
    lengths = mask.sum(dim=1, keepdim=True)
    source = (torch.arange(width, device=ids.device)[None] + lengths) % width
    return ids.gather(1, source), mask.gather(1, source)


def end_ids(backbone: Backbone) -> list[int]:
    """The tokens that end an answer: EOS of tokenizer and configuration."""
    found = {backbone.tokenizer.eos_token_id}
    eos = backbone.config.get_text_config().eos_token_id
    found |= set(eos) if isinstance(eos, list | tuple) else {eos}
    return sorted(token for token in found if token is not None)


class _Picker:
    """Tokens from logits: the likeliest ones, or draws that depend on seed and prompt alone."""

    def __init__(self, decoding: Decoding, ids: Tensor, mask: Tensor) -> None:
        from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

        self.draws: Tensor | None = None
        self.warp = LogitsProcessorList()
        if not decoding.do_sample:
            return
        self.warp.append(TemperatureLogitsWarper(float(decoding.temperature)))
        if decoding.top_k:
            self.warp.append(TopKLogitsWarper(decoding.top_k))
        if decoding.top_p < 1:
            self.warp.append(TopPLogitsWarper(float(decoding.top_p)))
        prompts = [row[real != 0].tolist() for row, real in zip(ids.cpu(), mask.cpu())]
        # Over 0 and at most 1, so that a token without probability is never drawn.
        draws = [1 - np.random.default_rng([decoding.seed, *p]).random(decoding.max_new_tokens) for p in prompts]
        self.draws = torch.from_numpy(np.stack(draws)).to(ids.device, torch.float32)

    def pick(self, logits: Tensor, step: int) -> Tensor:
        """Tokens (B,) of logits (B, V)."""
        if self.draws is None:
            return logits.argmax(dim=1)
        cumulative = self.warp(None, logits).softmax(dim=1).cumsum(dim=1)  # type: ignore[arg-type]
        # The first token whose cumulated probability reaches the draw, a share of the sum (1, but for rounding).
        return torch.searchsorted(cumulative, self.draws[:, step : step + 1] * cumulative[:, -1:])[:, 0]
