"""Rendered templates -> token ids, shortening the text and never the template; which tokens are the text's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal, get_args

from transformers import PreTrainedTokenizerBase

from common.errors import InputError
from common.prompts import Rendered

Pooled = Literal["all", "text", "text_and_suffix", "mask"]
Span = tuple[int, int]

# The released quirks that tokenisation knows; the papers' compat.py say what each does.
CUT_TAIL = "angle:tail-truncation"
EMBED_MASK = "llm2vec:embed-mask"
CUT_WORDS = "llm2vec:word-truncation"
CUT_HEAD = "inbedder:left-truncation"


@dataclass(frozen=True)
class Tokenized:
    """Token ids per text, how many texts had to be shortened, and which tokens are pooled.

    Attributes:
        ids: token ids per text.
        truncated: how many texts were shortened.
        pooled: per text, the first and the position after the last pooled token; (p, p) where there is none,
            and `common.pooling.pool` takes all real tokens. None: all tokens of all texts.
    """

    ids: list[list[int]]
    truncated: int
    pooled: list[Span] | None = None


def check_pooled(pooled: str) -> Pooled:
    """`pooled`, checked.

    Raises:
        InputError: not one of all, text, text_and_suffix, mask.
    """
    if pooled not in get_args(Pooled):
        raise InputError(f"pooled {pooled!r} is not one of {', '.join(get_args(Pooled))}")
    return pooled  # type: ignore[return-value]


def tokenize(
    tokenizer: PreTrainedTokenizerBase,
    rendered: Sequence[Rendered],
    max_length: int,
    *,
    pooled: Pooled = "all",
    max_text_length: int | None = None,
    compat: Set[str] = frozenset(),
) -> Tokenized:
    """Tokenise whole strings once; those that are too long get a shorter text.

    What belongs to a text is read off the characters behind each token. A token that takes in the end of one
    part and the start of the next ("word" with the blank before it) is the text's. Tokens that the tokenizer
    itself puts in front (BOS) are never pooled, those that it puts at the end (EOS) count as suffix.

    Args:
        tokenizer: a fast tokenizer (it tells the characters behind each token).
        rendered: filled templates.
        max_length: tokens per sequence, special tokens included.
        pooled: "text", "text_and_suffix" (what the template puts behind the text, too), "mask" (the mask tokens
            that the template ends with), or "all".
        max_text_length: tokens of the text alone, at most.
        compat: names of released quirks: `angle:tail-truncation` cuts the end of the whole sequence, template
            and all, `inbedder:left-truncation` its start; `llm2vec:word-truncation` shortens to
            `max_text_length` by words; `llm2vec:embed-mask` finds the pooled tokens by counting those of text and
            suffix alone.

    Raises:
        InputError: the template alone is longer than `max_length`, a sequence has no token at all, or no mask token
            where that is pooled.
    """
    if not rendered:
        return Tokenized([], 0, None if pooled == "all" else [])
    rendered = list(rendered)
    truncated: set[int] = set()
    if CUT_WORDS in compat and max_text_length is not None:
        for i, one in enumerate(rendered):
            text = _fewer_words(tokenizer, one.text, max_text_length, max_length)
            if text != one.text:
                truncated.add(i)
                rendered[i] = dataclasses.replace(one, text=text)
        max_text_length = None
    with_offsets = pooled in ("text", "text_and_suffix") or max_text_length is not None
    encoded = _encode(tokenizer, [r.full for r in rendered], with_offsets)
    ids: list[list[int]] = list(encoded["input_ids"])
    offsets: list[list[Span]] = list(encoded["offset_mapping"]) if with_offsets else []
    for i, one in enumerate(rendered):
        too_long = max_text_length is not None and len(_of_text(offsets[i], one)) > max_text_length
        if len(ids[i]) > max_length or too_long:
            truncated.add(i)
            if CUT_TAIL in compat:
                cut = tokenizer(one.full, truncation=True, max_length=max_length, return_offsets_mapping=with_offsets)
            elif CUT_HEAD in compat:
                cut = _without_head(tokenizer, one.full, max_length, with_offsets)
            else:
                rendered[i], cut = _shorten(tokenizer, one, max_length, max_text_length)
            ids[i] = cut["input_ids"]
            if with_offsets:
                offsets[i] = cut["offset_mapping"]
        if not ids[i]:
            # An empty text in a model without special tokens: the state of one end token stands for it.
            ids[i] = [_filler(tokenizer)]
    if pooled == "all":
        return Tokenized(ids, len(truncated))
    if pooled == "mask":
        return Tokenized(ids, len(truncated), [_last_masks(tokenizer, sequence) for sequence in ids])
    if EMBED_MASK in compat:
        alone = _encode(tokenizer, [r.text + r.suffix for r in rendered], add_special_tokens=False)["input_ids"]
        return Tokenized(ids, len(truncated), [(max(0, len(s) - len(a)), len(s)) for s, a in zip(ids, alone)])
    spans = [_span(o, r, pooled) for o, r in zip(offsets, rendered)]
    return Tokenized(ids, len(truncated), spans)


def _encode(
    tokenizer: PreTrainedTokenizerBase, strings: list[str], with_offsets: bool = False, add_special_tokens: bool = True
) -> Any:
    # verbose=False: overlong sequences are shortened by us, the library's warning would only confuse.
    return tokenizer(
        strings,
        add_special_tokens=add_special_tokens,
        padding=False,
        truncation=False,
        return_attention_mask=False,
        return_offsets_mapping=with_offsets,
        verbose=False,
    )


def _of_text(offsets: Sequence[Span], rendered: Rendered) -> list[int]:
    """Positions of the tokens that hold a character of the text; added special tokens hold none at all."""
    start, end = len(rendered.prefix), len(rendered.prefix) + len(rendered.text)
    return [i for i, (b, e) in enumerate(offsets) if b < end and e > start and e > b]


def _span(offsets: Sequence[Span], rendered: Rendered, pooled: Pooled) -> Span:
    """First and end position of what is pooled."""
    text = _of_text(offsets, rendered)
    if pooled == "text":
        return (text[0], text[-1] + 1) if text else (0, 0)
    # From the first token behind the prefix; without text or suffix only an added EOS may be left.
    start = len(rendered.prefix)
    behind = next((i for i, (b, e) in enumerate(offsets) if e > start and e > b), None)
    if behind is None:
        behind = max((i + 1 for i, (b, e) in enumerate(offsets) if e > b), default=len(offsets))
    return behind, len(offsets)


def _last_masks(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> Span:
    """First and end position of the last run of mask tokens."""
    mask = tokenizer.mask_token_id
    end = next((i + 1 for i in reversed(range(len(ids))) if ids[i] == mask), None)
    if mask is None or end is None:
        raise InputError("pooled 'mask': the template has no mask token; end it with that of the tokenizer")
    start = next((i + 1 for i in reversed(range(end)) if ids[i] != mask), 0)
    return start, end


def _without_head(tokenizer: PreTrainedTokenizerBase, text: str, max_length: int, with_offsets: bool) -> Any:
    """The encoding of a string's last tokens, special tokens around them, as many as fit."""
    side, tokenizer.truncation_side = tokenizer.truncation_side, "left"
    try:
        return tokenizer(text, truncation=True, max_length=max_length, return_offsets_mapping=with_offsets)
    finally:
        tokenizer.truncation_side = side


