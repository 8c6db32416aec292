"""Few-shot examples in training: each query gets some other rows of its batch as examples (paper, section 3.2)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bge_icl.prompts import SEPARATOR
from common.data import Row

# The released code leaves so many of the tokens of a whole query to the query itself.
RESERVED = 512


@dataclass(frozen=True)
class ExampleOptions:
    """How examples are drawn and cut.

    Attributes:
        most: a query gets 0 to so many, each number as likely as the others; 5 as released.
        query_max_len: tokens of a whole query, examples included.
        example_query_max_len: tokens of an example's query with its instruction.
        example_passage_max_len: tokens of an example's answer.
        answer: what stands between the query of an example and its answer.
        retrieval: also for rows of type normal and only_1neg.
    """

    most: int = 5
    query_max_len: int = 2048
    example_query_max_len: int = 256
    example_passage_max_len: int = 256
    answer: str = "\n<response>"
    retrieval: bool = True


def draw_others(draw: random.Random, count: int, own: int, most: int) -> list[int]:
    """0 to `most` distinct positions below `count`, never `own`; each number of them is as likely.

    Fewer where there are no more (the released research code fails for less than 6 rows).
    """
    wanted = min(draw.randint(0, most), count - 1)
    others = [i for i in range(count) if i != own]
    return draw.sample(others, wanted)


def room_for_examples(query_max_len: int, own_tokens: int) -> int:
    """Tokens that the examples of a query may have.

    Released: query_max_len - 512, so that a limit of 512 leaves none at all. Here a limit below 2,048 reserves
    less for the query itself: its own tokens, at most 512, and at least a quarter of the limit; from 2,048 on it
    is the released number.
    """
    return query_max_len - min(RESERVED, max(query_max_len // 4, own_tokens))


def cut(tokenizer: Any, texts: Sequence[str], max_tokens: int) -> list[str]:
    """The texts as far as their first `max_tokens` tokens go; cut between characters.

    (The released code decodes the ids, which can leave half a character.)
    """
    if not texts:
        return []
    encoded = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return [
        text if len(offsets) <= max_tokens else text[: offsets[max_tokens][0]]
        for text, offsets in zip(texts, encoded["offset_mapping"])
    ]


def count_tokens(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    """How many tokens each text has, without BOS and EOS."""
    if not texts:
        return []
    ids = tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    return [len(one) for one in ids]


def example_texts(tokenizer: Any, queries: Sequence[str], answers: Sequence[str], options: ExampleOptions) -> list[str]:
    """Each row of a batch as an example, the blank line behind it included.

    Args:
        tokenizer: a fast one.
        queries: with their instruction, as they stand before an answer.
        answers: the positive, or what a clustering row has as its category.
        options: the limits.
    """
    short_queries = cut(tokenizer, queries, options.example_query_max_len)
    short_answers = cut(tokenizer, answers, options.example_passage_max_len)
    return [q + options.answer + a + SEPARATOR for q, a in zip(short_queries, short_answers)]


def prefixes(
    tokenizer: Any,
    rows: Sequence[Row],
    queries: Sequence[str],
    answers: Sequence[str],
    draws: Sequence[random.Random],
    options: ExampleOptions,
) -> list[str]:
    """What stands before each query of a batch: examples from its other rows, "" for none.

    An example that no longer fits ends the row's list, as released. The draw of a row depends on `draws` alone,
    and not on how many processes prepare batches.

    Args:
        tokenizer: a fast one.
        rows: of one data set.
        queries: theirs, with their instruction, nothing behind them.
        answers: what an example has as its response.
        draws: a random generator per row.
        options: limits and numbers.
    """
    kind = rows[0]["type"]
    if options.most == 0 or (not options.retrieval and not kind.startswith("symmetric")):
        return [""] * len(rows)
    texts = example_texts(tokenizer, queries, answers, options)
    lengths = count_tokens(tokenizer, texts)
    own = count_tokens(tokenizer, [query + options.answer for query in queries])
    found = []
    for i, draw in enumerate(draws):
        room, prefix = room_for_examples(options.query_max_len, own[i] + 2), ""
        for j in draw_others(draw, len(rows), i, options.most):
            # An example begins with a token of its own, so lengths add up (a blank at a seam may make it one less).
            room -= lengths[j]
            if room < 0:
                break
            prefix += texts[j]
        found.append(prefix)
    return found
