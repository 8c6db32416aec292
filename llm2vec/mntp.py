"""Masked next-token prediction (MNTP): what makes a language model use bidirectional attention.

A masked token i is predicted from the state at i - 1, as in the model's causal pretraining (LLM2Vec,
arXiv 2404.05961, section 2.2):

    L = mean over {i >= 1 : token i is selected} of CE(head(h[i - 1]), token i)

The trunk learns through LoRA, the head stays as it is. Each document of a packed block goes through the trunk
as a row of its own, beside rows of like length. So no token sees another document, in every family and every
attention implementation, without a mask and with little work on padding. (transformers keeps packed documents
apart in causal masks only; `create_bidirectional_mask` does not look at `position_ids`.)
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, TrainingArguments

from common.attention import get_attention
from common.batching import pad
from common.embedder import Embedder
from common.encoder import Encoder
from common.errors import InputError
from common.lm_head import LMHead, load_lm_head
from common.reading import read_json
from common.token_objective import TokenModel, TokenTrainer, no_objective
from common.training import fit
from llm2vec.corpus import Texts
from llm2vec.masking import IGNORED, Masking, mask_token
from llm2vec.mntp_recipe import MntpConfig
from llm2vec.packing import BlockCollator, Blocks, line_by_line, pack, tokenize_texts


class MntpModel(TokenModel):
    """A trunk with its head: the loss of masked tokens, in place of an embedder's vectors.

    Args:
        embedder: whose trunk is trained.
        head: from states to logits; stays as it is.
        new_id: an id beyond the vocabulary that stands for a mask token of its own, or None. Its embedding is
            the mean of all, which is what transformers gives a token that is added; it is not trained.
    """

    def __init__(self, embedder: Embedder, head: LMHead, new_id: int | None = None) -> None:
        super().__init__(embedder, head)
        self.new_id = new_id
        self.new_embedding: Tensor
        if new_id is not None:
            table = self._table().weight.detach()
            self.register_buffer("new_embedding", table.float().mean(0).to(table), persistent=False)

    def inputs(self, ids: Tensor) -> dict[str, Tensor]:
        """Token ids (B, T), or their embeddings where one is beyond the table."""
        if self.new_id is None:
            return {"input_ids": ids}
        new = ids == self.new_id
        return {
            "inputs_embeds": torch.where(new[..., None], self.new_embedding, self._table()(ids.masked_fill(new, 0)))
        }

    def _table(self) -> nn.Embedding:
        return self.trunk.get_input_embeddings()  # type: ignore[operator]


class MaskingCollator(BlockCollator):
    """Collates blocks, and masks batches: never special tokens, nor padding.

    Args:
        tokenizer: whose special tokens are left alone.
        masking: how the others are masked.
        shuffle_labels: control: the targets of a batch change places.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, masking: Masking, *, shuffle_labels: bool = False) -> None:
        super().__init__(tokenizer.pad_token_id or 0)
        self.masking = masking
        self.special = torch.tensor(sorted(set(tokenizer.all_special_ids)), dtype=torch.long)
        self.shuffle_labels = shuffle_labels

    def maskable(self, ids: Tensor) -> Tensor:
        """Where a token is not special."""
        return ~torch.isin(ids, self.special.to(ids.device))

    def mask(self, batch: dict[str, Any], generator: torch.Generator) -> None:
        """Mask the rows of a batch in place; `labels` (R, T) are added."""
        maskable = self.maskable(batch["input_ids"]) & batch["attention_mask"].bool()
        ids, labels = self.masking(batch["input_ids"], maskable, generator)
        labels[:, 0] = IGNORED  # nothing stands before it
        if self.shuffle_labels:
            chosen = labels != IGNORED
            order = torch.randperm(int(chosen.sum()), generator=generator).to(labels.device)
            labels[chosen] = labels[chosen][order]
        batch["input_ids"], batch["labels"] = ids, labels


