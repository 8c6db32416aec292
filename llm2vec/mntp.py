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

import contextlib
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, TrainingArguments

from common.attention import get_attention
from common.batching import pad, plan
from common.embedder import SPLIT_TOKENS, Embedder
from common.encoder import Encoder
from common.errors import InputError
from common.lm_head import LMHead, load_lm_head
from common.reading import read_json
from common.training import EmbeddingTrainer, fit
from llm2vec.corpus import Texts
from llm2vec.masking import IGNORED, Masking, mask_token
from llm2vec.mntp_recipe import MntpConfig
from llm2vec.packing import BlockCollator, Blocks, line_by_line, pack, tokenize_texts

# Padded tokens that are worth a pass of their own.
WORTH_TOKENS = {"cpu": 128, "cuda": 2048}


def scored(states: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The states (N, D) that predict, and what they should predict (N,): h[i - 1] for each label i >= 1.

    A label in column 0 has no state before it and is never scored.

    Args:
        states: (B, T, D).
        labels: (B, T), -100 where nothing is to be predicted.
    """
    targets = labels[:, 1:]
    chosen = targets != IGNORED
    return states[:, :-1][chosen], targets[chosen]


def groups_of_rows(labels: Tensor, lengths: Sequence[int]) -> list[list[int]]:
    """Which rows of a batch go through the trunk together: of like length, those without a label not at all."""
    rows = (labels[:, 1:] != IGNORED).any(dim=1).nonzero().flatten().tolist()
    rows = rows or [0]  # every process must reach its parameters
    kind = labels.device.type
    most, worth = SPLIT_TOKENS.get(kind, SPLIT_TOKENS["cuda"]), WORTH_TOKENS.get(kind, WORTH_TOKENS["cuda"])
    return [[rows[i] for i in group] for group in plan([lengths[i] for i in rows], most, worth=worth)]


class MntpModel(Embedder):
    """A trunk with its head: the loss of masked tokens, in place of an embedder's vectors.

    Logits are computed at the scored positions alone.

    Args:
        embedder: whose trunk is trained.
        head: from states to logits; stays as it is.
        new_id: an id beyond the vocabulary that stands for a mask token of its own, or None. Its embedding is
            the mean of all, which is what transformers gives a token that is added; it is not trained.
    """

    accepts_loss_kwargs = True  # the trainer then counts the labels of all batches of a step

    def __init__(self, embedder: Embedder, head: LMHead, new_id: int | None = None) -> None:
        super().__init__(embedder.trunk, embedder.pooling, embedder.compat)
        self.head = head
        self.new_id = new_id
        self.new_embedding: Tensor
        if new_id is not None:
            table = self._table().weight.detach()
            self.register_buffer("new_embedding", table.float().mean(0).to(table), persistent=False)

    def forward(  # type: ignore[override]
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, lengths: list[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Over the scored labels: the sum of the cross entropies, their number, and how many are predicted right.

        Rows (B, T) are padded on the right and hold `lengths` tokens; those of like length go through the trunk
        together, in one graph, and those without a label not at all.
        """
        parts = []
        for group in groups_of_rows(labels, lengths):
            width = max(lengths[i] for i in group)
            parts.append(self._scores(input_ids[group, :width], attention_mask[group, :width], labels[group, :width]))
        loss, count, right = zip(*parts)
        return torch.stack(loss).sum(), torch.stack(count).sum(), torch.stack(right).sum()

    def _scores(self, ids: Tensor, mask: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # Without padding the mask says nothing. (Looking costs a synchronisation on an accelerator.)
        padded = mask.device.type != "cpu" or bool((mask == 0).any())
        output = self.trunk(**self._input(ids), attention_mask=mask if padded else None)
        states, targets = scored(output.last_hidden_state, labels)
        logits = self.head(states, self.trunk)
        loss = nn.functional.cross_entropy(logits, targets, reduction="sum")
        right = (logits.argmax(dim=-1) == targets).sum()
        return loss, torch.tensor(targets.numel(), device=ids.device), right

    def _input(self, ids: Tensor) -> dict[str, Tensor]:
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


class MntpTrainer(EmbeddingTrainer):
    """The shared trainer with MNTP's loss: a mean over the labels of a whole step, of all processes.

    Masks depend on seed and step alone, so a resumed training goes on as if nothing had been.
    """

    loss_is_scaled_for_ga = True
    config: MntpConfig
    data_collator: MaskingCollator

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
        arguments.eval_on_start = valid is not None and config.eval_strategy != "no"
        super().__init__(encoder, objective, config, collator, arguments, rows, valid, *others)  # type: ignore[arg-type]
        self.validation = None if valid is None else Validation(valid, collator, config.seed)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        """The batches of one step, masked, and the number of their labels in all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        draw = random.Random(f"{self.config.seed}-{self.state.global_step}-{self.args.process_index}")
        generator = torch.Generator().manual_seed(draw.getrandbits(63))
        for batch in batches:
            self.data_collator.mask(batch, generator)
        return batches, self._get_num_items_in_batch(batches, device)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """This batch's part of the mean over the labels of a step."""
        loss, count, right = model(inputs["input_ids"], inputs["attention_mask"], inputs["labels"], inputs["lengths"])
        if num_items_in_batch is None:
            loss = loss / count.clamp(min=1)
        else:
            # DDP averages the gradients of the processes; the mean over all their labels is a sum of them.
            loss = loss * self.accelerator.num_processes / torch.as_tensor(num_items_in_batch).clamp(min=1)
        return (loss, {"count": count, "right": right}) if return_outputs else loss

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """One forward and backward pass; on a CPU one for each group of rows.

        The loss is a sum over labels, divided by a number that is known before, so this is the same gradient with
        the memory of one group; a graph takes about 2 GB per 1,000 tokens of SmolLM2-135M.
        """
        groups = groups_of_rows(inputs["labels"], inputs["lengths"])
        if self.args.device.type != "cpu" or len(groups) == 1:
            return super().training_step(model, inputs, num_items_in_batch)
        model.train()
        inputs = self._prepare_inputs(inputs)
        total = torch.zeros((), device=self.args.device)
        for i, rows in enumerate(groups):
            last = i == len(groups) - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
                part = {name: inputs[name][rows] for name in ("input_ids", "attention_mask", "labels")}
                part["lengths"] = [inputs["lengths"][row] for row in rows]
                with self.compute_loss_context_manager():
                    loss = self.compute_loss(model, part, num_items_in_batch=num_items_in_batch)
                self.accelerator.backward(loss)
            total += loss.detach()
        return total

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Loss and accuracy of the masked validation tokens; every process measures all of them."""
        done = self._measured()
        if self.validation is None or (done and done[-1]["step"] == self.state.global_step):
            return {}
        model = self.model_wrapped
        model.eval()
        totals = torch.zeros(3, dtype=torch.float64)
        for batch in self.validation.batches(self.config.eval_batch_size or self.config.batch_size):
            inputs = self._prepare_inputs(batch)
            with torch.no_grad(), self.compute_loss_context_manager():
                parts = model(inputs["input_ids"], inputs["attention_mask"], inputs["labels"], inputs["lengths"])
            totals += torch.stack([part.cpu().double() for part in parts])
        loss, count, right = totals.tolist()
        if not count:
            raise InputError(f"{self.validation.ids.source}: no token was masked; give more validation text")
        metrics = {"eval_loss": loss / count, "eval_accuracy": right / count, "eval_tokens": int(count)}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train, and measure at the end, wherever that is."""
        output = super().train(*args, **kwargs)
        if self.args.eval_strategy != "no":
            self.evaluate()
        return output

    def _measured(self) -> list[dict[str, Any]]:
        """Step, loss, accuracy and number of tokens of each measurement so far."""
        names = ("loss", "accuracy", "tokens")
        history = [entry for entry in self.state.log_history if "eval_loss" in entry]
        return [{"step": entry["step"], **{name: entry[f"eval_{name}"] for name in names}} for entry in history]

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if self.validation is not None:
            self.summary["validation"] = {"data": self.validation.ids.source, "masked": self._measured()}
        super()._save(output_dir, state_dict)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.args.eval_on_start = False


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
            _of_the_model_itself,
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


def _of_the_model_itself(columns: Any, labels: Any, *, text_ids: Any = None) -> Tensor:
    raise NotImplementedError("MNTP has no loss of embeddings; see MntpModel")


def measured(folder: Path) -> list[dict[str, Any]]:
    """Step, loss, accuracy and number of masked validation tokens, as a training wrote them into `folder`."""
    return read_json(folder / "training.json").get("validation", {}).get("masked", [])
