"""Rendered templates -> token ids, shortening the text and never the template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from common.errors import InputError
from common.prompts import Rendered


@dataclass(frozen=True)
class Tokenized:
    """Token ids per text, and how many texts had to be shortened."""

    ids: list[list[int]]
    truncated: int


def tokenize(
    tokenizer: PreTrainedTokenizerBase, rendered: Sequence[Rendered], max_length: int, *, cut_tail: bool = False
) -> Tokenized:
    """Tokenise whole strings once; those over `max_length` tokens get a shorter text.

    Args:
        tokenizer: a fast tokenizer (it tells the characters behind each token).
        rendered: filled templates.
        max_length: tokens per sequence, special tokens included.
        cut_tail: cut the end of the whole sequence, template and all, as the released AnglE does
            (`angle:tail-truncation`).

    Raises:
        InputError: the template alone is longer than `max_length`, or a sequence has no token at all.
    """
    if not rendered:
        return Tokenized([], 0)
    ids: list[list[int]] = _encode(tokenizer, [r.full for r in rendered])
    truncated = 0
    for i, sequence in enumerate(ids):
        if len(sequence) > max_length:
            truncated += 1
            if cut_tail:
                ids[i] = tokenizer(rendered[i].full, truncation=True, max_length=max_length)["input_ids"]
            else:
                ids[i] = _shorten(tokenizer, rendered[i], max_length)
        if not ids[i]:
            # An empty text in a model without special tokens: the state of one end token stands for it.
            ids[i] = [_filler(tokenizer)]
    return Tokenized(ids, truncated)


def _encode(tokenizer: PreTrainedTokenizerBase, strings: list[str]) -> list[list[int]]:
    # verbose=False: overlong sequences are shortened below, the library's warning would only confuse.
    encoded = tokenizer(strings, padding=False, truncation=False, return_attention_mask=False, verbose=False)
    return list(encoded["input_ids"])


def _shorten(tokenizer: PreTrainedTokenizerBase, rendered: Rendered, max_length: int) -> list[int]:
    text = rendered.text
    while True:
        full = rendered.prefix + text + rendered.suffix
        encoded = tokenizer(full, return_offsets_mapping=True, return_attention_mask=False, verbose=False)
        ids: list[int] = encoded["input_ids"]
        surplus = len(ids) - max_length
        if surplus <= 0:
            return ids
        if not text:
            raise InputError(f"max_length {max_length}: the template alone has {len(ids)} tokens; raise --max_length")
        start, end = len(rendered.prefix), len(rendered.prefix) + len(text)
        inside = [b for b, e in encoded["offset_mapping"] if e > b and b >= start and e <= end]
        # Cut before the first of the last `surplus` tokens of the text; at least one character goes.
        cut = inside[-surplus] - start if surplus <= len(inside) else 0
        text = text[: min(cut, len(text) - 1)]


def _filler(tokenizer: PreTrainedTokenizerBase) -> int:
    for token in (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id):
        if token is not None:
            return int(token)
    return 0
