"""Which tokens of a text are masked, and what stands in their place (LLM2Vec, arXiv 2404.05961, section 2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from common.errors import InputError
from common.token_objective import IGNORED

BLANK = "_"

Style = Literal["default", "bert", "roberta", "all_mask"]
MaskTokenType = Literal["blank", "eos", "mask"]


@dataclass(frozen=True)
class Masking:
    """Masks tokens at random, anew at every call.

    Attributes:
        mask_token_id: what a masked token is replaced by.
        vocab_size: random tokens are drawn from 0 to here.
        probability: of a token to be selected.
        style: of the selected tokens, "bert" ("default" in the released configs) replaces 80% by the mask token
            and 10% by a random one and leaves 10% as they are; "roberta" (the paper's name) or "all_mask" (the
            released one) replaces all by the mask token.
    """

    mask_token_id: int
    vocab_size: int
    probability: float = 0.15
    style: Style = "bert"

    def __post_init__(self) -> None:
        if not 0 < self.probability <= 1:
            raise InputError(f"--mlm_probability {self.probability}: must be above 0 and at most 1")

    def __call__(
        self, input_ids: Tensor, maskable: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Masked ids and labels.

        The draws are those of transformers' collator in their order, so one seed selects the same tokens.

        Args:
            input_ids: (B, T), left as they are.
            maskable: (B, T), False where a token is special or padding.
            generator: of the CPU; None: torch's global one.

        Returns:
            ids (B, T), and labels (B, T): the original id where selected, else -100.
        """
        shape = input_ids.shape

        def draw(probability: Tensor | float) -> Tensor:
            chances = probability if isinstance(probability, Tensor) else torch.full(shape, probability)
            return torch.bernoulli(chances, generator=generator).bool().to(input_ids.device)

        chances = torch.full(shape, self.probability).masked_fill_(~maskable.bool().cpu(), 0.0)
        selected = draw(chances)
        labels = input_ids.masked_fill(~selected, IGNORED)
        if self.style in ("roberta", "all_mask"):
            return input_ids.masked_fill(selected, self.mask_token_id), labels
        replaced = draw(0.8) & selected
        exchanged = draw(0.5) & selected & ~replaced
        others = torch.randint(self.vocab_size, shape, dtype=torch.long, generator=generator).to(input_ids.device)
        masked = input_ids.masked_fill(replaced, self.mask_token_id)
        return torch.where(exchanged, others, masked), labels


def mask_token(tokenizer: PreTrainedTokenizerBase, kind: MaskTokenType, new_id: int) -> int:
    """The id that masks a token: the tokenizer's own mask token, where it has one, else as `kind` says.

    The tokenizer stays as it is. The released code makes "_" its mask token, and saves it so.

    Args:
        tokenizer: of the model.
        kind: "blank": the token "_"; "eos": the end token; "mask": a token of its own.
        new_id: the id of that last one, beyond the model's embedding table.

    Raises:
        InputError: the tokenizer has no such token.
    """
    own: Any = tokenizer.mask_token_id
    if own is not None:
        return int(own)
    if kind == "mask":
        return new_id
    found: Any = tokenizer.eos_token_id if kind == "eos" else tokenizer.convert_tokens_to_ids(BLANK)
    if found is None or (kind == "blank" and found == tokenizer.unk_token_id):
        what = "no end token" if kind == "eos" else f"no token {BLANK!r}"
        others = "blank or mask" if kind == "eos" else "eos or mask"
        raise InputError(f"--mask_token_type {kind}: this tokenizer has {what}; give {others}")
    return int(found)