def _shorten(
    tokenizer: PreTrainedTokenizerBase, rendered: Rendered, max_length: int, max_text_length: int | None
) -> tuple[Rendered, Any]:
    """The template with as much of its text as fits, and its encoding."""
    while True:
        encoded = tokenizer(rendered.full, return_offsets_mapping=True, return_attention_mask=False, verbose=False)
        offsets = encoded["offset_mapping"]
        surplus = len(encoded["input_ids"]) - max_length
        if max_text_length is not None:
            surplus = max(surplus, len(_of_text(offsets, rendered)) - max_text_length)
        if surplus <= 0:
            return rendered, encoded
        if not rendered.text:
            length = len(encoded["input_ids"])
            raise InputError(f"max_length {max_length}: the template alone has {length} tokens; raise --max_length")
        start, end = len(rendered.prefix), len(rendered.prefix) + len(rendered.text)
        inside = [b for b, e in offsets if e > b and b >= start and e <= end]
        # Cut before the first of the last `surplus` tokens of the text; at least one character goes.
        cut = inside[-surplus] - start if surplus <= len(inside) else 0
        rendered = dataclasses.replace(rendered, text=rendered.text[: min(cut, len(rendered.text) - 1)])


def _fewer_words(tokenizer: PreTrainedTokenizerBase, text: str, max_text_length: int, max_length: int) -> str:
    """The released LLM2Vec's way: drop words by the ratio of tokens, again and again.

    A count of tokens stops at `max_length` there, so a long text loses fewer words in one round.
    """
    while True:
        count = min(max_length, len(_encode(tokenizer, [text], add_special_tokens=False)["input_ids"][0]))
        if count <= max_text_length:
            return text
        words = text.split()
        text = " ".join(words[: int(len(words) * (max_text_length / count))])


def _filler(tokenizer: PreTrainedTokenizerBase) -> int:
    for token in (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id):
        if token is not None:
            return int(token)
    return 0
