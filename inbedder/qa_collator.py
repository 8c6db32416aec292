"""Question-answer rows -> token ids and labels: the prompt exactly as the encoder reads it, then the answer."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from common.batching import pad
from common.encoder import Encoder
from common.errors import InputError
from common.prompts import Rendered, Template
from common.token_objective import IGNORED
from common.tokenization import tokenize
from inbedder.prompts import ALPACA, NO_INPUT, PATTERN, template_of
from inbedder.qa_data import ANSWER, QUESTION, TEXT

ALPACA_ORDER = "inbedder:alpaca-order"
# An answer takes at most this share of `max_length`.
MOST_ANSWER = 0.5


class AnswerCollator:
    """Rows {instruction, input, output} -> one batch, padded on the right.

    Causal: prompt, answer, end token; answer and end token are labels, so that the last prompt token, whose state is
    the embedding, predicts the first token of the answer. Masked: the prompt, a mask for each token of the answer
    (where the encoder puts `mask_length` of them), the closing tokens; the answer is the label of the masks.

    The ids up to the answer are those that the encoder gives the prompt alone. Those of the answer are what the
    tokenizer makes of it right behind the prompt, as in the released code, unless it would join the prompt's end and
    the answer's start: then those of the answer by itself.

    What is longer than `max_length` loses the end of its text; a question that does not fit either loses its text
    and its own end. (The released code cuts the longest of text, question and answer.)

    Args:
        encoder: whose template, tokenizer and max_length count.
        seed: decides which answer is drawn where a row has several.
    """

    def __init__(self, encoder: Encoder, seed: int = 0) -> None:
        self.encoder = encoder
        self.seed = seed
        self.masked = encoder.pooled == "mask"
        template = encoder.templates["text"]
        if not template.takes_instruction:
            raise InputError(
                f"template {template.pattern!r}: needs a place for the {{instruction}} to train on questions"
            )
        tokenizer = encoder.backbone.tokenizer
        masks = _trailing(template.pattern, str(tokenizer.mask_token)) if self.masked else ""
        if ALPACA_ORDER in encoder.compat:
            template = template_of(ALPACA, masks)
        self.template = template
        known = template.pattern.removesuffix(masks) in {p.replace("{input}", "{text}") for p in (PATTERN, ALPACA)}
        pattern = NO_INPUT if known else template.pattern.replace("{text}", "")
        # Without a text the question is what may be cut.
        self.without_text = Template(pattern.replace("{instruction}", "{text}") + (masks if known else ""))
        self.shortened = 0

    def __call__(self, items: Sequence[tuple[int, dict[str, Any]]]) -> dict[str, Any]:
        """A batch: input_ids, attention_mask, labels (-100 where nothing is predicted) (B, T); lengths."""
        rows = [self.ids(number, row) for number, row in items]
        input_ids, attention_mask = pad([ids for ids, _ in rows], self.encoder.backbone.tokenizer.pad_token_id or 0)
        labels, _ = pad([labels for _, labels in rows], IGNORED)
        return {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "labels": labels,
            "lengths": [len(ids) for ids, _ in rows],
        }

    def ids(self, number: int, row: dict[str, Any]) -> tuple[list[int], list[int]]:
        """Token ids and labels of one row, equally many."""
        answers = row[ANSWER]
        if isinstance(answers, list):
            # Depends on seed and row only, so that a resumed run draws as the uninterrupted one did.
            answers = random.Random(f"{self.seed}-{number}").choice(answers)
        text, question = row.get(TEXT, ""), row[QUESTION]
        template = self.template if text else self.without_text
        rendered = template.render(text, instruction=question) if text else template.render(question)
        answer = self.answer_ids(rendered, answers)[: max(1, int(self.encoder.max_length * MOST_ANSWER))]
        if self.masked:
            return self._masked(rendered, question, answer)
        answer = answer + self._end()
        prompt, _ = self._prompt(rendered, question, self.encoder.max_length - len(answer))
        return prompt + answer, [IGNORED] * len(prompt) + answer

    def _masked(self, rendered: Rendered, question: str, answer: list[int]) -> tuple[list[int], list[int]]:
        """As `ids`: the encoder's own masks give way to as many as the answer has tokens."""
        tokenizer: Any = self.encoder.backbone.tokenizer
        own = len(_trailing(rendered.full, tokenizer.mask_token)) // len(tokenizer.mask_token)
        limit = self.encoder.max_length - max(0, len(answer) - own)
        ids, (start, end) = self._prompt(rendered, question, limit)
        before, behind = ids[:start], ids[end:]
        labels = [IGNORED] * len(before) + answer + [IGNORED] * len(behind)
        return before + [tokenizer.mask_token_id] * len(answer) + behind, labels

    def _prompt(self, rendered: Rendered, question: str, limit: int) -> tuple[list[int], tuple[int, int]]:
        """Ids of a prompt of at most `limit` tokens, and where its masks are."""
        tokenizer, pooled = self.encoder.backbone.tokenizer, self.encoder.pooled
        try:
            found = tokenize(tokenizer, [rendered], limit, pooled=pooled)
        except InputError:
            # The question alone is too long: it goes without the text, as far as it fits.
            found = tokenize(tokenizer, [self.without_text.render(question)], limit, pooled=pooled)
            self.shortened += 1
        self.shortened += found.truncated
        return found.ids[0], found.pooled[0] if found.pooled else (0, 0)

    def answer_ids(self, rendered: Rendered, answer: str) -> list[int]:
        """The ids of an answer behind a prompt, without end token."""
        tokenizer: Any = self.encoder.backbone.tokenizer
        masks = _trailing(rendered.full, str(tokenizer.mask_token)) if self.masked else ""
        # What stands before the last line can't change how the answer is cut into tokens.
        context = rendered.suffix.removesuffix(masks).rpartition("\n")[2]

        def ids(string: str) -> list[int]:
            return list(tokenizer(string, add_special_tokens=False, verbose=False)["input_ids"])

        before, together = ids(context), ids(context + answer)
        if together[: len(before)] == before and len(together) > len(before):
            return together[len(before) :]
        return ids(answer)

    def _end(self) -> list[int]:
        token: Any = self.encoder.backbone.tokenizer.eos_token_id
        if token is None:
            raise InputError(f"{self.encoder.backbone.source.name}: its tokenizer has no end token; answers need one")
        return [int(token)]


def _trailing(pattern: str, token: str) -> str:
    """The run of `token` that a pattern ends with."""
    count = 0
    while pattern.endswith(token * (count + 1)):
        count += 1
    return token * count
