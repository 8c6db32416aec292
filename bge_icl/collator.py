"""Rows of one data set -> a batch: queries with drawn examples, and a group of passages for each."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from bge_icl.batch_examples import ExampleOptions, prefixes
from bge_icl.train_data import BOTH_SIDES, DataSet
from common.batching import pad
from common.data import Collator, Row, stable_hash
from common.encoder import Encoder
from common.errors import InputError
from common.tokenization import tokenize


class IclCollator(Collator):
    """Rows -> one padded batch of all their texts.

    The texts go through the model together (C*B, T): queries, positives, then first negatives, second
    negatives, ... each in row order. Which positive, which negatives and which examples a row gets depends on the
    seed and on the rows of the batch alone, so neither on workers nor on what came before a resumption.

    Args:
        encoder: whose template and tokenizer are used.
        sets: data set -> what its batches look like.
        options: of the examples.
        passage_max_len: tokens of a passage.
        seed: of all draws.
    """

    def __init__(
        self,
        encoder: Encoder,
        sets: Mapping[str, DataSet],
        options: ExampleOptions,
        passage_max_len: int = 512,
        seed: int = 0,
    ) -> None:
        super().__init__(encoder, seed=seed)
        self.sets = dict(sets)
        most = getattr(encoder.backbone.config, "max_position_embeddings", None) or options.query_max_len
        self.options = dataclasses.replace(options, query_max_len=min(options.query_max_len, most))
        self.passage_max_len = min(passage_max_len, most)

    def __call__(self, items: Sequence[tuple[int, Row]]) -> dict[str, Any]:
        """A batch.

        Returns:
            input_ids, attention_mask: (C*B, T), padded on the right; text_ids: (C*B,) int64, equal for equal
            texts; columns: query, positive, negative_1, ...; lengths: tokens per text; in_batch: whether other
            rows' passages are negatives; labels: (B, G), the teacher's scores, where the rows have them. Rows of
            several data sets are no batch; of these only the attention_mask of all their tokens, to be counted
            (`common.training.steps_for_budget`).
        """
        rows = [row for _, row in items]
        if len({row["dataset"] for row in rows}) > 1:
            return {"attention_mask": self._mask_of_all(items)}
        this = self.sets[rows[0]["dataset"]]
        batch = hashlib.blake2b(",".join(str(number) for number, _ in items).encode(), digest_size=8).hexdigest()
        draws = [random.Random(f"{self.seed}-{number}-{batch}") for number, _ in items]
        group = this.group
        drawn = [_group(row, group, draw) for row, draw in zip(rows, draws)]
        passages = [[text for text, _ in texts] for texts in drawn]
        queries = [row["query"] for row in rows]
        ids = self._query_ids(rows, queries, [texts[0] for texts in passages], draws)
        for g in range(group):
            ids += self._passage_ids(rows, [texts[g] for texts in passages])
        tokenizer = self.encoder.backbone.tokenizer
        input_ids, attention_mask = pad(ids, tokenizer.pad_token_id or 0)
        texts = queries + [group_of[g] for g in range(group) for group_of in passages]
        found: dict[str, Any] = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "text_ids": torch.tensor([stable_hash(text) for text in texts], dtype=torch.int64),
            "columns": ["query", "positive", *(f"negative_{g}" for g in range(1, group))],
            "lengths": [len(one) for one in ids],
            "in_batch": this.in_batch,
        }
        if all("scores" in row for row in rows):
            found["labels"] = torch.tensor([[score for _, score in texts] for texts in drawn], dtype=torch.float32)
        return found

    def _mask_of_all(self, items: Sequence[tuple[int, Row]]) -> torch.Tensor:
        of_set: dict[str, list[tuple[int, Row]]] = {}
        for number, row in items:
            of_set.setdefault(row["dataset"], []).append((number, row))
        # A few rows at a time, for the sake of memory.
        some = [rows[i : i + 64] for rows in of_set.values() for i in range(0, len(rows), 64)]
        return torch.ones(sum(sum(self(rows)["lengths"]) for rows in some), dtype=torch.int64)

    def _query_ids(
        self, rows: Sequence[Row], queries: Sequence[str], positives: Sequence[str], draws: Sequence[random.Random]
    ) -> list[list[int]]:
        template = self.encoder.template_for("query")
        bare = [template.render(q, instruction=row["instruction"]) for q, row in zip(queries, rows)]
        instructed = [one.prefix + one.text for one in bare]
        answers = [
            row["category"] if row["type"] == "symmetric_clustering" else text for row, text in zip(rows, positives)
        ]
        before = prefixes(self.encoder.backbone.tokenizer, rows, instructed, answers, draws, self.options)
        rendered = [
            template.render(q, instruction=row["instruction"], examples=examples)
            for q, row, examples in zip(queries, rows, before)
        ]
        return self._tokens(rendered, self.options.query_max_len, "query_max_len")

    def _passage_ids(self, rows: Sequence[Row], texts: Sequence[str]) -> list[list[int]]:
        template = self.encoder.template_for("document")
        rendered = [
            template.render(text, instruction=row["instruction"] if row["type"] in BOTH_SIDES else None)
            for text, row in zip(texts, rows)
        ]
        return self._tokens(rendered, self.passage_max_len, "passage_max_len")

    def _tokens(self, rendered: Any, limit: int, flag: str) -> list[list[int]]:
        try:
            return tokenize(self.encoder.backbone.tokenizer, rendered, limit).ids
        except InputError as error:
            raise InputError(str(error).replace("max_length", flag)) from error


def _group(row: Row, size: int, draw: random.Random) -> list[tuple[str, float]]:
    """One positive of the row and size - 1 of its negatives, with the teacher's scores (0 where there are none).

    Too few negatives are repeated before the draw, as released.
    """
    positive, negative = row["positive"], row["negative"]
    scores = row.get("scores") or [0.0] * (len(positive) + len(negative))
    first = draw.randrange(len(positive))
    places = list(range(len(negative)))
    if negative and len(negative) < size - 1:
        places *= -(-(size - 1) // len(negative))
    picked = draw.sample(places, size - 1)
    return [(positive[first], scores[first]), *((negative[i], scores[len(positive) + i]) for i in picked)]