class Validation:
    """Blocks that are masked once, so that all measurements are of the same tokens."""

    def __init__(self, blocks: Blocks, collator: MaskingCollator, seed: int) -> None:
        self.collator = collator
        ids = torch.from_numpy(blocks.ids).long()[None]
        generator = torch.Generator().manual_seed(seed)
        masked, labels = collator.masking(ids, collator.maskable(ids), generator)
        self.ids, self.labels = (
            Blocks(flat[0].numpy(), blocks.spans, blocks.first, blocks.source) for flat in (masked, labels)
        )

    def batches(self, size: int) -> Iterator[dict[str, Any]]:
        """All blocks, `size` at a time, with their labels."""
        for start in range(0, len(self.ids), size):
            numbers = range(start, min(start + size, len(self.ids)))
            batch = self.collator([self.ids[i] for i in numbers])
            labels, _ = pad([row for i in numbers for row in self.labels[i][1]["rows"]], IGNORED)
            labels[:, 0] = IGNORED
            yield {**batch, "labels": labels}


class MntpTrainer(TokenTrainer):
    """The shared trainer of tokens, with masks that depend on seed and step alone.

    So a resumed training goes on as if nothing had been.
    """

    config: MntpConfig
    data_collator: MaskingCollator
    measurements = "masked"

    def __init__(
        self,
        encoder: Encoder,
        objective: Any,
        config: MntpConfig,
        collator: MaskingCollator,
        arguments: TrainingArguments,
        rows: Blocks,
        valid: Blocks | None,
        *others: Any,
    ) -> None:
        super().__init__(encoder, objective, config, collator, arguments, rows, valid, *others)
        self.validation = None if valid is None else Validation(valid, collator, config.seed)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        """The batches of one step, masked, and the number of their labels in all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        draw = random.Random(f"{self.config.seed}-{self.state.global_step}-{self.args.process_index}")
        generator = torch.Generator().manual_seed(draw.getrandbits(63))
        for batch in batches:
            self.data_collator.mask(batch, generator)
        return batches, self._get_num_items_in_batch(batches, device)

    def eval_batches(self) -> Iterator[dict[str, Any]]:
        """The validation blocks, with the masks that they always have."""
        assert self.validation is not None
        return self.validation.batches(self.config.eval_batch_size or self.config.batch_size)


def blocks_of(texts: Texts, encoder: Encoder, config: MntpConfig, limit: int | None = None) -> Blocks:
    """Texts as the blocks that a recipe asks for, at most `limit`."""
    longest = getattr(encoder.backbone.config, "max_position_embeddings", None) or config.max_length
    length = min(config.max_length, longest)
    tokenizer = encoder.backbone.tokenizer
    documents = tokenize_texts(tokenizer, texts.texts, length if config.line_by_line else None)
    if config.line_by_line:
        return line_by_line(documents, texts.source).head(limit)
    return pack(documents, length, texts.source, cross_document=config.cross_document_attention).head(limit)


def fit_mntp(encoder: Encoder, blocks: Blocks, config: MntpConfig, *, valid: Blocks | None = None) -> Encoder:
    """Train a bidirectional encoder's trunk by MNTP, in place; the adapter ends up in `config.output_dir`.

    Resuming, checkpoints by time, the token budget and several processes are those of `common.training.fit`.
    `training.json` there says, besides the training loss, what loss and accuracy the masked tokens of `valid`
    had before, every `eval_steps`, and after.

    Raises:
        InputError: an encoder that is not bidirectional, or one without a language-model head.
    """
    if get_attention(encoder.backbone.model) != "bidirectional":
        raise InputError("MNTP trains a bidirectional model; this one is not (attention='bidirectional')")
    head = load_lm_head(encoder.backbone)
    tokenizer = encoder.backbone.tokenizer
    rows = encoder.backbone.model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
    mask_id = mask_token(tokenizer, config.mask_token_type, rows)
    masking = Masking(mask_id, min(len(tokenizer), rows), config.mlm_probability, config.data_collator_type)
    collator = MaskingCollator(tokenizer, masking, shuffle_labels=config.shuffle_labels)
    embedder = encoder.embedder
    encoder.embedder = MntpModel(embedder, head, mask_id if mask_id >= rows else None)
    try:
        fit(
            encoder,
            blocks,
            no_objective,
            config,
            valid=valid,
            collator=collator,  # type: ignore[arg-type]
            stop_after_steps=config.stop_after_n_steps,
            trainer_class=MntpTrainer,
        )
    finally:
        embedder.trunk = encoder.backbone.model
        encoder.embedder = embedder
    embedder.eval()
    return encoder


def measured(folder: Path) -> list[dict[str, Any]]:
    """Step, loss, accuracy and number of masked validation tokens, as a training wrote them into `folder`."""
    return read_json(folder / "training.json").get("validation", {}).get("masked", [])
