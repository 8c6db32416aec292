"""The modes of a causal model as modules: token ids in, one row per text out (vector, then the answer's ids)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from common.lm_head import LMHead
from common.pooling import pool
from inbedder.decoding import Decoding
from inbedder.generation import generate, left_padded
from inbedder.modes import Mode
from inbedder.states import run_to_layer

NO_TOKEN = -1


class PromptEmbedder(nn.Module):
    """first and prompt_mean: one forward pass of the prompt. Rows (B, D), fp32."""

    pooling = "mode"

    def __init__(self, trunk: nn.Module, mode: Mode) -> None:
        super().__init__()
        self.trunk = trunk
        self.mode = mode

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Rows of prompts (B, T), padded on either side."""
        padded = attention_mask.device.type != "cpu" or bool((attention_mask == 0).any())
        mask = attention_mask if padded else None
        states, _ = run_to_layer(self.trunk, self.mode.layer, input_ids=input_ids, attention_mask=mask)
        return pool_prompt(states, attention_mask, self.mode.name).float()


class AnswerEmbedder(nn.Module):
    """All modes, with an answer: rows (B, D + N), fp32: the vector, then N answer ids, -1 behind the last.

    With G_t the state at the answer's token t (it predicts token t + 1), kept if token t + 1 is neither special nor
    filtered, P the prompt's states and k the number of kept states:

    ============ ==========================================
    answer_mean  (P[-1] + sum of kept G) / (1 + k)
    last_answer  the last kept G; P[-1] where k = 0
    all_mean     (sum of P + sum of kept G) / (p + k)
    ============ ==========================================

    The sums run along, so nothing is held but one state per text. re_encode has no vector: D is 0.

    Args:
        trunk: the causal trunk. head: its language-model head.
        mode: which vector.
        decoding: how the answer is generated.
        end_ids: tokens that end an answer.
        pad_id: the padding token.
        unkept: special tokens and filtered ones.
        fall_back: `inbedder:g1-fallback`: where k = 0, G_1 counts, whatever its token is.
    """

    pooling = "mode"

    def __init__(
        self,
        trunk: nn.Module,
        head: LMHead,
        mode: Mode,
        decoding: Decoding,
        *,
        end_ids: Sequence[int],
        pad_id: int,
        unkept: Sequence[int],
        fall_back: bool = False,
    ) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head
        self.mode, self.decoding = mode, decoding
        self.end_ids, self.pad_id, self.unkept = list(end_ids), pad_id, list(unkept)
        self.fall_back = fall_back

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Rows of prompts (B, T), padded on the right."""
        ids, mask = left_padded(input_ids, attention_mask)
        unkept = torch.tensor(self.unkept, dtype=torch.long, device=ids.device)
        answers = torch.full((len(ids), self.decoding.max_new_tokens), NO_TOKEN, device=ids.device)
        kept = _Kept(self.fall_back)
        steps = generate(
            self.trunk,
            self.head,
            ids,
            mask,
            self.decoding,
            layer=self.mode.layer,
            end_ids=self.end_ids,
            pad_id=self.pad_id,
            at_least=2 if self.fall_back else 1,
        )
        ended = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
        for t, step in enumerate(steps):
            if t == 0:
                kept.prompt(step.states, mask)
            else:
                kept.add(step.states[:, 0], ~torch.isin(step.tokens, unkept) & ~ended)
            answers[:, t] = torch.where(ended, NO_TOKEN, step.tokens)
            ended = ended | torch.isin(step.tokens, torch.tensor(self.end_ids, device=ids.device))
        return torch.cat([kept.vectors(self.mode.name), answers.float()], dim=1)


class _Kept:
    """What is kept of a batch's states while its answers grow."""

    def __init__(self, fall_back: bool) -> None:
        self.fall_back = fall_back
        self.first_answer: Tensor | None = None

    def prompt(self, states: Tensor, mask: Tensor) -> None:
        """Take in the prompt's states (B, T, D)."""
        self.first = pool(states, mask, "last").float()
        self.prompt_mean = pool_prompt(states, mask, "prompt_mean").float()
        self.prompt_sum = pool(states, mask, "mean").float() * mask.sum(dim=1, keepdim=True)
        self.prompt_count = mask.sum(dim=1, keepdim=True)
        self.sum = torch.zeros_like(self.first)
        self.count = torch.zeros_like(self.prompt_count)
        self.last = self.first

    def add(self, states: Tensor, keep: Tensor) -> None:
        """Take in the states (B, D) of one step, of the rows in `keep` (B,)."""
        states = states.float()
        if self.first_answer is None:
            self.first_answer = states
        self.sum = self.sum + states.masked_fill(~keep[:, None], 0)
        self.count = self.count + keep[:, None]
        self.last = torch.where(keep[:, None], states, self.last)

    def vectors(self, mode: str) -> Tensor:
        """The vectors (B, D) of a mode; (B, 0) of re_encode."""
        if mode == "re_encode":
            return self.first[:, :0]
        if mode == "first":
            return self.first
        if mode == "prompt_mean":
            return self.prompt_mean
        total, count, last = self.sum, self.count, self.last
        if self.fall_back and self.first_answer is not None:
            none = count == 0
            total = torch.where(none, self.first_answer, total)
            last = torch.where(none, self.first_answer, last)
            count = torch.where(none, 1, count)
        if mode == "last_answer":
            return last
        if mode == "answer_mean":
            return (self.first + total) / (1 + count)
        return (self.prompt_sum + total) / (self.prompt_count + count)


def pool_prompt(states: Tensor, mask: Tensor, mode: str) -> Tensor:
    """first or prompt_mean of prompt states (B, T, D); a prompt of one token is its own mean."""
    if mode == "first":
        return pool(states, mask, "last")
    positions = torch.arange(mask.shape[1], device=mask.device)
    last = (mask * positions).argmax(dim=1, keepdim=True)
    return pool(states, mask, "mean", pool_mask=mask.scatter(1, last, 0))
